"""The error added to a measurement by its image file: rounding, and JPEG quantisation."""

from __future__ import annotations

import math
import os

import numpy as np
from PIL import Image as Pillow

from iagan.decode import FORMATS, IMAGE, is_deep, refusing
from iagan.files import open_regular
from iagan.limits import LIMITS, Limits

BLOCK = 8
"""Side of a JPEG block in pixels."""
MOST = 128 * BLOCK
"""Longest side that is analysed, in pixels."""
FREQUENCY = np.hypot(*np.mgrid[:BLOCK, :BLOCK]).ravel()
"""Frequency of each coefficient of a block, in half periods per block."""
FALL = 2.0
"""Exponent of the coefficients' decay with frequency, tuned on validation faces of 16 to 128 px at
qualities 30 to 95."""

SHARE = 0.75
"""Fraction of the error of a JPEG's luma that counts as noise.

The residual of the true image includes the detail that a JPEG lacks, that of a smooth image does
not; and the error of its colour, stored at half the size, is large but smooth. With the whole error
as σ, colour included, validation faces at ×4 lose 0.3 to 1.0 dB; with 0.35 to 0.75 of the luma's,
less than 0.2 (qualities 30 to 95, 64 and 128 px)."""


def rounding_std(path: str | os.PathLike[str], limits: Limits = LIMITS) -> float:
    r"""Standard deviation of the error that the file adds to each pixel, for images in [0, 1].

    Rounding to b bits: $1 / (\sqrt{12}\,(2^b - 1))$. A JPEG's error is estimated from its
    quantisation tables and its own coefficients: those not rounded to zero have the mean square
    rounding error $q^2 / 12$; those rounded to zero follow a Laplace distribution whose scale is
    determined by the fraction of the others. The luma counts alone, and `SHARE` of its error.

    **Raises:** `ImageFileError` if it is not a readable image.
    """
    with (
        refusing(str(path), IMAGE, limits),
        open_regular(path) as stream,
        Pillow.open(stream, formats=FORMATS) as picture,
    ):
        if picture.width * picture.height > limits.pixels:
            raise Pillow.DecompressionBombError
        rounding = 1 / (math.sqrt(12) * (65535 if is_deep(picture) else 255))
        tables = getattr(picture, "quantization", None)
        if not tables:
            return rounding
        return math.hypot(rounding, SHARE * _jpeg_std(_middle(picture), tables[min(tables)]) / 255)


def _middle(picture: Pillow.Image) -> Pillow.Image:
    """Complete blocks from the middle of a large image, which are representative of it."""
    sides = [(side, min(side, MOST)) for side in picture.size]
    left, top = ((side - part) // 2 // BLOCK * BLOCK for side, part in sides)
    return picture.crop((left, top, left + sides[0][1], top + sides[1][1]))


def _jpeg_std(picture: Pillow.Image, table: list[int]) -> float:
    """Standard deviation of the error of a JPEG's luma, where white is 255."""
    luma = np.asarray(picture.convert("L"), dtype=np.float64) - 128
    return math.sqrt(_channel_variance(luma, np.maximum(table, 1.0)))  # 0: a forged table


def _channel_variance(values: np.ndarray, table: np.ndarray) -> float:
    """Mean square error of a channel's pixels, which equals that of its blocks' coefficients."""
    scales = _scales(values, table)
    share = np.exp(-table / (2 * scales))
    zeroed = _truncated_laplace_variance(scales, table / 2)
    each = share * table**2 / 12 + (1 - share) * zeroed
    each[0] = table[0] ** 2 / 12  # the DC coefficient has the plain rounding error
    return float(np.mean(each))


def _scales(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Laplace scales of the 64 coefficients, decaying with frequency as in natural images, that
    match the number of nonzero coefficients of this channel.
    """
    height, width = (-(-side // BLOCK) * BLOCK for side in values.shape)
    padded = np.pad(values, ((0, height - values.shape[0]), (0, width - values.shape[1])), "edge")
    rows = padded.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    blocks = rows.transpose(0, 2, 1, 3).reshape(-1, BLOCK, BLOCK)
    cosines = _cosines()
    coefficients = np.abs(cosines @ blocks @ cosines.T).reshape(len(blocks), -1)
    kept = float((coefficients > table / 2)[:, 1:].sum()) / len(blocks)
    shape = (1 + FREQUENCY) ** -FALL
    low, high = 1e-3, 1e5
    for _ in range(60):  # bisection: the expected number grows with the scale
        middle = math.sqrt(low * high)
        expected = np.exp(-table / (2 * middle * shape))[1:].sum()
        low, high = (middle, high) if expected < max(kept, 0.1) else (low, middle)
    return np.asarray(low * shape)


def _truncated_laplace_variance(scale: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Mean square of a Laplace variable of this scale, given that it is below `bound`."""
    ratio = bound / scale
    tail = np.exp(-ratio)
    return scale**2 * (2 - tail * (ratio**2 + 2 * ratio + 2)) / (1 - tail)


def _cosines() -> np.ndarray:
    """Matrix of the orthonormal DCT-II of 8 values, `(8, 8)`."""
    k, n = np.arange(BLOCK)[:, None], np.arange(BLOCK)[None]
    matrix = np.cos(np.pi * (2 * n + 1) * k / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return np.asarray(matrix)
