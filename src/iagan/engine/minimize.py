"""The minimisation loop of all methods: Adam or L-BFGS over a batch of independent problems.

A problem is one image, or one start of it. On a CPU a batch has one or a few problems; on a GPU,
where every call has overhead, many, with stacked weights. The batch does not change the result of a
problem.
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
from iagan.errors import SettingError
from iagan.operators.linalg import per_image
from iagan.types import Image, PerImage

Leaves: TypeAlias = Mapping[str, Tensor]
"""Variables by name, `(batch, ...)`; of any shape for a single problem."""

Objective: TypeAlias = Callable[[Leaves, int, Tensor], tuple[PerImage, Image]]
"""`(leaves, step, problems) → (values, images)`, where `problems` are the indices of the problems
in the leaves' batch. Each value depends on its own problem's variables only."""

OnStep: TypeAlias = Callable[[int, "Best"], bool]
"""Called after every evaluation with the step and the best iterates; returns whether to stop."""

CHECK_EVERY = 10
"""Steps between checks for finished problems; each check synchronises a GPU."""


@dc.dataclass(frozen=True)
class MinimizeOptions:
    """Optimizer settings and stopping criteria of `minimize`.

    **Arguments:**
    - `steps`: maximum number of iterations.
    - `rates`: Adam's learning rate for each variable; None: L-BFGS, which has none.
    - `schedule`: maps a step to a factor on the rates.
    - `goal`: `(batch,)`; a problem stops at its first iterate with an objective of at most this.
    - `plateau`: a problem stops when `CHECK_EVERY` steps have reduced its best objective by no more
      than this fraction.
    - `project`: projects the leaves in place after every step (projected gradient descent).
    """

    steps: int
    rates: Mapping[str, float] | None
    schedule: Callable[[int], float] | None = None
    goal: Tensor | None = None
    plateau: float = 0.0
    project: Callable[[Leaves], None] | None = None


@dc.dataclass(frozen=True)
class MinimizeResult:
    """The iterate of smallest objective of every problem, and statistics of its minimisation.

    **Arguments:**
    - `variables`, `image`, `objective`: values at that iterate. If no objective was finite, it is
      inf, and the image may not be finite.
    - `trace`: `(batch, evaluations)`, the objective at the start and after every step, including
      NaN and inf; the last value of a finished problem is repeated.
    - `steps`: number of steps taken.
    - `recoveries`: number of evaluations whose objective was not finite.
    """

    variables: dict[str, Tensor]
    image: Image
    objective: PerImage
    trace: Float[Tensor, "batch evaluations"]
    steps: Int[Tensor, " batch"]
    recoveries: Int[Tensor, " batch"]

    def pick(self, problems: Tensor) -> MinimizeResult:
        """The problems of an index or mask."""
        return _field_by_field([self], lambda values: values[0][problems])


def minimize(
    objective: Objective,
    start: Leaves,
    options: MinimizeOptions,
    count: int,
    on_step: OnStep | None = None,
) -> MinimizeResult:
    """Minimise by Adam or L-BFGS from `start`, whose tensors become the leaves.

    A problem whose objective becomes NaN or infinite restarts from its best iterate at a tenth of
    its rate (L-BFGS: takes a shorter step), without effect on the others.

    **Arguments:**
    - `objective`: evaluated at most `options.steps + 1` times.
    - `start`: initial values, overwritten.
    - `count`: number of problems.
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
        if not values.requires_grad:
            raise SettingError(
                "minimize expects an objective that can be differentiated; it depends on none of "
                f"{', '.join(leaves)}. Look for detach(), no_grad() or numpy in the network."
            )
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
    """The best iterates of the running problems, and the results of the finished ones.

    - `problems`: indices of the running problems.
    - `variables`, `image`, `objective`: their best iterates.
    - `current`: `(running,)`, their latest objectives; `broken`: where those are not finite.
    """

    def __init__(self, leaves: Leaves, count: int, options: MinimizeOptions) -> None:
        first = next(iter(leaves.values()))
        device = first.device
        self.problems = torch.arange(count, device=device)
        self.variables = {name: leaf.detach().clone() for name, leaf in leaves.items()}
        self.image = first.new_empty(0)
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
        """Record an evaluation."""
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
        """Mask of the problems that have neither reached their goal nor a plateau, `(running,)`."""
        if self._plateau:
            least = (1 - self._plateau) * self._at_last_check
            stalled = self._at_last_check.isfinite() & (self.objective >= least)
            self._goal = torch.where(stalled, torch.inf, self._goal)
            self._at_last_check = self.objective
        return self.objective > self._goal

    def retire(self, running: Tensor) -> None:
        """Store the results of the problems outside the mask `running`, and drop these problems."""
        everything = self._result()
        self._finished.append((self.problems[~running], everything.pick(~running)))
        for name in ("problems", "image", "objective", "current", "broken", "_goal"):
            setattr(self, name, getattr(self, name)[running])
        self.variables = {name: value[running] for name, value in self.variables.items()}
        self._trace = [values[running] for values in self._trace]
        self._at_last_check = self._at_last_check[running]
        self._steps, self._recoveries = self._steps[running], self._recoveries[running]

    def result(self) -> MinimizeResult:
        """The results of all problems, in their original order."""
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
    """Concatenate results of several batches; shorter traces are padded with their last value."""
    length = max(part.trace.shape[1] for part in parts)

    def extended(trace: Tensor) -> Tensor:
        return torch.cat([trace, trace[:, -1:].expand(-1, length - trace.shape[1])], 1)

    parts = [dc.replace(part, trace=extended(part.trace)) for part in parts]
    return _field_by_field(parts, torch.cat)


def _field_by_field(
    parts: list[MinimizeResult], function: Callable[[list[Tensor]], Tensor]
) -> MinimizeResult:
    """`function` of the results' values of each field, and of each variable."""
    variables = {k: function([part.variables[k] for part in parts]) for k in parts[0].variables}
    names = ("image", "objective", "trace", "steps", "recoveries")
    return MinimizeResult(
        variables, *(function([getattr(part, name) for part in parts]) for name in names)
    )
