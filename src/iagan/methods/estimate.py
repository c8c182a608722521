"""The result of a method's run."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from iagan.engine.minimize import MinimizeResult
from iagan.types import Image, Latent


@dc.dataclass(frozen=True)
class Estimate:
    """Recovered images and the statistics of their minimisation.

    **Arguments:** (b images)
    - `image`: `(b, c, h, w)`.
    - `variables`: the fitted variables by name, `(b, ...)` each, without network weights; `"z"` is
      the latent.
    - `trace`: `(b, evaluations)`, the objective at every iterate, phases one after another; no
      columns without iterations.
    - `steps`, `recoveries`: `(b,)`, summed over the phases.
    """

    image: Image
    variables: Mapping[str, Tensor]
    trace: Float[Tensor, "batch evaluations"]
    steps: Int[Tensor, " batch"]
    recoveries: Int[Tensor, " batch"]

    @property
    def latent(self) -> Latent | None:
        """The variable `"z"`, `(b, *latent)`; None if there is none."""
        return self.variables.get("z")

    @staticmethod
    def direct(image: Image) -> Estimate:
        """An estimate computed without iterations."""
        none = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        return Estimate(image, {}, image.new_empty(len(image), 0), none, none)

    @staticmethod
    def of(result: MinimizeResult) -> Estimate:
        """The result of a minimisation."""
        return Estimate(
            result.image, result.variables, result.trace, result.steps, result.recoveries
        )

    def pick(self, indices: Tensor) -> Estimate:
        """The entries at these indices."""
        variables = {name: value[indices] for name, value in self.variables.items()}
        picked = (each[indices] for each in (self.trace, self.steps, self.recoveries))
        return Estimate(self.image[indices], variables, *picked)

    def after(self, before: Estimate) -> Estimate:
        """This estimate, which continues `before`, with trace and iterations of both."""
        return dc.replace(
            self,
            trace=torch.cat([before.trace, self.trace], 1),
            steps=before.steps + self.steps,
            recoveries=before.recoveries + self.recoveries,
        )
