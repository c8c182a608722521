"""Blurs: uniform, by a separable kernel, and by any kernel through the FFT."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from iagan.errors import SettingError
from iagan.operators.base import LinearOperator
from iagan.operators.checks import LARGEST, SMALLEST, as_int, as_tensor, is_of_range, taps_for
from iagan.operators.linalg import to_double, truncated_inverse
from iagan.operators.separable import Separable, filter_matrix, mirrored
from iagan.types import Image, Measurement, MeasurementLike

Taps = Sequence[float | int] | Tensor | np.ndarray
Border = Literal["mirror", "circular"]


@dc.dataclass(frozen=True, eq=False)
class _Blur(Separable):
    """A separable operator whose y is an image of the same size."""

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return self.image_shape

    def naive(self, y: MeasurementLike) -> Image:
        """The blurred image itself (Table 4)."""
        return self._check_measurement(y)


@dc.dataclass(frozen=True, eq=False)
class SeparableBlur(_Blur):
    r"""Convolve columns and rows: $y_{ij} = \sum_{pq} k_p\, l_q\, x_{i + c - p,\, j + d - q}$.

    The centres c and d are half of the kernels' lengths, rounded down.

    **Arguments:**
    - `vertical`, `horizontal`: the kernels k and l; kept as tuples of floats.
    - `border`: `"mirror"` repeats the edge pixel (scipy's "reflect"), `"circular"` wraps around.

    **Shapes:** `y` is shaped as `x`.
    **Raises:** `SettingError` if a kernel is longer than the image, not finite or all zero.
    """

    vertical: Taps
    horizontal: Taps
    border: Border = "mirror"

    name: ClassVar[str] = "separable-blur"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, side in zip(("vertical", "horizontal"), self.image_shape[1:], strict=True):
            taps = taps_for("SeparableBlur", name, getattr(self, name), side)
            object.__setattr__(self, name, taps)
        _check_border("SeparableBlur", self.border)

    @cached_property
    def filter_h(self) -> Tensor:
        return blur_matrix(self.vertical, self.image_shape[1], self.border)

    @cached_property
    def filter_w(self) -> Tensor:
        return blur_matrix(self.horizontal, self.image_shape[2], self.border)


@dc.dataclass(frozen=True, eq=False)
class UniformBlur(_Blur):
    r"""Blur by a uniform kernel: the mean of the `size` × `size` pixels around each pixel.

    **Arguments:**
    - `size`: odd, so that the window has a centre; 9 in the paper.
    - `border`: `"mirror"` repeats the edge pixel (scipy's "reflect"), `"circular"` wraps around.

    **Shapes:** `y` is shaped as `x`.
    **Raises:** `SettingError` if the window is even or larger than the image.
    **Reference:** arXiv 1906.05284, Table 4.
    """

    size: int = 9
    border: Border = "mirror"

    name: ClassVar[str] = "blur"

    def __post_init__(self) -> None:
        super().__post_init__()
        size = as_int("UniformBlur", "size", self.size, 1)
        object.__setattr__(self, "size", size)
        _check_border("UniformBlur", self.border)
        if size % 2 == 0 or size > min(self.image_shape[1:]):
            raise SettingError(
                "UniformBlur expects an odd size of at most the image's shorter side, "
                f"{min(self.image_shape[1:])}; got {size}."
            )

    @cached_property
    def filter_h(self) -> Tensor:
        return blur_matrix((1 / self.size,) * self.size, self.image_shape[1], self.border)

    @cached_property
    def filter_w(self) -> Tensor:
        return blur_matrix((1 / self.size,) * self.size, self.image_shape[2], self.border)


@dc.dataclass(frozen=True, eq=False)
class FFTBlur(LinearOperator):
    r"""Circular convolution with any kernel, $A x = F^*(\hat k \odot F x)$.

    The kernel's centre is its pixel `(height // 2, width // 2)`. The singular values are
    $|\hat k|$; frequencies at which it is at most `RCOND` of its largest are not inverted.

    **Arguments:**
    - `kernel`: real, `(kernel height, kernel width)`, no larger than the image; a tensor or a NumPy
      array, kept as a float64 tensor.

    **Shapes:** `y` is shaped as `x`.
    **Raises:** `SettingError` if the kernel is too large, not finite or all zero.
    """

    kernel: Tensor

    name: ClassVar[str] = "fft-blur"

    def __post_init__(self) -> None:
        super().__post_init__()
        kernel = as_tensor("FFTBlur", self.kernel)
        if kernel.ndim != 2 or not kernel.is_floating_point() or not kernel.numel():
            raise SettingError(
                "FFTBlur expects its kernel as a real floating-point tensor (height, width); got "
                f"{kernel.dtype} {tuple(kernel.shape)}."
            )
        if any(k > side for k, side in zip(kernel.shape, self.image_shape[1:], strict=True)):
            raise SettingError(
                f"FFTBlur expects a kernel no larger than the image {self.image_shape[1:]}; "
                f"got {tuple(kernel.shape)}. Crop the kernel."
            )
        low, high = map(float, kernel.double().aminmax())
        if not is_of_range(low, high):
            raise SettingError(
                "FFTBlur expects a kernel of finite numbers that are not all zero, the largest "
                f"from {SMALLEST:g} to {LARGEST:g}; got values from {low:g} to {high:g}."
            )
        object.__setattr__(self, "kernel", kernel.detach().cpu().double().clone())

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return self.image_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self._filter(x, "_spectrum")

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._filter(y, "_conjugate")

    def _pinv(self, y: Tensor) -> Tensor:
        return self._filter(to_double(y), "_inverse").to(y.dtype)

    def solve_gram(self, y: Measurement) -> Measurement:
        return self._filter(to_double(y), "_gram_inverse").to(y.dtype)

    def naive(self, y: MeasurementLike) -> Image:
        """The blurred image itself."""
        return self._check_measurement(y)

    def singular_values(self) -> Tensor:
        values = self._magnitude.flatten().sort(descending=True).values
        return values.repeat_interleave(self.image_shape[0])

    def _filter(self, x: Tensor, name: str) -> Tensor:
        single_or_double = torch.promote_types(x.dtype, torch.float32)
        spectrum = self._cast(name, x.device, single_or_double.to_complex())
        filtered = torch.fft.fft2(x.to(single_or_double)) * spectrum
        return torch.fft.ifft2(filtered).real.to(x.dtype)

    @property
    def _derived_bytes(self) -> int:
        return 16 * math.prod(self.image_shape[1:])

    @cached_property
    def _spectrum(self) -> Tensor:
        height, width = self.kernel.shape
        canvas = torch.zeros(self.image_shape[1:], dtype=torch.float64, device="cpu")
        canvas[:height, :width] = self.kernel
        return torch.fft.fft2(canvas.roll((-(height // 2), -(width // 2)), dims=(0, 1)))

    @property
    def _magnitude(self) -> Tensor:
        return self._spectrum.abs()

    @property
    def _conjugate(self) -> Tensor:
        return self._spectrum.conj().resolve_conj()

    @property
    def _inverse(self) -> Tensor:
        return truncated_inverse(self._spectrum, float(self._magnitude.max()))

    @property
    def _gram_inverse(self) -> Tensor:
        return self._inverse.abs().square()


def blur_matrix(taps: Taps, side: int, border: Border) -> Tensor:
    """Convolution of one axis with `taps`: `(side, side)`, float64."""
    offsets = len(taps) // 2 - torch.arange(len(taps), device="cpu")
    index = torch.arange(side, device="cpu")[:, None] + offsets
    folded = index % side if border == "circular" else mirrored(index, side)
    weights = torch.as_tensor(taps, dtype=torch.float64, device="cpu").expand(side, -1)
    return filter_matrix(folded, weights, side)


def _check_border(who: str, border: str) -> None:
    if border not in get_args(Border):
        raise SettingError(f"{who} expects border 'mirror' or 'circular'; got {border!r}.")
