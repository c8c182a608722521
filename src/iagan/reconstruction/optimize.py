"""The one loop that runs every method: Adam over a batch of independent problems.

Every variable has the batch as its first dimension, and so have Adam's moments, its step count and
its rate: row i of a batch goes exactly the way that it would go alone. Nothing in the loop waits
for the device.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from iagan.types import Image, PerImage

Variables: TypeAlias = Mapping[str, Tensor]
Objective: TypeAlias = Callable[[Variables, int], tuple[Tensor, Tensor]]
"""`(variables, step) → (objective per row, image per row)`; row i depends on row i alone."""

StepCallback: TypeAlias = Callable[[int, Tensor], None]
"""Called after each evaluation with the step and the objective per row (on the device)."""

Projection: TypeAlias = Callable[[dict[str, Tensor]], None]
"""Puts variables, in place, back where they are allowed."""

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
RECOVERY_FACTOR = 0.1
"""A row that turned NaN or Inf goes on from its best iterate at a rate smaller by this."""


@dc.dataclass(frozen=True)
class Minimum:
    """The iterate of smallest objective of every row, and how it was reached.

    **Arguments:**
    - `variables`, `image`, `objective`: at that iterate. The objective is inf (and the image may
      not be finite) if no iterate at all was finite.
    - `trace`: the objective at the start and after every step; NaN and Inf stay visible.
    - `recoveries`: how many times the row had to go back to its best iterate.
    """

    variables: dict[str, Tensor]
    image: Image
    objective: PerImage
    trace: Float[Tensor, "batch evaluations"]
    recoveries: Int[Tensor, " batch"]


class BatchedAdam:
    """Adam (Kingma and Ba, 2015) with a step count and a rate of its own for every row."""

    def __init__(self, variables: Variables, rates: Mapping[str, float]) -> None:
        first = next(iter(variables.values()))
        self.rates = dict(rates)
        self.mean = {name: torch.zeros_like(value) for name, value in variables.items()}
        self.square = {name: torch.zeros_like(value) for name, value in variables.items()}
        self.age = torch.zeros(len(first), device=first.device, dtype=first.dtype)
        self.scale = torch.ones_like(self.age)

    def step(self, variables: Variables, gradients: Variables) -> None:
        """Change `variables` in place."""
        self.age += 1
        correction1 = self.scale / (1 - BETA1**self.age)
        correction2 = 1 / (1 - BETA2**self.age)
        for name, value in variables.items():
            gradient, mean, square = gradients[name], self.mean[name], self.square[name]
            mean.lerp_(gradient, 1 - BETA1)
            square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            denominator = (square * per_row(correction2, square)).sqrt_().add_(EPS)
            rate = self.rates[name] * per_row(correction1, mean)
            value.sub_((mean * rate).div_(denominator))

    def reset(self, rows: Tensor) -> None:
        """Forget the history of `rows` (a mask) and lower their rate."""
        self.age.masked_fill_(rows, 0)
        self.scale = torch.where(rows, self.scale * RECOVERY_FACTOR, self.scale)
        for moment in (*self.mean.values(), *self.square.values()):
            moment.masked_fill_(per_row(rows, moment), 0)


def minimize(
    objective: Objective,
    start: Variables,
    rates: Mapping[str, float],
    steps: int,
    on_step: StepCallback | None = None,
    project: Projection | None = None,
) -> Minimum:
    """`steps` steps of Adam from `start`; keeps the iterate of smallest objective of every row.

    A row whose objective turns NaN or Inf goes on from its best iterate at a tenth of its rate;
    the other rows do not notice.

    **Arguments:**
    - `objective`: see `Objective`; evaluated `steps + 1` times.
    - `start`: `(batch, ...)` for every variable; not changed.
    - `rates`: Adam's learning rate for every variable.
    - `project`: changes the variables in place after every step: projected gradient descent.
    """
    current = {name: value.detach().clone() for name, value in start.items()}
    adam = BatchedAdam(current, rates)
    best = _Best(current)
    trace = []
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            for value in current.values():
                value.requires_grad_(step < steps)
            value_per_row, image = objective(current, step)
        found = value_per_row.detach()
        trace.append(found)
        bad = best.update(found, current, image.detach())
        if step < steps:
            gradients = torch.autograd.grad(value_per_row.sum(), list(current.values()))
            with torch.no_grad():
                current = {name: value.detach() for name, value in current.items()}
                adam.step(current, dict(zip(current, gradients, strict=True)))
                best.recover(current, bad)
                adam.reset(bad)
                if project is not None:
                    project(current)
        if on_step is not None:
            on_step(step, found)
    return Minimum(best.variables, best.image, best.value, torch.stack(trace, 1), best.recoveries)


class _Best:
    """The best iterate of every row so far."""

    def __init__(self, variables: Variables) -> None:
        first = next(iter(variables.values()))
        self.variables = {name: value.detach().clone() for name, value in variables.items()}
        self.value = torch.full((len(first),), torch.inf, device=first.device, dtype=first.dtype)
        self.image = torch.empty(0)
        self.recoveries = torch.zeros(len(first), device=first.device, dtype=torch.int64)

    @torch.no_grad()
    def update(self, value: Tensor, variables: Variables, image: Tensor) -> Tensor:
        """Keep the rows that improved; return a mask of the rows that are not finite."""
        improved = value < self.value
        first = self.image.numel() == 0
        self.image = image if first else torch.where(per_row(improved, image), image, self.image)
        self.value = torch.where(improved, value, self.value)
        for name, kept in self.variables.items():
            torch.where(per_row(improved, kept), variables[name].detach(), kept, out=kept)
        bad = ~torch.isfinite(value)
        self.recoveries += bad
        return bad

    def recover(self, variables: Variables, rows: Tensor) -> None:
        """Set `rows` of `variables` back to their best iterate, in place."""
        for name, value in variables.items():
            torch.where(per_row(rows, value), self.variables[name], value, out=value)


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """`(batch,)` → `(batch, 1, …)`, to broadcast over `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
