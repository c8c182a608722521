"""Adam (Kingma and Ba, 2015) over a batch of problems with separate learning rates.

Calls torch's kernel directly: constructing a `torch.optim.Adam` imports torch's compiler, which
takes a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

from iagan.operators.linalg import per_image

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
"""Adam's constants, the defaults of `torch.optim.Adam`."""
RECOVERY_FACTOR = 0.1
"""Factor on the learning rate of a problem whose objective became NaN or infinite."""


class Adam:
    """Updates `leaves` in place by their `.grad`, bit for bit as `torch.optim.Adam(fused=True)`.

    **Arguments:**
    - `leaves`: variables by name, `(batch, ...)`, or of any shape for a single problem.
    - `rates`: learning rate of each variable.
    - `schedule`: maps a step to a factor on the rates.
    """

    def __init__(
        self,
        leaves: Mapping[str, Tensor],
        rates: Mapping[str, float],
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        self.leaves = dict(leaves)
        self.schedule = schedule
        self.mean = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        self.square = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        self.steps = {
            name: torch.zeros((), dtype=torch.float32, device=leaf.device)
            for name, leaf in leaves.items()
        }
        self.factor: Tensor | None = None  # `(batch,)`, once a problem has had to recover
        self.by_rate: dict[float, list[str]] = {}
        for name in leaves:
            self.by_rate.setdefault(rates[name], []).append(name)
        self.fused = all(leaf.device.type in ("cpu", "cuda") for leaf in leaves.values())
        self.taken = 0

    @torch.no_grad()
    def step(self, values: Tensor) -> None:
        """Take one step; the objective's `values` are not used."""
        schedule = 1.0 if self.schedule is None else self.schedule(self.taken)
        self.taken += 1
        before = None
        if self.factor is not None:
            before = {name: leaf.clone() for name, leaf in self.leaves.items()}
        for rate, names in self.by_rate.items():
            adam(
                [self.leaves[name] for name in names],
                [self._gradient(name) for name in names],
                [self.mean[name] for name in names],
                [self.square[name] for name in names],
                [],
                [self.steps[name] for name in names],
                fused=self.fused,
                amsgrad=False,
                maximize=False,
                beta1=BETA1,
                beta2=BETA2,
                eps=EPS,
                weight_decay=0.0,
                lr=rate * schedule,
            )
        if before is not None and self.factor is not None:
            for name, leaf in self.leaves.items():
                leaf.copy_(torch.lerp(before[name], leaf, per_image(self.factor, leaf).to(leaf)))

    def _gradient(self, name: str) -> Tensor:
        gradient = self.leaves[name].grad
        assert gradient is not None
        return gradient

    @torch.no_grad()
    def recover(self, best: Mapping[str, Tensor], broken: Tensor) -> None:
        """Restart the problems of the mask `broken` from `best`, with new moments and smaller
        rates.
        """
        if self.factor is None:
            self.factor = torch.ones(len(broken), dtype=torch.float32, device=broken.device)
        self.factor = torch.where(broken, self.factor * RECOVERY_FACTOR, self.factor)
        for name, leaf in self.leaves.items():
            mask = per_image(broken, leaf)
            leaf.copy_(torch.where(mask, best[name], leaf))
            self.mean[name].masked_fill_(mask, 0)
            self.square[name].masked_fill_(mask, 0)

    @torch.no_grad()
    def select(self, problems: Tensor) -> dict[str, Tensor]:
        """Keep only the problems of a mask; returns the new leaves."""
        self.leaves = {
            name: leaf.detach()[problems].requires_grad_() for name, leaf in self.leaves.items()
        }
        self.mean = {name: value[problems] for name, value in self.mean.items()}
        self.square = {name: value[problems] for name, value in self.square.items()}
        if self.factor is not None:
            self.factor = self.factor[problems]
        return self.leaves
