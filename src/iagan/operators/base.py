"""The interface of linear operators, the A of y = A x + e."""

from __future__ import annotations

import abc
import dataclasses as dc
import math
import numbers
from functools import cached_property
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from iagan.errors import ShapeError
from iagan.operators.checks import as_tensor, check_returned, image_shape_for
from iagan.operators.encoding import encode
from iagan.operators.linalg import (
    largest_singular_value,
    pseudoinverse,
    to_double,
    widest_real_dtype,
)
from iagan.types import Image, ImageLike, Measurement, MeasurementLike, PerImage

Self = TypeVar("Self", bound="LinearOperator")


def squared_norms(y: Measurement) -> PerImage:
    """Sum of squares of each image's measurements, `(batch,)`."""
    real = torch.view_as_real(y) if y.is_complex() else y
    return real.flatten(1).square().sum(1)


@dc.dataclass(frozen=True, eq=False)
class LinearOperator(abc.ABC):
    r"""A linear map from images to measurements, $y = A x$.

    Operators compose: `A @ B` (B first), `A + B`, `A - B`, `2.0 * A`, `-A`. B may be a deepinv
    physics.

    A subclass implements `_forward`, `_adjoint` and `measurement_shape`; the public methods check
    shapes and convert NumPy arrays first. Its options are fields of a frozen dataclass. If it has a
    closed form, it overrides `_pinv`, `solve_gram` and `singular_values`; the first two iterate by
    default. Device and dtype follow the input: tensors derived from the fields (matrices, SVDs) are
    cached on the CPU in float64, and once for each device and dtype in use. Caches are not part of
    the value: only the fields are pickled.

    **Arguments:**
    - `image_shape`: `(channels, height, width)` of the images x.
    """

    image_shape: tuple[int, int, int]

    name: ClassVar[str] = ""
    """Name in specs and on the command line; set by a concrete class."""

    def __post_init__(self) -> None:
        shape = image_shape_for(type(self).__name__, self.image_shape)
        object.__setattr__(self, "image_shape", shape)

    # -- implemented by a subclass ------------------------------------------------------------

    @property
    @abc.abstractmethod
    def measurement_shape(self) -> tuple[int, ...]:
        """Shape of one image's y, without the batch."""

    @abc.abstractmethod
    def _forward(self, x: Tensor) -> Tensor:
        """A x of checked images, `(batch, *image_shape)`, in their dtype and on their device."""

    @abc.abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y of checked measurements, `(batch, *measurement_shape)`; always real."""

    def _pinv(self, y: Tensor) -> Tensor:
        """A† y by `least_squares` in double precision, to `_tolerance`, in at most 1000 steps."""
        x = pseudoinverse(self._forward, self._adjoint, to_double(y), self._tolerance)
        return x.to(y.real.dtype)

    def solve_gram(self, y: Measurement) -> Measurement:
        r"""$(A A^\top)^{+} y = (A^\top)^\dagger A^\dagger y$, by `least_squares`, for any y.

        Conjugate gradients on $A A^\top$ itself would diverge for a y outside the range of A.
        """
        x = self._pinv(to_double(y))
        return pseudoinverse(self._adjoint, self._forward, x, self._tolerance).to(y.dtype)

    def singular_values(self) -> Tensor | None:
        """All singular values, largest first, float64; None where they are expensive to compute."""
        return None

    def caveats(self) -> list[str]:
        """Warnings that the operator may not be as intended, one line each; none by default."""
        return []

    @property
    def complex_valued(self) -> bool:
        """Whether y is complex; its real and imaginary parts then count as two measurements."""
        return False

    # -- public interface ---------------------------------------------------------------------

    @property
    def n(self) -> int:
        """Number of unknowns: channels · height · width."""
        return math.prod(self.image_shape)

    @cached_property  # not a property: `m` is a field of Gaussian
    def m(self) -> int:
        """Number of real measurements of one image (a complex one counts twice)."""
        return math.prod(self.measurement_shape) * (2 if self.complex_valued else 1)

    def forward(self, x: ImageLike) -> Measurement:
        """A x: `(batch, *image_shape)`, real → `(batch, *measurement_shape)`."""
        x = self._check_image(x)
        return check_returned(self._forward, (len(x), *self.measurement_shape), self._forward(x))

    __call__ = forward

    def adjoint(self, y: MeasurementLike) -> Image:
        r"""Aᵀ y: `(batch, *measurement_shape)` → `(batch, *image_shape)`, real. Not the inverse.

        For a complex y it is the adjoint over the reals, $\operatorname{Re}(A^* y)$.
        """
        y = self._check_measurement(y)
        return check_returned(self._adjoint, (len(y), *self.image_shape), self._adjoint(y))

    def pinv(self, y: MeasurementLike) -> Image:
        r"""A† y = Aᵀ (A Aᵀ)⁻¹ y, the least-squares image of smallest norm (eq. 10).

        Singular values at or below `RCOND` of the largest count as zero. An operator without a
        closed form (most compositions, sums and stacks) iterates in double precision, until
        ‖Aᵀ(y − A x)‖ ≤ 1e-12 ‖Aᵀ y‖ or for 1000 steps: if A is so ill-conditioned that these do
        not suffice, the smallest singular values are effectively truncated.
        """
        return self._pinv(self._check_measurement(y))

    def misfit(self, x: ImageLike, y: MeasurementLike) -> PerImage:
        r"""$\|A x - y\|^2$ of every image, summed over its measurements: `(batch,)` (eq. 2).

        Its gradient with respect to x is $2 A^\top (A x - y)$. Neither higher derivatives nor the
        transforms of `torch.func` are guaranteed (`Gaussian` on a CPU has neither).

        **Raises:** `ShapeError`, also if the numbers of images and measurements differ.
        """
        x, y = self._check_image(x), self._check_measurement(y)
        if len(x) != len(y):
            raise ShapeError(
                f"{type(self).__name__}.misfit expects one measurement per image; got {len(x)} "
                f"images and {len(y)} measurements."
            )
        return self._misfit(x, y)

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        """The `misfit` of checked tensors; override it if A x − y and its adjoint can be computed
        faster together.
        """
        return squared_norms(self._forward(x) - y)

    def naive(self, y: MeasurementLike) -> Image:
        """The paper's naive baseline for this task; A† y unless a simpler one is customary."""
        return self.pinv(y)

    def norm(self) -> float:
        """The largest singular value, or an estimate if it is unknown.

        The estimate is the lower bound from 100 power iterations, plus 1 %.
        """
        values = self.singular_values()
        if values is not None:
            return float(values[0])
        rng = torch.Generator().manual_seed(0)
        x = torch.randn(1, *self.image_shape, generator=rng, device="cpu", dtype=torch.float32).to(
            self._device
        )
        return 1.01 * largest_singular_value(self._forward, self._adjoint, to_double(x))

    def spec(self) -> dict[str, Any]:
        """A JSON object from which `iagan.operators.from_spec` recreates the operator."""
        given = [field.name for field in dc.fields(self) if field.init]
        fields = {name: encode(getattr(self, name)) for name in given}
        return {"operator": self.name, **fields}

    def to(self: Self, device: torch.device | str) -> Self:
        """The operator for use on `device`: itself, since derived tensors follow the input."""
        torch.device(device)
        return self

    # -- algebra ------------------------------------------------------------------------------

    __array_ufunc__: ClassVar[None] = None  # makes NumPy scalars defer to __rmul__

    def __matmul__(self, other: Any) -> LinearOperator:
        """A @ B, B applied first: an operator, or a deepinv physics with an `img_size`."""
        return _algebra().compose(self, other)

    def __rmatmul__(self, other: Any) -> LinearOperator:
        return _algebra().compose(other, self)

    def __add__(self, other: Any) -> LinearOperator:
        """A + B, on images of the same shape, to measurements of the same shape and kind."""
        return _algebra().add(self, other)

    def __radd__(self, other: Any) -> LinearOperator:
        if isinstance(other, int) and other == 0:  # the start of `sum`
            return self
        return _algebra().add(other, self)

    def __sub__(self, other: Any) -> LinearOperator:
        return _algebra().add(self, other, sign=-1)

    def __rsub__(self, other: Any) -> LinearOperator:
        return _algebra().add(-self, other)

    def __mul__(self, factor: Any) -> LinearOperator:
        """2.0 * A or A * 2.0, for a finite real number other than 0."""
        is_number = isinstance(factor, numbers.Real)
        return _algebra().scale(self, float(factor)) if is_number else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> LinearOperator:
        is_number = isinstance(divisor, numbers.Real) and divisor != 0
        return self * (1 / float(divisor)) if is_number else NotImplemented

    def __neg__(self) -> LinearOperator:
        return _algebra().scale(self, -1.0)

    # -- caches -------------------------------------------------------------------------------

    def _cast(self, name: str, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
        """The derived tensor `name` on a device and in a dtype, cached."""
        key = (name, device, dtype)
        casts = self.__dict__.setdefault("_casts", {})
        if key not in casts:
            # A tensor created in inference mode could not be used in autograd later.
            with torch.inference_mode(False), torch.no_grad():
                casts[key] = getattr(self, name).to(dtype=dtype).to(device=device)
        return casts[key]

    def _double(self, name: str, y: Tensor) -> Tensor:
        """The derived tensor `name` in the widest real dtype of y's device."""
        return self._cast(name, y.device, widest_real_dtype(y.device))

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dc.fields(self)}

    # -- checks -------------------------------------------------------------------------------

    @property
    def _derived_bytes(self) -> int:
        """Bytes of the tensors derived from its fields, excluding those of its parts."""
        return 0

    @property
    def _tolerance(self) -> float:
        """Relative tolerance of the iterations in `_pinv` and `solve_gram`."""
        return 1e-12

    @property
    def _device(self) -> torch.device:
        """Device of the operator's own tensors, on which `norm` and the checks compute."""
        return torch.device("cpu")

    def _check_image(self, x: ImageLike) -> Tensor:
        return self._check(x, self.image_shape, "expects images of shape", complex_valued=False)

    def _check_measurement(self, y: MeasurementLike) -> Tensor:
        what = "expects measurements of shape"
        return self._check(y, self.measurement_shape, what, self.complex_valued)

    def _check(self, value: Any, shape: tuple[int, ...], what: str, complex_valued: bool) -> Tensor:
        tensor = as_tensor(type(self).__name__, value)
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
        return tensor


def _algebra() -> ModuleType:
    """Imported on use: compositions are operators themselves and import this module."""
    from iagan.operators import algebra

    return algebra
