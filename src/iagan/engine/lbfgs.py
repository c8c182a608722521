r"""L-BFGS over a batch of independent problems, each with its own line search.

The line searches run asynchronously: at each evaluation of the batch, problems whose trial point is
accepted advance, and the others try a shorter step. No problem waits for or depends on another.

**Source:** Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 3.1. The letters
are theirs: $f$ and $g$ at $x$, direction $p$, step length $\alpha$, $s = \Delta x$ and
$y = \Delta g$.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping

import torch
from torch import Tensor


@dc.dataclass(frozen=True)
class LbfgsOptions:
    """Constants of L-BFGS and its line search.

    **Arguments:**
    - `memory`: number of pairs (s, y) kept.
    - `armijo`: $c_1$, the fraction of the predicted decrease that a step must achieve.
    - `min_backtrack`, `max_backtrack`: bounds on the backtracking factor.
    - `max_rms_step`: largest root mean square of a problem's step, for variables of about unit
      scale, such as latents: the second step, based on a single pair, could otherwise leave the
      neighbourhood of the start (benchmarks/NOTES.md).
    - `max_rejections`: consecutive rejections after which the pairs are dropped.
    """

    memory: int = 20
    armijo: float = 1e-4
    min_backtrack: float = 0.1
    max_backtrack: float = 0.5
    max_rms_step: float = 0.3
    max_rejections: int = 8


class Lbfgs:
    """Minimises the objective of every problem; updates `leaves`, `(batch, ...)`, in place.

    **Shapes:** internally, variables are flattened: x, g, p `(batch, d)`, s and y `(batch, memory,
    d)`.
    """

    def __init__(self, leaves: Mapping[str, Tensor], options: LbfgsOptions | None = None) -> None:
        self.leaves = dict(leaves)
        self.options = options or LbfgsOptions()
        start = _flat(self.leaves)
        batch, d = start.shape
        self.x = start.clone()
        self.f = start.new_full((batch,), torch.inf)
        self.g = torch.zeros_like(start)
        self.p = torch.zeros_like(start)
        self.alpha = start.new_zeros(batch)
        self.rejections = start.new_zeros(batch)
        self.s = start.new_zeros(batch, self.options.memory, d)
        self.y = start.new_zeros(batch, self.options.memory, d)

    @torch.no_grad()
    def step(self, values: Tensor) -> None:
        """Move the leaves to each problem's next trial point.

        `values`, `(batch,)`, is the objective at the leaves, whose `.grad` is set.
        """
        trial = _flat(self.leaves)
        gradient = torch.cat([leaf.grad.reshape(len(leaf), -1) for leaf in self.leaves.values()], 1)  # type: ignore[union-attr]
        predicted_decrease = ((trial - self.x) * self.g).sum(1).clamp(max=0)
        finite = torch.isfinite(values) & torch.isfinite(gradient).all(1)
        accepted = finite & (values <= self.f + self.options.armijo * predicted_decrease)
        self._backtrack(~accepted, values, predicted_decrease)
        self._accept(accepted, trial, gradient, values)
        largest = self.options.max_rms_step * trial.shape[1] ** 0.5
        self.alpha = torch.minimum(self.alpha, largest / self.p.norm(dim=1).clamp_min(1e-30))
        _put(self.x + self.alpha[:, None] * self.p, self.leaves)

    def recover(self, best: Mapping[str, Tensor], broken: Tensor) -> None:
        """Does nothing: `step` backtracks where the objective is not finite."""

    def select(self, problems: Tensor) -> dict[str, Tensor]:
        """Keep only the problems of a mask; returns the new leaves."""
        self.leaves = {
            name: leaf.detach()[problems].requires_grad_() for name, leaf in self.leaves.items()
        }
        for name in ("x", "f", "g", "p", "alpha", "rejections", "s", "y"):
            setattr(self, name, getattr(self, name)[problems])
        return self.leaves

    def _backtrack(self, rejected: Tensor, values: Tensor, predicted_decrease: Tensor) -> None:
        """Shorten to the minimiser of the parabola through f, its slope and the rejected value."""
        options = self.options
        surplus = 2 * (values - self.f - predicted_decrease)
        share = (-predicted_decrease / surplus).nan_to_num(*[options.min_backtrack] * 3)
        share = share.clamp(options.min_backtrack, options.max_backtrack)
        self.alpha = torch.where(rejected, self.alpha * share, self.alpha)
        self.rejections = torch.where(rejected, self.rejections + 1, 0)
        lost = rejected & (self.rejections % options.max_rejections == 0)
        self.s[lost], self.y[lost] = 0, 0
        self.p = torch.where(lost[:, None], -self.g, self.p)
        self.alpha = torch.where(lost, _first_alpha(self.g), self.alpha)

    def _accept(self, accepted: Tensor, trial: Tensor, gradient: Tensor, values: Tensor) -> None:
        s, y = trial - self.x, gradient - self.g
        sy = (s * y).sum(1)
        usable = accepted & (sy > 1e-10 * y.square().sum(1)) & torch.isfinite(self.f)
        for pairs, new in ((self.s, s), (self.y, y)):
            shifted = torch.cat([pairs[:, 1:], new[:, None]], 1)
            pairs.copy_(torch.where(usable[:, None, None], shifted, pairs))
        self.x = torch.where(accepted[:, None], trial, self.x)
        self.g = torch.where(accepted[:, None], gradient, self.g)
        self.f = torch.where(accepted, values, self.f)
        p = -self._inverse_hessian_times(self.g)
        uphill = (p * self.g).sum(1) >= 0
        p = torch.where(uphill[:, None], -self.g, p)
        has_pairs = self.y[:, -1].square().sum(1) > 0
        alpha = torch.where(has_pairs & ~uphill, 1.0, _first_alpha(gradient))
        self.p = torch.where(accepted[:, None], p, self.p)
        self.alpha = torch.where(accepted, alpha, self.alpha)

    def _inverse_hessian_times(self, q: Tensor) -> Tensor:
        """The two-loop recursion, algorithm 7.4; pairs not yet collected are zero."""
        sy = (self.s * self.y).sum(2)
        rho = torch.where(sy > 0, 1 / sy, torch.zeros_like(sy))
        alphas = torch.zeros_like(rho)
        for i in reversed(range(self.options.memory)):
            alphas[:, i] = rho[:, i] * (self.s[:, i] * q).sum(1)
            q = q - alphas[:, i, None] * self.y[:, i]
        yy = self.y[:, -1].square().sum(1)
        gamma = torch.where(yy > 0, sy[:, -1] / yy, torch.ones_like(yy))
        r = q * gamma[:, None]
        for i in range(self.options.memory):
            beta = rho[:, i] * (self.y[:, i] * r).sum(1)
            r = r + (alphas[:, i] - beta)[:, None] * self.s[:, i]
        return r


def _first_alpha(g: Tensor) -> Tensor:
    """Initial step length without curvature information: no entry changes by more than 1."""
    return 1 / g.abs().sum(1).clamp_min(1)


def _flat(leaves: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([leaf.detach().reshape(len(leaf), -1) for leaf in leaves.values()], 1)


def _put(flat: Tensor, leaves: Mapping[str, Tensor]) -> None:
    sizes = [leaf[0].numel() for leaf in leaves.values()]
    for leaf, part in zip(leaves.values(), flat.split(sizes, 1), strict=True):
        leaf.copy_(part.view_as(leaf))
