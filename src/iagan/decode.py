"""Decoding of image files within limits; all format-specific code is here."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps, UnidentifiedImageError

from iagan.errors import ImageFileError, shown
from iagan.files import open_regular
from iagan.limits import LIMITS, Limits

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Accepted formats, all decoded by Pillow itself; for others it may run an external program
(Ghostscript for EPS), whatever the file's suffix."""

BYTES_PER_PIXEL = 8
"""Maximum file size per pixel of the limit, as for uncompressed 16-bit RGBA."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF, in both byte orders; with + a BigTIFF."""

TWELVE_BITS = 4095
WHITE = 65535

logger = logging.getLogger("iagan")

IMAGE = "an image (PNG, JPEG, WebP, BMP, TIFF, GIF or PPM)"


class Decoded(NamedTuple):
    """An upright image.

    - `picture`: 8-bit RGB, or grey of 16 bits or more (`is_deep`).
    - `notes`: losses and assumptions in decoding, one line each.
    """

    picture: Pillow.Image
    notes: tuple[str, ...]


def decode(
    source: IO[bytes] | str | os.PathLike[str],
    name: str,
    limits: Limits = LIMITS,
) -> Decoded:
    """Decode an open file or path to an upright image in sRGB; transparency is blended with white.

    **Arguments:**
    - `name`: name of the file in errors.

    **Raises:** `ImageFileError`.
    """
    picture, notes = read_picture(source, name, limits)
    if is_deep(picture):
        return Decoded(picture, tuple(notes))
    with refusing(name, IMAGE, limits):
        return Decoded(_to_rgb(picture, notes), tuple(notes))


def decode_rgb(
    source: IO[bytes] | str | os.PathLike[str], name: str, limits: Limits = LIMITS
) -> Pillow.Image:
    """Decode an open file or path to an upright 8-bit RGB image; `name` is used in errors.

    **Raises:** `ImageFileError`.
    """
    picture = decode(source, name, limits).picture
    if not is_deep(picture):
        return picture
    grey = (deep_grey(picture, name) * 255).round().astype(np.uint8)
    return Pillow.fromarray(grey).convert("RGB")


def read_picture(
    source: IO[bytes] | str | os.PathLike[str],
    name: str,
    limits: Limits = LIMITS,
    expected: str = IMAGE,
) -> tuple[Pillow.Image, list[str]]:
    """Decode an image of any mode, upright, with notes on losses in decoding.

    **Raises:** `ImageFileError`.
    """
    with refusing(name, expected, limits), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own pixel limit warns first
        if isinstance(source, str | os.PathLike):
            with open_regular(source) as stream:
                return _read(stream, limits)
        return _read(source, limits)


def _read(stream: IO[bytes], limits: Limits) -> tuple[Pillow.Image, list[str]]:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size > BYTES_PER_PIXEL * limits.pixels:
        raise Pillow.DecompressionBombError
    with _opened(stream) as picture:
        if picture.size[0] * picture.size[1] > limits.pixels:
            raise Pillow.DecompressionBombError
        stored = str([tile[-1] for tile in picture.tile])
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        cut = not is_deep(picture) and (";16" in stored or "65535" in stored)
        return picture, ["its 16-bit colours are reduced to 8 bits."] if cut else []


def _opened(stream: IO[bytes]) -> Pillow.Image:
    """`Pillow.open`, whose error for a TIFF of unsupported pixels is that for no image at all."""
    try:
        return Pillow.open(stream, formats=FORMATS)
    except UnidentifiedImageError:
        stream.seek(0)
        if stream.read(4) not in TIFF_STARTS:
            raise
        raise ValueError(
            "it is a TIFF whose pixel type is not supported, such as floating-point RGB, or a "
            "damaged one; save it as a PNG of 8 bits"
        ) from None


@contextlib.contextmanager
def refusing(name: str, expected: str, limits: Limits) -> Iterator[None]:
    """Convert any exception of a decoder to a one-line `ImageFileError`."""
    name = shown(name)
    try:
        yield
    except Pillow.DecompressionBombError:
        most = min(limits.pixels, 2 * (Pillow.MAX_IMAGE_PIXELS or limits.pixels))
        raise ImageFileError(
            f"{name} has more than {most} pixels. Downscale it first, or raise Limits.pixels."
        ) from None
    except FileNotFoundError:
        raise ImageFileError(f"{name}: no such file. Check the path.") from None
    except IsADirectoryError:
        raise ImageFileError(
            f"{name} is a folder; expected an image. Give the images in it: {name}/*.png."
        ) from None
    except UnidentifiedImageError:
        raise ImageFileError(
            f"{name} is not {expected}: its format is unknown. Convert or replace it."
        ) from None
    except Exception as error:  # Pillow's decoders may raise anything for a damaged file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageFileError(
            f"{name} cannot be read as {expected}: {shown(reason)}. Convert or replace it."
        ) from error


def has_alpha(picture: Pillow.Image) -> bool:
    """Whether the image may have transparent pixels."""
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def _to_rgb(picture: Pillow.Image, notes: list[str]) -> Pillow.Image:
    """Convert to 8-bit sRGB on white, without a copy if it already is."""
    profile = picture.info.get("icc_profile")
    if has_alpha(picture):
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    elif picture.mode not in ("RGB", "L", "CMYK"):
        picture = picture.convert("RGB")
    if isinstance(profile, bytes) and profile:
        picture = _to_srgb(picture, profile, notes)
    elif picture.mode == "CMYK":
        notes.append("its CMYK colours have no profile; the conversion is approximate.")
    if picture.mode == "RGBA":
        opaque = picture.getchannel("A").getextrema() == (255, 255)
        white = Pillow.new("RGB", picture.size, (255, 255, 255))
        white.paste(picture, mask=picture)
        notes += [] if opaque else ["its transparent pixels are blended with white."]
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _to_srgb(picture: Pillow.Image, profile: bytes, notes: list[str]) -> Pillow.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).startswith("sRGB"):
            return picture
        target = ImageCms.createProfile("sRGB")
        if picture.mode in ("RGB", "RGBA"):
            ImageCms.profileToProfile(picture, source, target, inPlace=True)
            return picture
        converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
        assert converted is not None  # not in place
        return converted
    except Exception:  # an invalid profile, or Pillow without LittleCMS
        notes.append("its colour profile is unusable; its colours are treated as sRGB.")
        return picture


def is_deep(picture: Pillow.Image) -> bool:
    """Whether the image is grey of more than 8 bits, which Pillow's own conversion would clip."""
    return picture.mode.startswith(("I", "F"))


def deep_grey(picture: Pillow.Image, name: str) -> np.ndarray:
    """16-bit grey (possibly stored in 32 bits) divided by 65535; floating-point grey unchanged.

    **Raises:** `ImageFileError` for other values, since their white level is unknown.
    """
    values = np.asarray(picture)
    white = 1 if values.dtype.kind == "f" else WHITE
    if not (values.min() >= 0 and values.max() <= white):  # NaN is refused too
        raise ImageFileError(
            f"{shown(name)} expects {values.dtype} values from 0 to {white} (white); got others. "
            "Save it as a PNG of 8 or 16 bits."
        )
    grey: np.ndarray = np.divide(values, np.float32(white), dtype=np.float32)
    return grey


def darkness(grey: np.ndarray) -> tuple[str, ...]:
    """A note if deep grey uses so little of its range that it seems to have fewer bits."""
    brightest = round(float(grey.max()) * WHITE)
    if not 0 < brightest <= TWELVE_BITS:
        return ()
    return (
        f"its brightest pixel is {brightest} of {WHITE}, nearly black. If it has 12 bits, "
        "multiply it by 16 first.",
    )


def log_notes(name: str, notes: Iterable[str]) -> None:
    """Log losses and assumptions in reading a file, as warnings."""
    for note in notes:
        logger.warning("%s: %s", shown(name), note)
