"""Bicubic downscaling, as in MATLAB's imresize."""

from __future__ import annotations

import dataclasses as dc
import math
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from iagan.errors import SettingError
from iagan.operators.checks import as_int
from iagan.operators.separable import Separable, filter_matrix, mirrored
from iagan.types import Image, MeasurementLike


@dc.dataclass(frozen=True, eq=False)
class BicubicDownsample(Separable):
    r"""Shrink both sides by an integer factor with the anti-aliased bicubic filter.

    Output pixel i is centred at $u = (i + \tfrac12) s - \tfrac12$ with the kernel $k(t / s)$, k
    being the cubic convolution kernel of $a = -\tfrac12$; the weights are normalised to sum to 1
    and the image is mirrored at its border. This is what "bicubic" means in super-resolution
    papers; PyTorch and Pillow differ at the border or in the kernel.

    **Arguments:**
    - `scale`: the factor; must divide height and width.

    **Shapes:** `y` is `(batch, channels, height / scale, width / scale)`.
    **Raises:** `SettingError` if the factor does not divide the size.
    **Reference:** R. Keys, "Cubic convolution interpolation for digital image processing", 1981;
    arXiv 1906.05284, Tables 2 and 3.
    """

    scale: int

    name: ClassVar[str] = "bicubic"

    def __post_init__(self) -> None:
        super().__post_init__()
        scale = as_int("BicubicDownsample", "scale", self.scale, 1)
        object.__setattr__(self, "scale", scale)
        _, height, width = self.image_shape
        if height % scale or width % scale:
            raise SettingError(
                f"BicubicDownsample expects a scale that divides height and width; got {scale} for "
                f"{height}×{width}. Use a scale that divides {math.gcd(height, width)}, or "
                "another image size."
            )

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        channels, height, width = self.image_shape
        return (channels, height // self.scale, width // self.scale)

    def naive(self, y: MeasurementLike) -> Image:
        """Bicubic upsampling of y, the paper's baseline: imresize by the same factor."""
        y = self._check_measurement(y)
        up_h, up_w = (self._cast(f"_enlarge_{side}", y.device, y.dtype) for side in "hw")
        return up_h @ (y @ up_w.T)

    @cached_property
    def filter_h(self) -> Tensor:
        return resize_matrix(self.image_shape[1], self.image_shape[1] // self.scale)

    @cached_property
    def filter_w(self) -> Tensor:
        return resize_matrix(self.image_shape[2], self.image_shape[2] // self.scale)

    @cached_property
    def _enlarge_h(self) -> Tensor:
        return resize_matrix(self.image_shape[1] // self.scale, self.image_shape[1])

    @cached_property
    def _enlarge_w(self) -> Tensor:
        return resize_matrix(self.image_shape[2] // self.scale, self.image_shape[2])


def resize_matrix(side: int, new_side: int) -> Tensor:
    """imresize along one axis, up or down: `(new_side, side)`, rows sum to 1, float64."""
    step = side / new_side
    stretch = max(step, 1.0)
    centre = (torch.arange(new_side, dtype=torch.float64, device="cpu")[:, None] + 0.5) * step - 0.5
    reach = int(4 * stretch) + 2
    index = (centre - 2 * stretch).floor().long() + torch.arange(reach, device="cpu")
    weights = _cubic((centre - index) / stretch)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return filter_matrix(mirrored(index, side), weights, side)


def _cubic(t: Tensor) -> Tensor:
    """Keys' kernel, a = -1/2 (his eq. 15)."""
    t = t.abs()
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))
