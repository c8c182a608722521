"""Loading, cropping and saving of photographs and masks; all image formats are handled here."""

from __future__ import annotations

import dataclasses as dc
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image as Pillow
from PIL import ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from iagan.errors import ImageFileError, OutputError, SettingError
from iagan.files import write_atomically
from iagan.types import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of the image files searched for in a folder."""

MAX_PIXELS = 100_000_000
"""Maximum number of pixels of an image; larger ones are mostly decompression bombs."""

# Pillow decodes these itself; for others, whatever the file is called, it would run a program
# (Ghostscript for EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")


@dc.dataclass(frozen=True)
class Crop:
    """The square of a photograph that a generator expects, before resizing to its size.

    Applies to photographs of exactly `photo_size`; others use the centred square.

    **Arguments:** (pixels; x to the right, y downward)
    - `photo_size`: `(width, height)` of an aligned photograph, (178, 218) for CelebA.
    - `center`: `(x, y)` of the centre of the square.
    - `side`: side of the square.
    """

    photo_size: tuple[int, int]
    center: tuple[int, int]
    side: int


def load_image(path: str | os.PathLike[str]) -> Image:
    """One photograph as float32 `(1, 3, h, w)` in [0, 1].

    Rotated by its EXIF tag. Grey, palette, 16-bit and CMYK images become RGB; transparency is
    composited on white; the first frame of an animation is used.

    **Raises:** `ImageFileError`: missing, not an image, truncated, above `MAX_PIXELS`, or deeper
    than 16 bits, where the white level is undefined.
    """
    source = Path(path)
    return _to_tensor(_decode(source, "an image (PNG, JPEG, WebP, BMP or TIFF)"), str(source))


def save_image(
    image: Image, path: str | os.PathLike[str], text: Mapping[str, str] | None = None
) -> None:
    """One image `(1, 3 or 1, h, w)` as an 8-bit PNG, clamped to [0, 1], written atomically.

    **Arguments:**
    - `text`: text chunks by keyword, read back by `png_text`.

    **Raises:** `OutputError` for another suffix or an unwritable path; `SettingError`
    for several images at once, or for NaN.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise OutputError(f"Images are saved as .png; got {target}. Name it {target.stem}.png.")
    if image.shape[0] != 1 or image.shape[1] not in (1, 3):
        raise SettingError(
            f"save_image expects one image (1, 1 or 3, h, w); got {tuple(image.shape)}. "
            "Save a batch image by image."
        )
    if bool(image.isnan().any()):
        raise SettingError(f"The image for {target} holds NaN, which no PNG can; nothing written.")
    encoded = encode_png(image, text)
    write_atomically(target, lambda stream: stream.write(encoded))


def encode_png(image: Image, text: Mapping[str, str] | None = None) -> bytes:
    """One image `(1, 3 or 1, h, w)`, clamped to [0, 1], as an 8-bit PNG with text chunks."""
    pixels = (image[0].detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    chunks = PngInfo()
    for keyword, value in (text or {}).items():
        chunks.add_itxt(keyword, value)
    picture = Pillow.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())
    stream = io.BytesIO()
    picture.save(stream, format="PNG", pnginfo=chunks)
    return stream.getvalue()


def png_text(path: str | os.PathLike[str], keyword: str) -> str | None:
    """A text chunk of a PNG; None if missing or unreadable."""
    try:
        with Pillow.open(path, formats=("PNG",)) as picture:
            value = picture.info.get(keyword)
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError):
        return None
    return str(value) if isinstance(value, str) else None


def load_mask(path: str | os.PathLike[str], size: tuple[int, int]) -> Bool[Tensor, "height width"]:
    """A mask of `size` (height, width) from a .npy of booleans or 0/1, or an image (white: true).

    **Raises:** `ImageFileError` when it cannot be read, has another size or other values.
    """
    source = Path(path)
    is_array = source.suffix.lower() == ".npy"
    mask = _mask_from_array(source) if is_array else _mask_from_image(source)
    if mask.shape != size:
        raise ImageFileError(
            f"{source}: a mask of {size[1]}×{size[0]} pixels was expected; got "
            f"{'×'.join(map(str, reversed(mask.shape)))}. Make it for the prior's size."
        )
    return torch.from_numpy(mask)


def crop_square(
    photo: Float[Tensor, "batch channel rows columns"],
    box: Sequence[int] | None,
    crop: Crop | None,
    size: tuple[int, int],
) -> Image:
    """The square of `photo` to be recovered, resized to `size` (height, width).

    **Arguments:**
    - `box`: `(left, top, side)` in pixels, or None for `default_square`.
    - `crop`: the square that the prior expects.

    Resized by an anti-aliased bicubic filter and clamped to [0, 1].
    **Raises:** `SettingError` for a box that is not inside the photograph.
    """
    height, width = photo.shape[-2:]
    left, top, side = box if box is not None else default_square(photo, crop)
    if side < 1 or left < 0 or top < 0 or left + side > width or top + side > height:
        raise SettingError(
            f"A square LEFT,TOP,SIDE inside the image of {width}×{height} pixels was expected; got "
            f"{left},{top},{side}. Choose a smaller one."
        )
    square = photo[..., top : top + side, left : left + side]
    if (side, side) == tuple(size):
        return square
    resized = torch.nn.functional.interpolate(
        square, size=tuple(size), mode="bicubic", antialias=True, align_corners=False
    )
    return resized.clamp(0, 1)


def default_square(photo: Image, crop: Crop | None) -> tuple[int, int, int]:
    """`(left, top, side)`: the prior's square of an aligned photograph, else the centred one."""
    height, width = photo.shape[-2:]
    if crop is not None and (width, height) == crop.photo_size:
        half = crop.side // 2
        return crop.center[0] - half, crop.center[1] - half, crop.side
    side = min(height, width)
    return (width - side) // 2, (height - side) // 2, side


def find_images(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files among `paths` and the images in its folders, sorted by name.

    Hidden files in folders, such as macOS's `._x.jpg`, are skipped.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            images += sorted(each for each in path.iterdir() if _is_listed(each))
        else:
            images.append(path)
    return images


def _is_listed(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def astronaut() -> Image:
    """Eileen Collins's official portrait (NASA, public domain), aligned as CelebA's photographs."""
    with resources.as_file(resources.files("iagan") / "data" / "astronaut.png") as path:
        return load_image(path)


def decode_rgb(source: IO[bytes] | Path, name: str) -> Pillow.Image:
    """An open file or path as an upright 8-bit RGB picture; `name` is for the error.

    **Raises:** `ImageFileError`.
    """
    picture = _open(source, name, "an image (PNG, JPEG, WebP, BMP or TIFF)")
    if _is_deep(picture):
        picture = Pillow.fromarray((_deep_grey(picture, name) * 255).round().astype(np.uint8))
    return _to_rgb(picture)


def _decode(path: Path, expected: str) -> Pillow.Image:
    return _open(path, str(path), expected)


def _open(source: IO[bytes] | Path, name: str, expected: str) -> Pillow.Image:
    """A decoded picture, or an `ImageFileError`; Pillow's own pixel limit only warns."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(source, formats=FORMATS) as picture:
                if picture.size[0] * picture.size[1] > MAX_PIXELS:
                    raise Pillow.DecompressionBombError
                picture.load()
                return ImageOps.exif_transpose(picture)
    except Pillow.DecompressionBombError:
        raise ImageFileError(
            f"{name} has more than {MAX_PIXELS} pixels. Scale it down first."
        ) from None
    except FileNotFoundError:
        raise ImageFileError(f"{name}: there is no such file. Check the path.") from None
    except Exception as error:  # Pillow's decoders raise nearly anything for a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageFileError(
            f"{name} is not {expected} that can be read: {reason}. Convert or replace it."
        ) from error


def _to_rgb(picture: Pillow.Image) -> Pillow.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = Pillow.new("RGBA", layered.size, (255, 255, 255, 255))
        return Pillow.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")


def _to_tensor(picture: Pillow.Image, name: str) -> Image:
    if _is_deep(picture):
        pixels = np.repeat(_deep_grey(picture, name)[..., None], 3, axis=2)
    else:
        pixels = np.asarray(_to_rgb(picture), dtype=np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def _is_deep(picture: Pillow.Image) -> bool:
    return picture.mode.startswith(("I", "F"))


def _deep_grey(picture: Pillow.Image, name: str) -> np.ndarray:
    """16-bit grey, possibly stored in 32 bits, over 65535; Pillow's conversion would clip it."""
    values = np.asarray(picture)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ImageFileError(
            f"{name} holds {values.dtype} numbers beyond 16-bit grey. "
            "Save it as a PNG of 8 or 16 bits."
        )
    return values.astype(np.float32) / 65535


def _mask_from_image(path: Path) -> np.ndarray:
    picture = _decode(path, "a mask (an image or .npy)")
    if _is_deep(picture):
        return _deep_grey(picture, str(path)) > 0.5
    return np.asarray(_to_rgb(picture).convert("L")) > 127


def _mask_from_array(path: Path) -> np.ndarray:
    expected = "a .npy of booleans or of 0 and 1, two-dimensional"
    try:
        # A memory map does not allocate what a forged header claims.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ImageFileError(f"{path}: there is no such file. Check the path.") from None
    except (OSError, ValueError, EOFError) as error:
        raise ImageFileError(
            f"{path}: {expected} was expected; got {error}. Save it again."
        ) from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "biuf":
        raise ImageFileError(f"{path}: {expected} was expected; got something else. Save it again.")
    if not np.isin(values, (0, 1)).all():
        raise ImageFileError(
            f"{path}: {expected} was expected; got other values. Threshold it first."
        )
    return values.astype(bool)
