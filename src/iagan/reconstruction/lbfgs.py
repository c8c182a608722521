"""L-BFGS over a batch of independent problems, every row at its own point of its line search.

A line search evaluates a row several times before it moves, and rows differ. Here a row that may
move, moves, and one that may not tries a shorter step, at the same evaluation of the whole batch:
no evaluation is wasted on waiting, and a row's way does not depend on the others.

**Source:** Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from iagan.reconstruction.rows import Rows, Variables, together

MEMORY = 20
"""Pairs of moves and changes of gradient that are kept."""
DECREASE = 1e-4
"""c₁ of Armijo's condition: the share of the promised decrease that a step must bring."""
SHORTEST, LONGEST = 0.1, 0.5
"""Between these shares of a refused step the next one lies."""
REACH = 0.3
"""Root mean square of a row's entries that it moves by at most, for variables of about unit size,
as latents are: the second step, from one pair alone, may else leave the region of the start."""
PATIENCE = 8
"""Refusals in a row after which what was learnt of the curvature is forgotten."""


class BatchedLbfgs:
    """Minimises every row's objective; `step` proposes the next points from the last ones' values.

    **Shapes:** variables are `(batch, ...)` by name; inside, rows are flat: `(batch, d)`.
    """

    def __init__(self, variables: Variables) -> None:
        start = _flat(variables)
        batch, size = start.shape
        self.place = start.clone()
        self.value = start.new_full((batch,), torch.inf)
        self.gradient = torch.zeros_like(start)
        self.direction = torch.zeros_like(start)
        self.length = start.new_zeros(batch)
        self.refused = start.new_zeros(batch)
        self.moves = start.new_zeros(batch, MEMORY, size)
        self.bends = start.new_zeros(batch, MEMORY, size)

    @torch.no_grad()
    def step(self, rows: Rows, gradients: Rows, value: Tensor, factor: float = 1.0) -> None:
        """Change `rows` in place to where each expects to be evaluated next.

        `value` is `(batch,)`: the objective where the rows are, with its `gradients`. There is no
        rate that `factor` could change.
        """
        trial, gradient = _flat(rows), _flat(gradients)
        move = trial - self.place
        promised = (move * self.gradient).sum(1).clamp(max=0)
        finite = torch.isfinite(value) & torch.isfinite(gradient).all(1)
        taken = finite & (value <= self.value + DECREASE * promised)
        self._shorten(~taken, value, promised)
        self._go_on(taken, trial, gradient, value)
        longest = REACH * trial.shape[1] ** 0.5 / self.direction.norm(dim=1).clamp_min(1e-30)
        self.length = torch.minimum(self.length, longest)
        _put(self.place + self.length[:, None] * self.direction, rows)

    def recover(self, variables: Variables, best: Variables, rows: Tensor) -> None:
        """Nothing: where the objective is not finite, `step` tries again nearer by."""

    def select(self, rows: Tensor) -> None:
        """Keep `rows` (a mask) alone."""
        for name, value in vars(self).items():
            setattr(self, name, value[rows])

    def _shorten(self, refused: Tensor, value: Tensor, promised: Tensor) -> None:
        """The minimum of the parabola through the value, the slope and the refused value."""
        surplus = 2 * (value - self.value - promised)
        share = (-promised / surplus).nan_to_num(SHORTEST, SHORTEST, SHORTEST)
        self.length = torch.where(
            refused, self.length * share.clamp(SHORTEST, LONGEST), self.length
        )
        self.refused = torch.where(refused, self.refused + 1, torch.zeros_like(self.refused))
        lost = refused & (self.refused % PATIENCE == 0)
        self.moves[lost], self.bends[lost] = 0, 0
        self.direction = torch.where(lost[:, None], -self.gradient, self.direction)
        self.length = torch.where(lost, _first_length(self.gradient), self.length)

    def _go_on(self, taken: Tensor, trial: Tensor, gradient: Tensor, value: Tensor) -> None:
        move, bend = trial - self.place, gradient - self.gradient
        curvature = (move * bend).sum(1)
        learnt = taken & (curvature > 1e-10 * bend.square().sum(1)) & torch.isfinite(self.value)
        for kept, new in ((self.moves, move), (self.bends, bend)):
            shifted = torch.cat([kept[:, 1:], new[:, None]], 1)
            kept.copy_(torch.where(learnt[:, None, None], shifted, kept))
        self.place = torch.where(taken[:, None], trial, self.place)
        self.gradient = torch.where(taken[:, None], gradient, self.gradient)
        self.value = torch.where(taken, value, self.value)
        direction = -self._inverse_hessian_times(self.gradient)
        uphill = (direction * self.gradient).sum(1) >= 0
        direction = torch.where(uphill[:, None], -self.gradient, direction)
        known = self.bends[:, -1].square().sum(1) > 0
        length = torch.where(known & ~uphill, torch.ones_like(self.length), _first_length(gradient))
        self.direction = torch.where(taken[:, None], direction, self.direction)
        self.length = torch.where(taken, length, self.length)

    def _inverse_hessian_times(self, vector: Tensor) -> Tensor:
        """The two loops of algorithm 7.4; pairs that are not there yet are zero."""
        curvature = (self.moves * self.bends).sum(2)
        rho = torch.where(curvature > 0, 1 / curvature, torch.zeros_like(curvature))
        shares = torch.zeros_like(rho)
        for i in reversed(range(MEMORY)):
            shares[:, i] = rho[:, i] * (self.moves[:, i] * vector).sum(1)
            vector = vector - shares[:, i, None] * self.bends[:, i]
        latest = self.bends[:, -1].square().sum(1)
        scale = torch.where(latest > 0, curvature[:, -1] / latest, torch.ones_like(latest))
        vector = vector * scale[:, None]
        for i in range(MEMORY):
            back = rho[:, i] * (self.bends[:, i] * vector).sum(1)
            vector = vector + (shares[:, i] - back)[:, None] * self.moves[:, i]
        return vector


def _first_length(gradient: Tensor) -> Tensor:
    """So long that no entry moves by more than 1 where nothing of the curvature is known."""
    return 1 / gradient.abs().sum(1).clamp_min(1)


def _flat(rows: Rows) -> Tensor:
    return torch.cat([together(value).flatten(1) for value in rows.values()], 1)


def _put(flat: Tensor, rows: Rows) -> None:
    begin = 0
    for value in rows.values():
        size = value[0].numel()
        for row, part in zip(value, flat[:, begin : begin + size], strict=True):
            row.copy_(part.view_as(row))
        begin += size
