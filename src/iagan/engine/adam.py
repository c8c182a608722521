"""torch's Adam over a batch of problems, of which one may have to go back and go on slower."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from iagan.engine.rows import per_row

RECOVERY_FACTOR = 0.1
"""Factor on the learning rate of a problem whose objective turned NaN or infinite."""


class Adam:
    """`torch.optim.Adam` on `leaves`, which it moves in place.

    **Arguments:**
    - `leaves`: by name, `(batch, ...)`, or of any shape where there is one problem alone.
    - `rates`: the learning rate of each.
    - `schedule`: step → factor on the rates.
    """

    def __init__(
        self,
        leaves: Mapping[str, Tensor],
        rates: Mapping[str, float],
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        self.leaves = dict(leaves)
        self.rates = [rates[name] for name in leaves]
        self.schedule = schedule
        self.steps = 0
        self.factor: Tensor | None = None  # per problem, once one of them had to recover
        self.adam = self._adam()

    def _adam(self) -> torch.optim.Adam:
        by_rate: dict[float, list[Tensor]] = {}
        for leaf, rate in zip(self.leaves.values(), self.rates, strict=True):
            by_rate.setdefault(rate, []).append(leaf)
        groups = [{"params": leaves, "lr": rate} for rate, leaves in by_rate.items()]
        fused = all(leaf.device.type in ("cpu", "cuda") for leaf in self.leaves.values())
        return torch.optim.Adam(groups, fused=fused)

    def step(self, values: Tensor) -> None:
        """Move the leaves by their `.grad`; Adam does not need the objective's `values`."""
        if self.schedule is not None:
            for group, rate in zip(self.adam.param_groups, self._group_rates(), strict=True):
                group["lr"] = rate * self.schedule(self.steps)
        self.steps += 1
        if self.factor is None:
            self.adam.step()
            return
        before = [leaf.detach().clone() for leaf in self.leaves.values()]
        self.adam.step()
        with torch.no_grad():
            for leaf, old in zip(self.leaves.values(), before, strict=True):
                leaf.copy_(torch.lerp(old, leaf, per_row(self.factor, leaf).to(leaf)))

    def _group_rates(self) -> list[float]:
        return list(dict.fromkeys(self.rates))

    @torch.no_grad()
    def recover(self, best: Mapping[str, Tensor], broken: Tensor) -> None:
        """Problems of the mask `broken` go on from `best`, with new moments and a smaller rate."""
        if self.factor is None:
            self.factor = torch.ones(len(broken), device=broken.device)
        self.factor = torch.where(broken, self.factor * RECOVERY_FACTOR, self.factor)
        for name, leaf in self.leaves.items():
            mask = per_row(broken, leaf)
            leaf.copy_(torch.where(mask, best[name], leaf))
            for key, moment in self.adam.state[leaf].items():
                if key != "step":
                    moment.masked_fill_(mask, 0)

    @torch.no_grad()
    def select(self, problems: Tensor) -> dict[str, Tensor]:
        """Go on with some of the problems, a mask; returns the new leaves."""
        old, state = self.leaves, self.adam.state
        self.leaves = {name: leaf.detach()[problems].requires_grad_() for name, leaf in old.items()}
        self.adam = self._adam()
        for name, leaf in old.items():
            self.adam.state[self.leaves[name]] = {
                key: value if key == "step" else value[problems]
                for key, value in state[leaf].items()
            }
        if self.factor is not None:
            self.factor = self.factor[problems]
        return self.leaves
