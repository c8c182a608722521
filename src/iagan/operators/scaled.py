"""A multiple of an operator."""

from __future__ import annotations

import dataclasses as dc
import numbers
from typing import ClassVar

import torch
from torch import Tensor

from iagan.errors import SettingError, shown
from iagan.operators.base import LinearOperator
from iagan.operators.checks import LARGEST, SMALLEST, is_of_range
from iagan.operators.deepinv_bridge import as_operator
from iagan.types import Image, Measurement, MeasurementLike


@dc.dataclass(frozen=True, eq=False)
class Scaled(LinearOperator):
    r"""$s A$, whose A† and singular values follow from those of A. Made by `2.0 * A`.

    **Arguments:**
    - `base`: A.
    - `factor`: s, finite and not 0.

    **Shapes:** as for A.
    **Raises:** `SettingError` for another factor.
    """

    image_shape: tuple[int, int, int] = dc.field(init=False)
    base: LinearOperator
    factor: float

    name: ClassVar[str] = "scaled"

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", as_operator(self.base))
        object.__setattr__(self, "image_shape", self.base.image_shape)
        super().__post_init__()
        s = self.factor
        is_number = isinstance(s, numbers.Real) and not isinstance(s, bool)
        if not is_number or not is_of_range(s):
            raise SettingError(
                f"Scaled expects factor of magnitude {SMALLEST:g} to {LARGEST:g}, a finite number "
                f"other than 0; got {shown(repr(s), 40)}."
            )
        object.__setattr__(self, "factor", float(s))

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return self.base.measurement_shape

    @property
    def complex_valued(self) -> bool:
        return self.base.complex_valued

    def _forward(self, x: Tensor) -> Tensor:
        return self.factor * self.base._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.factor * self.base._adjoint(y)

    def _pinv(self, y: Tensor) -> Tensor:
        return self.base._pinv(y) / self.factor

    def solve_gram(self, y: Measurement) -> Measurement:
        return self.base.solve_gram(y) / self.factor**2

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        return self.factor**2 * self.base._misfit(x, y / self.factor)

    def naive(self, y: MeasurementLike) -> Image:
        """The naive baseline of A for y / s."""
        return self.base.naive(self._check_measurement(y) / self.factor)

    def singular_values(self) -> Tensor | None:
        values = self.base.singular_values()
        return None if values is None else abs(self.factor) * values

    def norm(self) -> float:
        """|s| times the norm of A."""
        return abs(self.factor) * self.base.norm()

    def caveats(self) -> list[str]:
        """The caveats of `base`."""
        return self.base.caveats()

    def to(self, device: torch.device | str) -> Scaled:
        return dc.replace(self, base=self.base.to(device))

    @property
    def _tolerance(self) -> float:
        return self.base._tolerance

    @property
    def _device(self) -> torch.device:
        return self.base._device
