"""Observations y = A x + e, simulated or measured."""

from __future__ import annotations

import dataclasses as dc
import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iagan.errors import SettingError, ShapeError
from iagan.operators import LinearOperator, as_operator
from iagan.operators.checks import LARGEST, as_tensor
from iagan.operators.linalg import per_image
from iagan.types import ImageLike, Measurement, PerImage

logger = logging.getLogger("iagan")

RANGE_SLACK = 0.25
"""Tolerated excess of an image over [0, 1], since generators and filters overshoot slightly."""


@dc.dataclass(frozen=True, eq=False)
class Observation:
    r"""Measurements of a batch of images, $y = A x + e$.

    **Arguments:**
    - `y`: `(batch, *operator.measurement_shape)`, real or complex, finite; a NumPy array is
      kept as a tensor of its dtype.
    - `operator`: A, or a deepinv `LinearPhysics` with an `img_size`.
    - `noise_std`: σ of e, for images in [0, 1], one number or one per image; for a complex y, σ of
      the real and of the imaginary part. Kept as `(batch,)`, float64, on the CPU.
    - `crop`: `(left, top, side)` of the measured square of the photograph, if known.

    **Raises:** `ShapeError`; `SettingError` for a batch of 0, NaN or Inf in y, or a negative σ.
    """

    y: Measurement
    operator: LinearOperator
    noise_std: Tensor | Sequence[float] | float = 0.0
    crop: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "operator", as_operator(self.operator))
        y = self.operator._check_measurement(self.y)
        if not len(y):
            raise SettingError("Observation expects one image or more; got a batch of 0.")
        object.__setattr__(self, "y", y.detach().clone())
        object.__setattr__(self, "noise_std", self._noise_std_per_image())
        real = torch.view_as_real(self.y) if self.y.is_complex() else self.y
        ends = torch.stack(real.detach().aminmax())  # NaN where there is one; no copy of y
        if not bool(torch.isfinite(ends).all()):
            wrong = int((~torch.isfinite(self.y)).sum())
            raise SettingError(
                f"Observation expects finite measurements; got NaN or Inf in {wrong} of "
                f"{self.y.numel()}. Exclude those with a mask, or measure again."
            )

    def _noise_std_per_image(self) -> PerImage:
        try:
            given = torch.as_tensor(self.noise_std, dtype=torch.float64, device="cpu").detach()
            sigma = given.expand(len(self.y)).clone()
        except (TypeError, ValueError, RuntimeError) as error:
            raise SettingError(
                f"Observation expects noise_std as one number or {len(self.y)}, one per image; got "
                f"{self.noise_std!r:.80}."
            ) from error
        if not bool(((sigma >= 0) & (sigma <= LARGEST)).all()):
            raise SettingError(
                f"Observation expects noise_std finite, at least 0 and at most {LARGEST:g}; got "
                f"{self.noise_std!r:.80}."
            )
        return sigma

    @property
    def sigma(self) -> PerImage:
        """σ of each image, `(batch,)`, float64, on the CPU."""
        return torch.as_tensor(self.noise_std, dtype=torch.float64, device="cpu")

    @property
    def is_noisy(self) -> bool:
        """Whether σ is above 0 for any image."""
        return bool((self.sigma > 0).any())

    @property
    def noise_floor(self) -> PerImage:
        r"""$\sigma\sqrt{m}$, `(batch,)`: the expected $\|A x - y\|$ for the true x."""
        return self.sigma * math.sqrt(self.operator.m)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, indices: slice | list[int] | Tensor) -> Observation:
        """The observation of some of the images, by a slice or a list of indices."""
        return dc.replace(self, y=self.y[indices], noise_std=self.sigma[indices])

    def to(self, device: torch.device | str) -> Observation:
        """The same observation on `device`."""
        return dc.replace(self, y=self.y.to(device), operator=self.operator.to(device))


def observe(
    image: ImageLike,
    operator: LinearOperator | nn.Module,
    noise_std: Tensor | Sequence[float] | float = 0.0,
    rng: torch.Generator | None = None,
) -> Observation:
    r"""Simulate $y = A x + e$, with $e \sim N(0, \sigma^2)$ in every real component of y.

    The noise is drawn image by image, so it does not depend on batching.

    **Arguments:**
    - `image`: x, `(batch, channels, h, w)` in [0, 1]; a tensor or a NumPy array.
    - `operator`: A, or a deepinv `LinearPhysics`.
    - `noise_std`: σ in the scale of x, one number or one per image; the paper's 10/255 is
      `10 / 255`.
    - `rng`: generator of the noise, required for σ > 0.

    **Raises:** `ShapeError`; `SettingError` for an image outside [0, 1], or noise without `rng`.
    """
    image = as_tensor("observe", image)
    operator = as_operator(operator, tuple(image.shape[1:]))
    if not image.numel():
        raise SettingError(f"observe expects one image or more; got {tuple(image.shape)}.")
    low, high = float(image.min()), float(image.max())
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise SettingError(
            f"observe expects an image in [0, 1]; got values from {low:.3g} to {high:.3g}. Rescale "
            "it: noise_std and all scores refer to [0, 1]."
        )
    clean = Observation(operator(image), operator, noise_std)
    if not clean.is_noisy:
        return clean
    largest = float(clean.sigma.max())
    if largest > 1:
        logger.warning(
            "noise_std = %.3g is more than the range of the images, [0, 1]; for %.3g/255 pass "
            "%.3g / 255.",
            *(largest,) * 3,
        )
    if not isinstance(rng, torch.Generator):
        raise SettingError(
            "observe expects rng, a torch.Generator, for the noise; got "
            f"{'none' if rng is None else type(rng).__name__}. "
            "Pass torch.Generator().manual_seed(0)."
        )
    noise = torch.stack([_unit_noise(one, rng) for one in clean.y])
    return dc.replace(clean, y=clean.y + per_image(clean.sigma.to(noise.real), noise) * noise)


_LAPLACIANS = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))
"""A difference of two Laplacians, insensitive to edges; its response to white noise has variance
36 σ²."""


def estimate_noise_std(y: ImageLike) -> PerImage:
    r"""σ of white noise in images: $\hat\sigma = \sqrt{\pi/2}\,\operatorname{mean}|L * y| / 6$.

    Accurate to a few percent for blurred images; too high for sharp ones because of fine details
    (for a face by 3/255 without noise, by 0.8/255 at σ = 10/255); useless for downscaled ones.

    **Shapes:** `(batch, channels, h, w)`, sides of at least 3, to `(batch,)`.
    **Source:** Immerkær, Fast noise variance estimation (CVIU 64, 1996).
    """
    y = as_tensor("estimate_noise_std", y)
    if y.ndim != 4 or not y.is_floating_point():
        raise ShapeError(
            "estimate_noise_std expects real images (batch, channels, h, w) in [0, 1]; got "
            f"{str(y.dtype).removeprefix('torch.')} {tuple(y.shape)}."
        )
    batch, channels, height, width = y.shape
    if min(height, width) < 3:
        raise ShapeError(
            f"estimate_noise_std expects images of at least 3×3 pixels; got {width}×{height}. "
            "Pass the noise level instead."
        )
    kernel = torch.tensor(_LAPLACIANS, dtype=y.dtype, device=y.device)[None, None]
    response = F.conv2d(y.reshape(batch * channels, 1, height, width), kernel).abs()
    return math.sqrt(math.pi / 2) / 6 * response.view(batch, -1).mean(1)


def _unit_noise(like: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal noise in all real components, in single precision on the device of `rng`."""
    shape = (*like.shape, 2) if like.is_complex() else tuple(like.shape)
    noise = torch.randn(shape, generator=rng, device=rng.device, dtype=torch.float32)
    return (torch.view_as_complex(noise) if like.is_complex() else noise).to(like)
