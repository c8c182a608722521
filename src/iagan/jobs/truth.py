"""The true images that results are compared with."""

from __future__ import annotations

import os
from pathlib import Path

from iagan.errors import ImageFileError, ShapeError, shown
from iagan.files import is_folder
from iagan.images import Crop, crop_square, default_square, images_in, load_image
from iagan.limits import LIMITS, Limits
from iagan.types import Image

Box = tuple[int, int, int]


def truth_file(truth: Path, path: Path) -> Path:
    """`truth`, or in a folder of this name the image with the stem of `path`.

    **Raises:** `ImageFileError` if there is none.
    """
    if not is_folder(truth):
        return truth
    same = [each for each in images_in(truth) if each.stem == path.stem]
    if not same:
        raise ImageFileError(
            f"--truth {shown(truth)} has no image named {shown(path.stem)}.*; add it."
        )
    return same[0]


def load_truth(
    path: str | os.PathLike[str],
    square: Box | None,
    size: tuple[int, ...],
    crop: Crop | None = None,
    *,
    or_centred: bool = True,
    limits: Limits = LIMITS,
) -> Image:
    """Load the true image, cropped like the observation: `(1, 3, *size)`.

    An image that already has `size` is used unchanged if `square` is None.

    **Arguments:**
    - `square`: `(left, top, side)` of the observed square, in pixels, if known.
    - `size`: `(height, width)`.
    - `crop`: the prior's crop of aligned photographs.
    - `or_centred`: whether to use the centred square if neither is given.

    **Raises:** `ImageFileError`, `SettingError`; `ShapeError` if the square is unknown.
    """
    truth = load_image(path, limits)
    if tuple(truth.shape[-2:]) == tuple(size) and square is None:
        return truth
    if square is None and not or_centred:
        raise ShapeError(
            f"{shown(path)} is {truth.shape[-1]}×{truth.shape[-2]} and the image "
            f"{size[1]}×{size[0]}. Specify the observed square: --prior P or --crop "
            "LEFT,TOP,SIDE."
        )
    box = square or default_square(truth, crop)
    if box[2] < max(size):
        raise ImageFileError(
            f"A true image of {size[1]}×{size[0]} pixels is expected; got {shown(path)} with "
            f"{box[2]}×{box[2]} in the observed square. Give the original photograph."
        )
    return crop_square(truth, box, None, (size[0], size[1]))
