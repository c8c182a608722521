"""Operators of operators: compositions, sums and stacks."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from iagan.errors import SettingError, ShapeError
from iagan.operators.base import LinearOperator
from iagan.operators.deepinv_bridge import as_operator
from iagan.types import Image, MeasurementLike

Kind = TypeVar("Kind", bound="OfParts")


@dc.dataclass(frozen=True, eq=False)
class OfParts(LinearOperator):
    """An operator made of other operators; by default the last one measures the image and the first
    one returns y.
    """

    image_shape: tuple[int, int, int] = dc.field(init=False)
    parts: tuple[LinearOperator, ...]

    def __post_init__(self) -> None:
        who, parts = type(self).__name__, self.parts
        if not isinstance(parts, tuple | list) or not parts:
            raise SettingError(f"{who} expects a tuple of operators; got {parts!r:.80}.")
        operators = self._as_operators(parts)
        object.__setattr__(self, "parts", operators)
        object.__setattr__(self, "image_shape", operators[-1].image_shape)
        super().__post_init__()

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return self.parts[0].measurement_shape

    @property
    def complex_valued(self) -> bool:
        return self.parts[0].complex_valued

    def caveats(self) -> list[str]:
        """The caveats of all parts."""
        return [line for part in self.parts for line in part.caveats()]

    def to(self: Kind, device: torch.device | str) -> Kind:
        return dc.replace(self, parts=tuple(part.to(device) for part in self.parts))

    @property
    def _tolerance(self) -> float:
        return max(part._tolerance for part in self.parts)

    @property
    def _device(self) -> torch.device:
        devices = [part._device for part in self.parts]
        return next((device for device in devices if device.type != "cpu"), devices[-1])

    def _as_operators(self, parts: Sequence[Any]) -> tuple[LinearOperator, ...]:
        """The parts; a deepinv physics takes images of the first operator's shape."""
        shape = next((part.image_shape for part in parts if isinstance(part, LinearOperator)), None)
        return tuple(as_operator(part, shape) for part in parts)

    def _check_same_image(self) -> None:
        for part in self.parts:
            if part.image_shape != self.image_shape:
                raise ShapeError(
                    f"{type(self).__name__} expects operators on images of the same shape; got "
                    f"{part.image_shape} and {self.image_shape}."
                )


@dc.dataclass(frozen=True, eq=False)
class Compose(OfParts):
    r"""The composition $A_1 A_2 \cdots A_k$; the last of `parts` is applied first. Made by `A @ B`.

    A camera blurs, then downsamples: `BicubicDownsample(shape, 4) @ UniformBlur(shape)`.
    A† is computed by iteration (see `pinv`).

    **Arguments:**
    - `parts`: operators; the (real) measurement of each is the image of the one to its left.

    **Shapes:** `x` has the image shape of the last part, `y` the measurement shape of the first.
    **Raises:** `ShapeError` if a measurement does not have the shape of the next image.
    """

    name: ClassVar[str] = "compose"

    def __post_init__(self) -> None:
        super().__post_init__()
        for outer, inner in zip(self.parts, self.parts[1:], strict=False):
            if inner.complex_valued or inner.measurement_shape != outer.image_shape:
                kind = "complex" if inner.complex_valued else "real"
                raise ShapeError(
                    f"Compose expects {type(inner).__name__} to return real images of shape "
                    f"{outer.image_shape}, as {type(outer).__name__} expects; got {kind} "
                    f"measurements of shape {inner.measurement_shape}."
                )

    def _as_operators(self, parts: Sequence[Any]) -> tuple[LinearOperator, ...]:
        """The parts; a deepinv physics takes images of the shape that the next part measures."""
        operators = [as_operator(parts[-1])]
        for part in reversed(parts[:-1]):
            operators.insert(0, as_operator(part, operators[0].measurement_shape))
        return tuple(operators)

    def _forward(self, x: Tensor) -> Tensor:
        for part in reversed(self.parts):
            x = part._forward(x)
        return x

    def _adjoint(self, y: Tensor) -> Tensor:
        for part in self.parts:
            y = part._adjoint(y)
        return y

    def naive(self, y: MeasurementLike) -> Image:
        """The naive baselines of the parts, applied in turn from the first part to the last."""
        x = self._check_measurement(y)
        for part in self.parts:
            x = part.naive(x)
        return x


@dc.dataclass(frozen=True, eq=False)
class Sum(OfParts):
    r"""$A_1 + A_2 + \cdots$, of operators with the same shapes. Made by `A + B` and `A - B`.

    A† is computed by iteration (see `pinv`).

    **Arguments:**
    - `parts`: operators on images of one shape to measurements of one shape, all real or all
      complex.

    **Raises:** `ShapeError` if the shapes differ.
    """

    name: ClassVar[str] = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_same_image()
        kinds = [(part.measurement_shape, part.complex_valued) for part in self.parts]
        other = next((kind for kind in kinds if kind != kinds[0]), None)
        if other is not None:
            described = (f"{'complex' if z else 'real'} {shape}" for shape, z in (kinds[0], other))
            raise ShapeError(
                "Sum expects operators with measurements of the same shape, all real or all "
                f"complex; got {' and '.join(described)}."
            )

    def _forward(self, x: Tensor) -> Tensor:
        total = self.parts[0]._forward(x)
        for part in self.parts[1:]:
            total = total + part._forward(x)
        return total

    def _adjoint(self, y: Tensor) -> Tensor:
        total = self.parts[0]._adjoint(y)
        for part in self.parts[1:]:
            total = total + part._adjoint(y)
        return total


@dc.dataclass(frozen=True, eq=False)
class Stack(OfParts):
    r"""Several measurements of one image, such as two exposures.

    y concatenates the parts' measurements, flattened; a complex number becomes its real and its
    imaginary part. `join` and `split` convert. A† is computed by iteration (see `pinv`).

    **Arguments:**
    - `parts`: operators on images of one shape; real and complex ones may be mixed.

    **Shapes:** `y` is `(batch, m)`, real, with m the sum of the parts' m.
    **Raises:** `ShapeError` if their image shapes differ.
    """

    name: ClassVar[str] = "stack"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_same_image()

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (sum(part.m for part in self.parts),)

    @property
    def complex_valued(self) -> bool:
        return False

    def join(self, measurements: Sequence[Tensor | np.ndarray]) -> Tensor:
        """Concatenate the parts' measurements, `(batch, *part.measurement_shape)`, to y.

        **Raises:** `ShapeError`, also for a wrong number of measurements or different batch sizes.
        """
        if len(measurements) != len(self.parts):
            raise ShapeError(
                f"Stack.join expects {len(self.parts)} measurements, one per part; got "
                f"{len(measurements)}."
            )
        checked = [
            part._check_measurement(y) for part, y in zip(self.parts, measurements, strict=True)
        ]
        sizes = [len(y) for y in checked]
        if len(set(sizes)) > 1:
            raise ShapeError(f"Stack.join expects equal batch sizes; got {sizes}.")
        return torch.cat([_reals(y) for y in checked], dim=1)

    def split(self, y: MeasurementLike) -> list[Tensor]:
        """The measurement of each part; the inverse of `join`."""
        return self._split(self._check_measurement(y))

    def _forward(self, x: Tensor) -> Tensor:
        return torch.cat([_reals(part._forward(x)) for part in self.parts], dim=1)

    def _adjoint(self, y: Tensor) -> Tensor:
        pairs = zip(self.parts, self._split(y), strict=True)
        images = [part._adjoint(piece) for part, piece in pairs]
        return torch.stack(images).sum(dim=0)

    def _split(self, y: Tensor) -> list[Tensor]:
        pieces = y.split([part.m for part in self.parts], dim=1)
        return [_shaped(part, piece) for part, piece in zip(self.parts, pieces, strict=True)]


def _reals(y: Tensor) -> Tensor:
    return (torch.view_as_real(y) if y.is_complex() else y).flatten(1)


def _shaped(part: LinearOperator, y: Tensor) -> Tensor:
    """The `(batch, m)` real numbers of a part's measurement, reshaped to the measurement."""
    if not part.complex_valued:
        return y.unflatten(1, part.measurement_shape)
    pairs = y.unflatten(1, (*part.measurement_shape, 2))
    return torch.complex(pairs[..., 0], pairs[..., 1])
