"""What a method makes of an observation, per image."""

from __future__ import annotations

import dataclasses as dc

import torch
from jaxtyping import Float, Int
from torch import Tensor

from iagan.engine.minimize import MinimizeResult
from iagan.types import Image, Latent


@dc.dataclass(frozen=True)
class Estimate:
    """Images, and how they were reached.

    **Arguments:** (b images)
    - `image`: `(b, c, h, w)`.
    - `latent`: `(b, *latent)`, or None where there is none.
    - `trace`: `(b, evaluations)`, the objective at every iterate, phases one after another; no
      columns where nothing was iterated.
    - `steps`, `recoveries`: `(b,)`, all phases together.
    """

    image: Image
    latent: Latent | None
    trace: Float[Tensor, "batch evaluations"]
    steps: Int[Tensor, " batch"]
    recoveries: Int[Tensor, " batch"]

    @staticmethod
    def direct(image: Image) -> Estimate:
        """One that took no iterations."""
        none = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        return Estimate(image, None, image.new_empty(len(image), 0), none, none)

    @staticmethod
    def of(result: MinimizeResult) -> Estimate:
        """All problems of a minimisation; the latent is the variable `"z"`, if there is one."""
        latent = result.variables.get("z")
        return Estimate(result.image, latent, result.trace, result.steps, result.recoveries)

    def pick(self, rows: Tensor) -> Estimate:
        """The rows of an index."""
        latent = None if self.latent is None else self.latent[rows]
        return Estimate(
            self.image[rows], latent, self.trace[rows], self.steps[rows], self.recoveries[rows]
        )

    def after(self, before: Estimate) -> Estimate:
        """This one, which went on from `before`, with the iterations of both."""
        return dc.replace(
            self,
            trace=torch.cat([before.trace, self.trace], 1),
            steps=before.steps + self.steps,
            recoveries=before.recoveries + self.recoveries,
        )
