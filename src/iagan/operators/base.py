"""The linear operator A of y = A x + e, as every method sees it."""

from __future__ import annotations

import abc
import dataclasses as dc
import math
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from iagan.errors import SettingError, ShapeError
from iagan.types import Image, Measurement

Self = TypeVar("Self", bound="LinearOperator")


@dc.dataclass(frozen=True, eq=False)
class LinearOperator(abc.ABC):
    r"""A linear map from images to measurements, $y = A x$.

    A subclass is a frozen dataclass whose fields are its configuration. It implements `_forward`,
    `_adjoint`, `solve_gram` and `measurement_shape`; the public methods check shapes first.
    Values are never changed: `to` returns another operator. Device and dtype follow the input.

    **Arguments:**
    - `image_shape`: `(channels, height, width)` of the images that it measures.
    """

    image_shape: tuple[int, int, int]

    name: ClassVar[str] = ""
    """The word in specs and on the command line; a concrete class sets it."""

    complex_valued: ClassVar[bool] = False
    """Whether y is complex. Its real and imaginary parts then count as two measurements each."""

    def __post_init__(self) -> None:
        shape = tuple(int(side) for side in self.image_shape)
        if len(shape) != 3 or min(shape) < 1:
            raise SettingError(
                f"{type(self).__name__} wants image_shape as three positive integers "
                f"(channels, height, width); got {self.image_shape!r}."
            )
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

    def spec(self) -> dict[str, Any]:
        """A JSON object from which `iagan.operators.from_spec` makes the same operator again."""
        raise SettingError(
            f"{type(self).__name__} cannot be written as JSON; rebuild it in your program instead."
        )

    @classmethod
    def _from_spec(cls: type[Self], spec: Mapping[str, Any]) -> Self:
        """Invert `spec`. Raise SettingError, KeyError, TypeError or ValueError when it is bad."""
        raise SettingError(f"{cls.__name__} cannot be made from JSON.")

    # -- what every caller uses ---------------------------------------------------------------

    @property
    def n(self) -> int:
        """Number of unknowns: channels · height · width."""
        return math.prod(self.image_shape)

    @property
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
        return self._adjoint(self.solve_gram(y))

    def naive(self, y: Measurement) -> Image:
        """The paper's baseline for this task; A† y unless the field has a simpler habit."""
        return self.pinv(y)

    def norm(self) -> float:
        """The largest singular value, or an upper bound of it."""
        values = self.singular_values()
        if values is None:
            raise NotImplementedError(f"{type(self).__name__} must implement norm().")
        return float(values[0])

    def to(self: Self, device: torch.device | str) -> Self:
        """The same operator with its tensors on `device`."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in dc.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dc.replace(self, **moved) if moved else self

    # -- checks -------------------------------------------------------------------------------

    def _check_measurement(self, y: Tensor) -> None:
        self._check(y, self.measurement_shape, "gives measurements of shape", self.complex_valued)

    def _check(
        self, tensor: Tensor, shape: tuple[int, ...], what: str, complex_valued: bool
    ) -> None:
        wanted = f"(batch, {', '.join(map(str, shape))})"
        if tuple(tensor.shape[1:]) != shape or tensor.ndim != len(shape) + 1:
            raise ShapeError(
                f"{type(self).__name__} {what} {wanted}; got {tuple(tensor.shape)}. "
                "Resize or crop first, or build the operator for this size."
            )
        if tensor.is_complex() != complex_valued or not (
            tensor.is_floating_point() or tensor.is_complex()
        ):
            kind = "complex" if complex_valued else "real floating-point"
            raise ShapeError(
                f"{type(self).__name__} {what} {wanted} in a {kind} dtype; got {tensor.dtype}. "
                "Convert the tensor first."
            )
