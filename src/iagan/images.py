"""Photographs and masks: load, crop, save. The only file that knows PNG and JPEG."""

from __future__ import annotations

import dataclasses as dc


@dc.dataclass(frozen=True)
class Crop:
    """Which square of a photograph a generator expects, before it is resized to its size.

    Applies to photographs of exactly `photo_size`; of all others the centred square is taken.

    **Arguments:** (pixels; x to the right, y downward)
    - `photo_size`: `(width, height)` of an aligned photograph, (178, 218) for CelebA.
    - `center`: `(x, y)` of the middle of the square.
    - `side`: side of the square.
    """

    photo_size: tuple[int, int]
    center: tuple[int, int]
    side: int
