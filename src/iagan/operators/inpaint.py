"""Inpainting: only some pixels are measured."""

from __future__ import annotations

import dataclasses as dc
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from iagan.errors import SettingError
from iagan.operators.base import LinearOperator
from iagan.operators.checks import as_int, count_at, image_shape_for, mask_for
from iagan.types import Measurement

FEW = 0.25
"""Fraction of kept pixels below which `caveats` warns of an inverted mask."""


@dc.dataclass(frozen=True, eq=False)
class Inpaint(LinearOperator):
    """Keep the pixels where `mask` is true, the same ones in each channel.

    A Aᵀ is the identity, so A† y = Aᵀ y: the zero-filled image.

    **Arguments:**
    - `mask`: boolean tensor or NumPy array, `(height, width)`; true is measured.

    **Shapes:** `y` is `(batch, channels, kept pixels)`, row by row.
    **Raises:** `ShapeError` for a mask of another size, `SettingError` for an empty one.
    """

    mask: Tensor

    name: ClassVar[str] = "inpaint"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "mask", mask_for("Inpaint", self.mask, self.image_shape))

    @classmethod
    def random(cls, image_shape: tuple[int, int, int], ratio: float, seed: int) -> Inpaint:
        """Keep round(ratio · h · w) pixels drawn uniformly from `seed`."""
        sides = image_shape_for("Inpaint", image_shape)[1:]
        count = count_at("Inpaint", ratio, sides[0] * sides[1], "pixels")
        bits = np.random.Philox(as_int("Inpaint", "seed", seed, 0, 2**63 - 1))
        order = np.random.Generator(bits).random(sides[0] * sides[1]).argsort(kind="stable")
        mask = np.zeros(sides[0] * sides[1], dtype=bool)
        mask[order[:count]] = True
        return cls(image_shape, torch.from_numpy(mask.reshape(sides)))

    @classmethod
    def box(
        cls, image_shape: tuple[int, int, int], left: int, top: int, width: int, height: int
    ) -> Inpaint:
        """Mask out a box of `width` × `height` pixels with its upper left corner at (left, top)."""
        sides = image_shape_for("Inpaint", image_shape)[1:]
        left, top = as_int("Inpaint", "left", left, 0), as_int("Inpaint", "top", top, 0)
        width, height = as_int("Inpaint", "width", width, 1), as_int("Inpaint", "height", height, 1)
        if left + width > sides[1] or top + height > sides[0]:
            raise SettingError(
                f"Inpaint expects a box inside the image of {sides[1]}×{sides[0]} pixels; got one "
                f"of {width}×{height} at left {left}, top {top}."
            )
        mask = torch.ones(sides, dtype=torch.bool, device="cpu")
        mask[top : top + height, left : left + width] = False
        return cls(image_shape, mask)

    def caveats(self) -> list[str]:
        """A warning if the mask keeps so few pixels that it may be inverted."""
        kept = float(self.mask.float().mean())
        if kept >= FEW:
            return []
        return [
            f"the mask keeps {kept:.1%} of the pixels. If these are the hole, invert it (on the "
            "command line: exchange --mask and --hole)."
        ]

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.image_shape[0], self._kept)

    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(2)[..., self._cast("_index", x.device)]

    def _adjoint(self, y: Tensor) -> Tensor:
        canvas = y.new_zeros(*y.shape[:2], self.mask.numel())
        filled = canvas.index_copy(2, self._cast("_index", y.device), y)
        return filled.unflatten(2, self.image_shape[1:])

    def _pinv(self, y: Tensor) -> Tensor:
        return self._adjoint(y)

    def solve_gram(self, y: Measurement) -> Measurement:
        return y

    def singular_values(self) -> Tensor:
        return torch.ones(self.m, dtype=torch.float64, device="cpu")

    @property
    def _derived_bytes(self) -> int:
        return 9 * self.mask.numel()  # mask, and index of the kept pixels

    @cached_property  # apart from `_index`, which must not be made in inference mode
    def _kept(self) -> int:
        return int(self.mask.count_nonzero())

    @cached_property
    def _index(self) -> Tensor:
        return self.mask.flatten().nonzero().squeeze(1)
