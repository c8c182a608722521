"""Masks of measured pixels or frequencies, loaded from an image or a .npy."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image as Pillow
from torch import Tensor

from iagan.decode import WHITE, deep_grey, has_alpha, is_deep, log_notes, read_picture, refusing
from iagan.errors import ImageFileError, shown
from iagan.files import open_regular
from iagan.limits import LIMITS, Limits
from iagan.parse import read_array


def load_mask(
    path: str | os.PathLike[str], size: tuple[int, int], limits: Limits = LIMITS
) -> Bool[Tensor, "height width"]:
    """Load a mask of `size` (height, width) from a .npy of booleans or 0/1, or from an image.

    Opaque pixels brighter than half are true; all others, also transparent ones, are false. An
    image with only the values 0 and 1 is read as such. This, and pixels that are neither black nor
    white, is logged.

    **Raises:** `ImageFileError` if it cannot be read, or has another size or other values.
    """
    source = Path(path)
    if source.suffix.lower() == ".npy":
        return torch.from_numpy(_mask_from_array(source, size))
    mask = _mask_from_image(source, limits)
    if mask.shape != size:
        raise ImageFileError(
            f"{shown(path)}: expected a mask of {size[1]}×{size[0]} pixels, the prior's size; got "
            f"{'×'.join(map(str, reversed(mask.shape)))}. Resize it."
        )
    return torch.from_numpy(mask)


def _mask_from_image(path: Path, limits: Limits) -> np.ndarray:
    name = str(path)
    expected = "a mask (an image or .npy)"
    picture, _ = read_picture(path, name, limits, expected)
    if is_deep(picture):
        grey, white, step = deep_grey(picture, name), 1, 1 / WHITE
    else:
        with refusing(name, expected, limits):
            grey, white, step = _opaque_grey(picture), 255, 1
    brightest = grey.max()
    if 0 < brightest <= step:
        log_notes(name, ["its values are 0 and 1; 1 counts as white."])
        return grey > 0
    between = int(((grey > 0) & (grey < white)).sum())
    if between:
        note = f"{between} of its {grey.size} pixels are neither black nor white"
        log_notes(name, [f"{note}; those brighter than half count as white."])
    return grey > white / 2


def _opaque_grey(picture: Pillow.Image) -> np.ndarray:
    """8-bit grey; transparent pixels are black."""
    if not has_alpha(picture):
        return np.asarray(picture.convert("RGB").convert("L"))
    layered = picture.convert("RGBA")
    return np.minimum(np.asarray(layered.convert("L")), np.asarray(layered.getchannel("A")))


def _mask_from_array(path: Path, size: tuple[int, int]) -> np.ndarray:
    expected = f"a .npy of booleans or of 0 and 1, {size[1]}×{size[0]} pixels"
    try:
        with open_regular(path) as stream:
            values = read_array(stream, "biuf", 16 * math.prod(size), size)
    except FileNotFoundError:
        raise ImageFileError(f"{shown(path)}: no such file. Check the path.") from None
    except (OSError, ValueError) as error:
        raise ImageFileError(
            f"{shown(path)}: expected {expected}; got {shown(error)}. Save it again."
        ) from error
    if not ((values == 0) | (values == 1)).all():
        raise ImageFileError(
            f"{shown(path)}: expected {expected}; got other values. Threshold it first."
        )
    return values.astype(bool)
