"""The linear operator A of y = A x + e, as every method sees it."""

from __future__ import annotations

import abc
import dataclasses as dc
import math
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from iagan.errors import ShapeError
from iagan.operators.checks import image_shape_for
from iagan.operators.encoding import encode
from iagan.types import Image, Measurement, PerImage

Self = TypeVar("Self", bound="LinearOperator")

RCOND = 1e-10
"""Singular values at or below this fraction of the largest count as zero in A†, everywhere."""


def wide(device: torch.device) -> torch.dtype:
    """The widest real dtype of a device: float64, but float32 on Apple's GPU."""
    return torch.float32 if device.type == "mps" else torch.float64


def truncated_inverse(values: Tensor, largest: float) -> Tensor:
    """1/s where |s| exceeds `RCOND` of the largest singular value, else 0."""
    kept = values.abs() > RCOND * largest
    return torch.where(kept, 1 / torch.where(kept, values, 1), 0)


def squared_norms(y: Measurement) -> PerImage:
    """Sum of squares of each image's measurements, `(batch,)`."""
    real = torch.view_as_real(y) if y.is_complex() else y
    return real.flatten(1).square().sum(1)


@dc.dataclass(frozen=True, eq=False)
class LinearOperator(abc.ABC):
    r"""A linear map from images to measurements, $y = A x$.

    A subclass is a frozen dataclass whose fields are its whole configuration. It implements
    `_forward`, `_adjoint`, `solve_gram` and `measurement_shape`; the public methods check shapes
    first. Device and dtype follow the input: what an operator derives from its fields (matrices,
    SVDs) it caches on the CPU in float64, and per device and dtype as it is used. Caches are no
    part of the value: a pickle holds the fields alone.

    **Arguments:**
    - `image_shape`: `(channels, height, width)` of the images that it measures.
    """

    image_shape: tuple[int, int, int]

    name: ClassVar[str] = ""
    """The word in specs and on the command line; a concrete class sets it."""

    def __post_init__(self) -> None:
        shape = image_shape_for(type(self).__name__, self.image_shape)
        object.__setattr__(self, "image_shape", shape)

    # -- what a subclass gives ----------------------------------------------------------------

    @property
    @abc.abstractmethod
    def measurement_shape(self) -> tuple[int, ...]:
        """Shape of one image's y, without the batch."""

    @abc.abstractmethod
    def _forward(self, x: Tensor) -> Tensor: ...

    @abc.abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor: ...

    @abc.abstractmethod
    def solve_gram(self, y: Measurement) -> Measurement:
        r"""$(A A^\top)^{+} y$: the one hook from which `pinv` is made."""

    def singular_values(self) -> Tensor | None:
        """All singular values, largest first, float64; None where they are not cheap to know."""
        return None

    @property
    def complex_valued(self) -> bool:
        """Whether y is complex. Its real and imaginary parts then count as two measurements."""
        return False

    # -- what every caller uses ---------------------------------------------------------------

    @property
    def n(self) -> int:
        """Number of unknowns: channels · height · width."""
        return math.prod(self.image_shape)

    @cached_property  # not a property: `m` is a field of Gaussian
    def m(self) -> int:
        """Number of real measurements of one image (a complex one counts twice)."""
        return math.prod(self.measurement_shape) * (2 if self.complex_valued else 1)

    def forward(self, x: Image) -> Measurement:
        """A x: `(batch, *image_shape)`, real → `(batch, *measurement_shape)`."""
        self._check(x, self.image_shape, "measures images of shape", complex_valued=False)
        return self._forward(x)

    __call__ = forward

    def adjoint(self, y: Measurement) -> Image:
        r"""Aᵀ y: `(batch, *measurement_shape)` → `(batch, *image_shape)`, real. Not the inverse.

        For a complex y it is the adjoint over the reals, $\operatorname{Re}(A^* y)$.
        """
        self._check_measurement(y)
        return self._adjoint(y)

    def pinv(self, y: Measurement) -> Image:
        r"""A† y = Aᵀ (A Aᵀ)⁻¹ y, the least-squares image of smallest norm (eq. 10)."""
        self._check_measurement(y)
        return self._pinv(y)

    def _pinv(self, y: Tensor) -> Tensor:
        """A subclass overrides it where a direct way loses fewer digits than the Gram matrix."""
        return self._adjoint(self.solve_gram(y))

    def misfit(self, x: Image, y: Measurement) -> PerImage:
        r"""$\|A x - y\|^2$ of every image, summed over its measurements: `(batch,)` (eq. 2).

        Its first derivative by x is $2 A^\top (A x - y)$; an operator need not know more of it, nor
        the transforms of `torch.func` (`Gaussian` on a CPU does not).

        **Raises:** `ShapeError` also when there are not as many images as measurements.
        """
        self._check(x, self.image_shape, "measures images of shape", complex_valued=False)
        self._check_measurement(y)
        if len(x) != len(y):
            raise ShapeError(
                f"{type(self).__name__}.misfit expects a measurement of every image; got {len(x)} "
                f"images and {len(y)} measurements."
            )
        return self._misfit(x, y)

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        """A subclass overrides it where A x − y and its adjoint take less time together."""
        return squared_norms(self._forward(x) - y)

    def naive(self, y: Measurement) -> Image:
        """The paper's baseline for this task; A† y unless the field has a simpler habit."""
        return self.pinv(y)

    def norm(self) -> float:
        """The largest singular value, or an upper bound of it."""
        values = self.singular_values()
        if values is None:
            raise NotImplementedError(f"{type(self).__name__} must implement norm().")
        return float(values[0])

    def spec(self) -> dict[str, Any]:
        """A JSON object from which `iagan.operators.from_spec` makes the same operator again."""
        fields = {field.name: encode(getattr(self, field.name)) for field in dc.fields(self)}
        return {"operator": self.name, **fields}

    def to(self: Self, device: torch.device | str) -> Self:
        """The operator for use on `device`: itself, since what it derives follows the input."""
        torch.device(device)
        return self

    # -- caches -------------------------------------------------------------------------------

    def _cast(self, name: str, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
        """The derived tensor `name` on a device and in a dtype, kept for the next call."""
        key = (name, device, dtype)
        casts = self.__dict__.setdefault("_casts", {})
        if key not in casts:
            # A tensor born in inference mode could never be used for training afterwards.
            with torch.inference_mode(False), torch.no_grad():
                casts[key] = getattr(self, name).to(dtype=dtype).to(device=device)
        return casts[key]

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dc.fields(self)}

    # -- checks -------------------------------------------------------------------------------

    def _check_measurement(self, y: Tensor) -> None:
        self._check(y, self.measurement_shape, "gives measurements of shape", self.complex_valued)

    def _check(
        self, tensor: Tensor, shape: tuple[int, ...], what: str, complex_valued: bool
    ) -> None:
        expected = f"(batch, {', '.join(map(str, shape))})"
        if tuple(tensor.shape[1:]) != shape or tensor.ndim != len(shape) + 1:
            raise ShapeError(
                f"{type(self).__name__} {what} {expected}; got {tuple(tensor.shape)}. "
                "Resize or crop first, or build the operator for this size."
            )
        if tensor.is_complex() != complex_valued or not (
            tensor.is_floating_point() or tensor.is_complex()
        ):
            kind = "complex" if complex_valued else "real floating-point"
            raise ShapeError(
                f"{type(self).__name__} {what} {expected} in a {kind} dtype; got {tensor.dtype}. "
                "Convert the tensor first."
            )
