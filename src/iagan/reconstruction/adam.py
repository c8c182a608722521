"""Adam over a batch of independent problems, every row with its own age and rate."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

from iagan.reconstruction.rows import Rows, Variables, per_row, together

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
RECOVERY_FACTOR = 0.1
"""A row that turned NaN or Inf goes on from its best iterate at a rate smaller by this."""


class BatchedAdam:
    """Adam (Kingma and Ba, 2015), with a step count and a rate of its own for every row.

    Row by row, one call of torch's fused kernel moves all variables of a row that have the same
    rate.
    """

    def __init__(self, variables: Variables, rates: Mapping[str, float]) -> None:
        first = next(iter(variables.values()))
        self.mean = {name: torch.zeros_like(value) for name, value in variables.items()}
        self.square = {name: torch.zeros_like(value) for name, value in variables.items()}
        self.age = torch.zeros(len(first), len(variables), device=first.device)
        self.scale = torch.ones(len(first), device=first.device)
        self.groups: dict[float, list[str]] = {}
        for name in variables:
            self.groups.setdefault(rates[name], []).append(name)

    @torch.no_grad()
    def step(self, rows: Rows, gradients: Rows, value: Tensor, factor: float = 1.0) -> None:
        """Change `rows` in place, at `factor` times the rates; Adam needs no `value`."""
        if isinstance(next(iter(rows.values())), Tensor):
            self._step_together(rows, gradients, factor)
        else:
            self._step_by_rows(rows, gradients, factor)

    def _step_by_rows(self, rows: Rows, gradients: Rows, factor: float) -> None:
        place = {name: i for i, name in enumerate(rows)}
        for row, scale in enumerate(self.scale.tolist()):
            for rate, names in self.groups.items():
                adam(
                    [rows[name][row] for name in names],
                    [_laid_out_as(rows[name][row], gradients[name][row]) for name in names],
                    [self.mean[name][row] for name in names],
                    [self.square[name][row] for name in names],
                    [],
                    [self.age[row, place[name]] for name in names],
                    fused=True,
                    amsgrad=False,
                    maximize=False,
                    beta1=BETA1,
                    beta2=BETA2,
                    eps=EPS,
                    weight_decay=0.0,
                    lr=scale * (rate * factor),
                )

    def _step_together(self, rows: Rows, gradients: Rows, factor: float) -> None:
        self.age += 1
        for rate, names in self.groups.items():
            for name in names:
                variable, gradient = together(rows[name]), together(gradients[name])
                mean, square = self.mean[name], self.square[name]
                mean.lerp_(gradient, 1 - BETA1)
                square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
                age = per_row(self.age[:, 0], mean).to(mean.dtype)
                size = (square / _gathered(BETA2, age)).sqrt_().add_(EPS)
                scale = per_row(self.scale, mean).to(mean.dtype)
                length = scale * (rate * factor) / _gathered(BETA1, age)
                variable.addcmul_(mean / size, length, value=-1)

    def recover(self, variables: Variables, best: Variables, rows: Tensor) -> None:
        """Set `rows` (a mask) to `best`, in place, forget their history and lower their rate."""
        for name, value in variables.items():
            torch.where(per_row(rows, value), best[name], value, out=value)
        self.age.masked_fill_(rows[:, None], 0)
        self.scale = torch.where(rows, self.scale * RECOVERY_FACTOR, self.scale)
        for moment in (*self.mean.values(), *self.square.values()):
            moment.masked_fill_(per_row(rows, moment), 0)

    def select(self, rows: Tensor) -> None:
        """Keep `rows` (a mask) alone."""
        for moments in (self.mean, self.square):
            moments.update({name: value[rows] for name, value in moments.items()})
        self.age, self.scale = self.age[rows], self.scale[rows]


def _gathered(beta: float, age: Tensor) -> Tensor:
    """1 - β^age: the weights that a mean of `age` terms has gathered; exact for a young one too."""
    return -torch.expm1(age * math.log(beta))


def _laid_out_as(variable: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the variable's memory layout: the fused kernel pairs entries by address.

    A convolution may give a contiguous gradient to channels-last weights.
    """
    if gradient.stride() == variable.stride():
        return gradient
    return torch.empty_like(variable).copy_(gradient)
