"""The one loop that runs every method: Adam or L-BFGS over a batch of independent problems.

Every variable has the batch as its first dimension, and so has what the optimizer knows. On a CPU
the objective gets the rows of each variable one by one, and Adam moves them one by one: no gradient
is gathered into a batch. On a GPU, where every call costs, it gets them together. Either way row i
of a batch goes the way that it would go alone. A row that has reached its goal leaves the batch.
Nothing else in the loop waits for the device.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from iagan.reconstruction.adam import BatchedAdam
from iagan.reconstruction.lbfgs import BatchedLbfgs
from iagan.reconstruction.rows import (
    Rows,
    Variables,
    by_rows,
    gradients_of,
    leaves_of,
    per_row,
)
from iagan.types import Image, PerImage

Objective: TypeAlias = Callable[[Rows, int, Tensor], tuple[Tensor, Tensor]]
"""`(variables, step, rows) → (objective, image)` of those rows; each depends on its row alone."""

StepCallback: TypeAlias = Callable[[int, Tensor], None]
"""Called after each evaluation with the step and the objective per row (on the device)."""

Projection: TypeAlias = Callable[[dict[str, Tensor]], None]
"""Puts variables, in place, back where they are allowed."""

LEAVE_EVERY = 10
"""Steps between two looks at which rows are done: each look waits for the device."""


@dc.dataclass(frozen=True)
class Minimum:
    """The iterate of smallest objective of every row, and how it was reached.

    **Arguments:**
    - `variables`, `image`, `objective`: at that iterate. The objective is inf (and the image may
      not be finite) if no iterate at all was finite.
    - `trace`: the objective at the start and after every step; NaN and Inf stay visible. A row that
      reached its goal keeps its last value.
    - `steps`: how many steps the row took.
    - `recoveries`: how many times the row had to go back to its best iterate.
    """

    variables: dict[str, Tensor]
    image: Image
    objective: PerImage
    trace: Float[Tensor, "batch evaluations"]
    steps: Int[Tensor, " batch"]
    recoveries: Int[Tensor, " batch"]


@dc.dataclass(frozen=True)
class Rules:
    """How `minimize` goes on and when it ends.

    - `steps`: at most so many.
    - `rates`: Adam's rate of every variable; None: L-BFGS, which chooses its own.
    - `schedule`: step → what the rates are multiplied by.
    - `goal`: an objective per row; the first iterate at or below it is the row's last.
    - `plateau`: a row ends where LEAVE_EVERY steps lowered its smallest objective by no more than
      this share.
    - `project`: changes the variables in place after every step: projected gradient descent.
    """

    steps: int
    rates: Mapping[str, float] | None
    schedule: Callable[[int], float] = lambda step: 1.0
    goal: Tensor | None = None
    plateau: float = 0.0
    project: Projection | None = None


def minimize(
    objective: Objective,
    start: Variables,
    rules: Rules,
    rows: Tensor | None = None,
    on_step: StepCallback | None = None,
) -> Minimum:
    """Adam or L-BFGS from `start`; keeps the iterate of smallest objective of every row.

    A row whose objective turns NaN or Inf goes on from its best iterate at a tenth of its rate, or
    L-BFGS with a shorter step; the other rows do not notice.

    **Arguments:**
    - `objective`: see `Objective`; evaluated at most `rules.steps + 1` times.
    - `start`: `(batch, ...)` for every variable; not changed.
    - `rows`: what `objective` knows the rows as; 0, 1, … if not given.
    """
    batch = _Batch(start, rules, rows)
    for step in range(rules.steps + 1):
        last = step == rules.steps
        leaves = batch.leaves()
        with torch.set_grad_enabled(not last):
            value_per_row, image = objective(leaves, step, batch.rows)
        found = value_per_row.detach()
        bad = batch.take(found, image.detach())
        if on_step is not None:
            on_step(step, found)
        if last:
            break
        batch.move(leaves, gradients_of(value_per_row, leaves), found, bad, step)
        if step % LEAVE_EVERY == LEAVE_EVERY - 1 and batch.let_go():
            break
    return batch.minimum()


class _Batch:
    """The rows still at work, and what became of the others."""

    def __init__(self, start: Variables, rules: Rules, rows: Tensor | None) -> None:
        first = next(iter(start.values()))
        self.rules = rules
        self.places = torch.arange(len(first), device=first.device)
        self.rows = self.places if rows is None else rows.to(first.device)
        self.current = {name: value.detach().clone() for name, value in start.items()}
        self.optimizer = (
            BatchedLbfgs(self.current)
            if rules.rates is None
            else BatchedAdam(self.current, rules.rates)
        )
        self.goal = torch.full((len(first),), -torch.inf, device=first.device, dtype=first.dtype)
        if rules.goal is not None:
            self.goal.copy_(rules.goal)
        self.best = _Best(self.current)
        self.last_look = torch.full_like(self.goal, torch.inf)
        self.trace: list[Tensor] = []
        self.gone: list[tuple[Tensor, Minimum]] = []

    def leaves(self) -> Rows:
        """`current`, or its rows, in its memory, as leaves of a graph."""
        return leaves_of(self.current, by_rows(self.places.device))

    @torch.no_grad()
    def take(self, found: Tensor, image: Image) -> Tensor:
        """Note an evaluation; a mask of the rows that are not finite."""
        working = self.best.value > self.goal
        self.trace.append(torch.where(working, found, self.best.value))
        return self.best.update(found, self.current, image, working)

    @torch.no_grad()
    def move(self, leaves: Rows, gradients: Rows, value: Tensor, bad: Tensor, step: int) -> None:
        """One step of the optimizer, which changes `current` through its rows."""
        self.optimizer.step(leaves, gradients, value, self.rules.schedule(step))
        if bad.device.type != "cpu" or bool(bad.any()):  # to look would wait for a GPU
            self.optimizer.recover(self.current, self.best.variables, bad)
        if self.rules.project is not None:
            self.rules.project(self.current)

    def let_go(self) -> bool:
        """Rows that reached their goal, or gain no more, leave; whether none is left."""
        if self.rules.goal is None and not self.rules.plateau:
            return False
        if self.rules.plateau:
            least = (1 - self.rules.plateau) * self.last_look
            stalled = self.last_look.isfinite() & (self.best.value >= least)
            self.goal = torch.where(stalled, torch.inf, self.goal)
            self.last_look = self.best.value.clone()
        working = self.best.value > self.goal
        if bool(working.all()):
            return False
        everything = self._minimum()
        self.gone.append((self.places[~working], _pick(everything, ~working)))
        self.rows, self.places = self.rows[working], self.places[working]
        self.current = {name: value[working] for name, value in self.current.items()}
        self.goal, self.last_look = self.goal[working], self.last_look[working]
        self.trace = [value[working] for value in self.trace]
        self.optimizer.select(working)
        self.best.select(working)
        return not bool(working.any())

    def minimum(self) -> Minimum:
        """Of all rows, in their first order."""
        parts = [*self.gone, (self.places, self._minimum())]
        order = torch.cat([places for places, _ in parts]).argsort()
        return _pick(join([part for _, part in parts]), order)

    def _minimum(self) -> Minimum:
        best, trace = self.best, torch.stack(self.trace, 1)
        return Minimum(best.variables, best.image, best.value, trace, best.steps, best.recoveries)


class _Best:
    """The best iterate of every row so far."""

    def __init__(self, variables: Variables) -> None:
        first = next(iter(variables.values()))
        self.variables = {name: value.detach().clone() for name, value in variables.items()}
        self.value = torch.full((len(first),), torch.inf, device=first.device, dtype=first.dtype)
        self.image = torch.empty(0)
        self.steps = torch.full((len(first),), -1, device=first.device, dtype=torch.int64)
        self.recoveries = torch.zeros_like(self.steps)

    def update(self, value: Tensor, variables: Variables, image: Tensor, working: Tensor) -> Tensor:
        """Keep the `working` rows that improved; return a mask of the rows that are not finite."""
        improved = working & (value < self.value)
        first = self.image.numel() == 0
        self.image = image if first else torch.where(per_row(improved, image), image, self.image)
        self.value = torch.where(improved, value, self.value)
        for name, kept in self.variables.items():
            torch.where(per_row(improved, kept), variables[name], kept, out=kept)
        bad = ~torch.isfinite(value)
        self.steps += working
        self.recoveries += bad
        return bad

    def select(self, rows: Tensor) -> None:
        """Keep `rows` (a mask) alone."""
        self.variables = {name: value[rows] for name, value in self.variables.items()}
        self.value, self.image = self.value[rows], self.image[rows]
        self.steps, self.recoveries = self.steps[rows], self.recoveries[rows]


def join(parts: list[Minimum]) -> Minimum:
    """Minima of several batches as one; a trace that ended earlier keeps its last value."""
    length = max(part.trace.shape[1] for part in parts)

    def cat(pick: Callable[[Minimum], Tensor]) -> Tensor:
        return torch.cat([pick(part) for part in parts])

    return Minimum(
        variables={name: cat(lambda part: part.variables[name]) for name in parts[0].variables},  # noqa: B023
        image=cat(lambda part: part.image),
        objective=cat(lambda part: part.objective),
        trace=cat(lambda part: _lengthened(part.trace, length)),
        steps=cat(lambda part: part.steps),
        recoveries=cat(lambda part: part.recoveries),
    )


def _pick(found: Minimum, rows: Tensor) -> Minimum:
    """The rows of an index or mask."""
    return Minimum(
        {name: value[rows] for name, value in found.variables.items()},
        found.image[rows],
        found.objective[rows],
        found.trace[rows],
        found.steps[rows],
        found.recoveries[rows],
    )


def _lengthened(trace: Tensor, length: int) -> Tensor:
    return torch.cat([trace, trace[:, -1:].expand(-1, length - trace.shape[1])], 1)
