"""The result of `reconstruct`."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from iagan.images import encode_png
from iagan.methods.base import Method
from iagan.observation import Observation
from iagan.operators.base import squared_norms
from iagan.operators.linalg import to_double
from iagan.types import Image, Latent, PerImage


@dc.dataclass(frozen=True, repr=False)
class Reconstruction:
    r"""An estimate x̂ of the images behind an observation, and its fit to y.

    **Arguments:** (b images)
    - `image`: `(b, c, h, w)`, float, nominally in [0, 1], not clamped.
    - `variables`: the fitted variables by name, at the kept iterate, `(b, ...)` each; without
      network weights.
    - `residual`: $\|A\hat x - y\|$ of `image`, `(b,)`.
    - `relative_residual`: $\|A\hat x - y\| / \|y\|$, `(b,)`.
    - `noise_floor`: $\sigma\sqrt{m}$, `(b,)`, the expected residual of the true images.
    - `trace`: `(b, evaluations)`, the objective at every iterate of the kept start, phases one
      after another.
    - `iterations`: `(b,)`, summed over the phases.
    - `seconds`: wall-clock time of the batch.
    - `method`: the method with all its settings; `method.spec()` is a JSON object.
    - `seeds`: one seed per image.
    - `messages`: warnings, one line each.
    """

    image: Image
    variables: Mapping[str, Tensor]
    residual: PerImage
    relative_residual: PerImage
    noise_floor: PerImage
    trace: Float[Tensor, "batch evaluations"]
    iterations: Int[Tensor, " batch"]
    seconds: float
    method: Method
    seeds: tuple[int, ...]
    messages: tuple[str, ...] = ()

    @property
    def latent(self) -> Latent | None:
        """The variable `"z"`, `(b, *latent)`; None for a method without one (naive, pinv, DIP)."""
        return self.variables.get("z")

    def __repr__(self) -> str:
        """A few lines: shapes, fit to y, and messages."""
        batch, *shape = self.image.shape
        lines = [
            f"Reconstruction of {batch} image{'s' * (batch > 1)} {tuple(shape)} by "
            f"{self.method.name}, {self.seconds:.1f} s",
            f"  residual {_span(self.residual)}, noise floor {_span(self.noise_floor)}, "
            f"iterations {_span(self.iterations)}",
            *(f"  {message}" for message in self.messages),
        ]
        return "\n".join(lines)

    def _repr_png_(self) -> bytes:
        """The images side by side, as shown in a notebook."""
        return encode_png(torch.cat(list(self.image.nan_to_num()), dim=-1)[None])


def _span(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def residual_norms(image: Tensor, observation: Observation) -> tuple[Tensor, Tensor]:
    r"""$\|A x - y\|$ and $\|A x - y\| / \|y\|$ per image, in double precision."""
    x, y = to_double(image), to_double(observation.y)
    residual = squared_norms(observation.operator(x) - y).sqrt()
    relative = residual / squared_norms(y).sqrt().clamp_min(torch.finfo(residual.dtype).tiny)
    return residual, relative
