"""Loading, cropping and saving of photographs."""

from __future__ import annotations

import dataclasses as dc
import io
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from iagan.decode import darkness, decode, deep_grey, is_deep, log_notes
from iagan.errors import ImageFileError, OutputError, SettingError, shown
from iagan.files import is_folder, open_regular, write_atomically
from iagan.limits import LIMITS, Limits
from iagan.types import Image, ImageLike

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff"),
    *(".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Suffixes of image files that are searched for in folders."""


@dc.dataclass(frozen=True)
class Crop:
    """The square of an aligned photograph that a generator expects, before resizing.

    Applies to photographs of exactly `photo_size`; from others, the centred square is used.

    **Arguments:** (pixels; x to the right, y downward)
    - `photo_size`: `(width, height)` of an aligned photograph, (178, 218) for CelebA.
    - `center`: `(x, y)` of the centre of the square.
    - `side`: side of the square.
    """

    photo_size: tuple[int, int]
    center: tuple[int, int]
    side: int


def load_image(path: str | os.PathLike[str], limits: Limits = LIMITS) -> Image:
    """One photograph as float32 `(1, 3, h, w)` in [0, 1], sRGB.

    Rotated according to its EXIF tag, and converted to sRGB by its colour profile. Grey, palette
    and CMYK images become RGB; only the first frame of an animation is read. 16-bit grey keeps its
    16 bits, floating-point grey in [0, 1] its values; 16-bit colours are reduced to 8 bits.
    Transparency is blended with white. Losses and assumptions are logged to the logger `iagan`.

    **Arguments:**
    - `limits`: `pixels` bounds the image, and its file to 8 bytes per pixel. Reading takes about 15
      bytes per pixel.

    **Raises:** `ImageFileError`, one line, if the file is missing, not a regular file, not an
    image, truncated, above the limit, or has values outside the range from black to white.
    """
    name = str(path)
    picture, notes = decode(path, name, limits)
    image = torch.empty(1, 3, picture.height, picture.width, dtype=torch.float32, device="cpu")
    if is_deep(picture):
        grey = deep_grey(picture, name)
        del picture
        notes += darkness(grey)
        image[:] = torch.from_numpy(grey)
    else:
        pixels = np.asarray(picture).transpose(2, 0, 1)
        del picture
        np.divide(pixels, np.float32(255), out=image[0].numpy(), dtype=np.float32)
    log_notes(name, notes)
    return image


def save_image(
    image: ImageLike, path: str | os.PathLike[str], text: Mapping[str, str] | None = None
) -> None:
    """One image `(1, 3 or 1, h, w)` as an 8-bit PNG, clamped to [0, 1], written atomically.

    **Arguments:**
    - `text`: text chunks by keyword, read back by `png_text`.

    **Raises:** `OutputError` for another suffix or an unwritable path; `SettingError`
    for several images at once, or for NaN.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise OutputError(
            f"save_image expects a .png; got {shown(target)}. Name it {shown(target.stem)}.png."
        )
    image = torch.as_tensor(image)
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] not in (1, 3):
        raise SettingError(
            f"save_image expects one image (1, 1 or 3, h, w); got {tuple(image.shape)}. "
            "Save a batch image by image."
        )
    if bool(image.isnan().any()):
        raise SettingError(
            f"save_image expects an image without NaN for {shown(target)}; nothing was written."
        )
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
        with open_regular(path) as stream, Pillow.open(stream, formats=("PNG",)) as picture:
            value = picture.info.get(keyword)
    except Exception:  # Pillow may raise anything for a damaged file
        return None
    return str(value) if isinstance(value, str) else None


def crop_square(
    photo: Float[Tensor, "batch channel rows columns"],
    box: Sequence[int] | None,
    crop: Crop | None,
    size: tuple[int, int],
) -> Image:
    """Crop `photo` to a square and resize it to `size` (height, width).

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
            f"crop expects a square LEFT,TOP,SIDE inside the image of {width}×{height} pixels; got "
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

    Hidden files in folders, such as macOS's `._x.jpg`, are skipped. How many other files and
    folders in them are skipped is logged, but for .npz files.

    **Raises:** `ImageFileError` for a folder that cannot be read.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if not is_folder(path):
            images.append(path)
            continue
        inside = [each for each in _listed(path) if not each.name.startswith(".")]
        found = [each for each in inside if is_image_name(each) and each.is_file()]
        images += found
        others = [each for each in inside if each not in set(found) and each.suffix != ".npz"]
        _log_skipped(path, others)
    return images


def images_in(folder: Path) -> list[Path]:
    """The images of one folder, as in `find_images`, without logging skipped files."""
    return [each for each in _listed(folder) if is_image_name(each) and each.is_file()]


def is_image_name(path: Path) -> bool:
    """Whether a file with this name counts as an image in a folder."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise ImageFileError(
            f"{shown(folder)}: the folder cannot be read: {error.strerror}. Check its permissions, "
            "or choose another."
        ) from error


def _log_skipped(folder: Path, others: list[Path]) -> None:
    folders = sum(each.is_dir() for each in others)
    kinds = sorted({shown(each.suffix, 12) or "no suffix" for each in others if not each.is_dir()})
    files = len(others) - folders
    one, more = "file that is not a regular image file", "files that are not regular image files"
    named = shown(", ".join(kinds), 60)
    parts = [f"{files} {one if files == 1 else more} ({named})"] if files else []
    parts += [f"{folders} {'subfolder' if folders == 1 else 'subfolders'}"] if folders else []
    if parts:
        log_notes(str(folder), [f"skipped {' and '.join(parts)}."])


def astronaut() -> Image:
    """Eileen Collins's official portrait (NASA, public domain), aligned like CelebA's images."""
    with resources.as_file(resources.files("iagan") / "data" / "astronaut.png") as path:
        return load_image(path)
