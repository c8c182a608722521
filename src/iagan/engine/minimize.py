"""The one loop that every method runs: Adam or L-BFGS over a batch of independent problems.

A problem is one image, or one start of it. On a CPU a batch has a few problems, or one; on a GPU,
where every call costs, it has many, their weights stacked. Problem i goes the way that it would go
alone.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from iagan.engine.adam import Adam
from iagan.engine.lbfgs import Lbfgs
from iagan.operators.linalg import per_image
from iagan.types import Image, PerImage

Leaves: TypeAlias = Mapping[str, Tensor]
"""Variables by name, `(batch, ...)`; of any shape where the batch is a single problem."""

Objective: TypeAlias = Callable[[Leaves, int, Tensor], tuple[PerImage, Image]]
"""`(leaves, step, problems) → (values, images)`: of the problems at these indices, which are as
many as the leaves have rows. Each value depends on its own row alone."""

OnStep: TypeAlias = Callable[[int, "Best"], bool]
"""Called after every evaluation with the step and the best so far; returns whether to stop here."""

CHECK_EVERY = 10
"""Steps between two checks of which problems are finished; on a GPU each check waits for it."""


@dc.dataclass(frozen=True)
class MinimizeOptions:
    """How `minimize` proceeds and when it ends.

    **Arguments:**
    - `steps`: iterations at most.
    - `rates`: Adam's learning rate of every variable; None: L-BFGS, which chooses its own steps.
    - `schedule`: step → factor on the rates.
    - `goal`: `(batch,)`; a problem ends at its first iterate whose objective is at most that.
    - `plateau`: a problem ends where `CHECK_EVERY` steps lowered its best objective by no more than
      this share.
    - `project`: changes the leaves in place after every step (projected gradient descent).
    """

    steps: int
    rates: Mapping[str, float] | None
    schedule: Callable[[int], float] | None = None
    goal: Tensor | None = None
    plateau: float = 0.0
    project: Callable[[Leaves], None] | None = None


@dc.dataclass(frozen=True)
class MinimizeResult:
    """The iterate of smallest objective of every problem, and how it was reached.

    **Arguments:**
    - `variables`, `image`, `objective`: at that iterate. If none was finite, the objective is inf,
      and the image need not be finite.
    - `trace`: `(batch, evaluations)`, the objective at the start and after every step; NaN and inf
      stay visible. A finished problem keeps its last value.
    - `steps`: how many steps the problem took.
    - `recoveries`: how many times its objective was not finite.
    """

    variables: dict[str, Tensor]
    image: Image
    objective: PerImage
    trace: Float[Tensor, "batch evaluations"]
    steps: Int[Tensor, " batch"]
    recoveries: Int[Tensor, " batch"]

    def pick(self, problems: Tensor) -> MinimizeResult:
        """Those of an index or mask."""
        return MinimizeResult(
            {name: value[problems] for name, value in self.variables.items()},
            self.image[problems],
            self.objective[problems],
            self.trace[problems],
            self.steps[problems],
            self.recoveries[problems],
        )


def minimize(
    objective: Objective,
    start: Leaves,
    options: MinimizeOptions,
    count: int,
    on_step: OnStep | None = None,
) -> MinimizeResult:
    """Adam or L-BFGS from `start`, whose tensors are the leaves and are moved in place.

    A problem whose objective turns NaN or infinite goes on from its best iterate at a tenth of its
    rate (L-BFGS: by a shorter step); the others do not notice.

    **Arguments:**
    - `objective`: evaluated at most `options.steps + 1` times.
    - `start`: its contents are overwritten.
    - `count`: how many problems there are.
    """
    leaves: Leaves = {name: leaf.requires_grad_() for name, leaf in start.items()}
    lbfgs = options.rates is None
    optimizer = Lbfgs(leaves) if lbfgs else Adam(leaves, options.rates or {}, options.schedule)
    best = Best(leaves, count, options)
    for step in range(options.steps + 1):
        last = step == options.steps
        for leaf in leaves.values():
            leaf.grad = None
        with torch.set_grad_enabled(not last):
            values, images = objective(leaves, step, best.problems)
        best.record(values.detach(), leaves, images.detach())
        if (on_step is not None and on_step(step, best)) or last:
            break
        values.sum().backward()
        optimizer.step(values.detach())
        check = step % CHECK_EVERY == CHECK_EVERY - 1
        if (check or values.device.type == "cpu") and bool(best.broken.any()):
            optimizer.recover(best.variables, best.broken)
        if options.project is not None:
            with torch.no_grad():
                options.project(leaves)
        if check:
            running = best.running()
            if not bool(running.any()):
                break
            if not bool(running.all()):
                best.retire(running)
                leaves = optimizer.select(running)
    return best.result()


class Best:
    """The best iterate so far of every problem that still runs, and what became of the others.

    - `problems`: indices of those that run; `variables`, `image`, `objective`: their best iterates.
    - `current`: `(running,)`, their last objective; `broken`: where it was not finite.
    """

    def __init__(self, leaves: Leaves, count: int, options: MinimizeOptions) -> None:
        first = next(iter(leaves.values()))
        device = first.device
        self.problems = torch.arange(count, device=device)
        self.variables = {name: leaf.detach().clone() for name, leaf in leaves.items()}
        self.image = torch.empty(0)
        self.objective = torch.full((count,), torch.inf, device=device, dtype=first.dtype)
        self.current = self.objective
        self.broken = torch.zeros_like(self.problems, dtype=torch.bool)
        self._goal = torch.full_like(self.objective, -torch.inf)
        if options.goal is not None:
            self._goal.copy_(options.goal)
        self._plateau = options.plateau
        self._at_last_check = self.objective
        self._trace: list[Tensor] = []
        self._steps = torch.full_like(self.problems, -1)
        self._recoveries = torch.zeros_like(self.problems)
        self._finished: list[tuple[Tensor, MinimizeResult]] = []

    @torch.no_grad()
    def record(self, values: PerImage, leaves: Leaves, images: Image) -> None:
        """Take note of an evaluation."""
        running = self.objective > self._goal
        improved = running & (values < self.objective)
        first = self.image.numel() == 0
        self.image = (
            images if first else torch.where(per_image(improved, images), images, self.image)
        )
        for name, kept in self.variables.items():
            torch.where(per_image(improved, kept), leaves[name], kept, out=kept)
        self._trace.append(torch.where(running, values, self.objective))
        self.objective = torch.where(improved, values, self.objective)
        self.current, self.broken = values, ~torch.isfinite(values)
        self._steps += running
        self._recoveries += self.broken

    def running(self) -> Tensor:
        """Which problems have neither reached their goal nor stopped gaining, `(running,)`."""
        if self._plateau:
            least = (1 - self._plateau) * self._at_last_check
            stalled = self._at_last_check.isfinite() & (self.objective >= least)
            self._goal = torch.where(stalled, torch.inf, self._goal)
            self._at_last_check = self.objective
        return self.objective > self._goal

    def retire(self, running: Tensor) -> None:
        """Set the results of the problems aside that are not in the mask `running`."""
        everything = self._result()
        self._finished.append((self.problems[~running], everything.pick(~running)))
        for name in ("problems", "image", "objective", "current", "broken", "_goal"):
            setattr(self, name, getattr(self, name)[running])
        self.variables = {name: value[running] for name, value in self.variables.items()}
        self._trace = [values[running] for values in self._trace]
        self._at_last_check = self._at_last_check[running]
        self._steps, self._recoveries = self._steps[running], self._recoveries[running]

    def result(self) -> MinimizeResult:
        """Of all problems, in their first order."""
        if not self._finished:
            return self._result()
        parts = [*self._finished, (self.problems, self._result())]
        order = torch.cat([problems for problems, _ in parts]).argsort()
        return join([part for _, part in parts]).pick(order)

    def _result(self) -> MinimizeResult:
        trace = torch.stack(self._trace, 1)
        return MinimizeResult(
            self.variables, self.image, self.objective, trace, self._steps, self._recoveries
        )


def join(parts: list[MinimizeResult]) -> MinimizeResult:
    """Results of several batches as one; a shorter trace is extended by its last value."""
    length = max(part.trace.shape[1] for part in parts)

    def cat(field: Callable[[MinimizeResult], Tensor]) -> Tensor:
        return torch.cat([field(part) for part in parts])

    return MinimizeResult(
        variables={name: cat(lambda part: part.variables[name]) for name in parts[0].variables},  # noqa: B023
        image=cat(lambda part: part.image),
        objective=cat(lambda part: part.objective),
        trace=cat(lambda part: extend(part.trace, length)),
        steps=cat(lambda part: part.steps),
        recoveries=cat(lambda part: part.recoveries),
    )


def extend(trace: Tensor, length: int) -> Tensor:
    """A trace `(batch, evaluations)` of that length, its last value repeated."""
    return torch.cat([trace, trace[:, -1:].expand(-1, length - trace.shape[1])], 1)
