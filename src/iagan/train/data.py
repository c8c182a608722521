"""Images for training: a folder, .tar or .zip becomes one uint8 tensor."""

from __future__ import annotations

import dataclasses as dc
import functools
import hashlib
import io
import itertools
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image as Pillow
from torch import Tensor

from iagan.engine import Event, EventCallback
from iagan.errors import ImageFileError, SettingError
from iagan.images import SUFFIXES, Crop, crop_square, decode_rgb
from iagan.types import Image

MAX_BYTES = 64 * 2**20
CHUNK = 512

Pixels = UInt8[Tensor, "_count 3 _size _size"]
Member = tuple[str, bytes | Exception]


@dc.dataclass(frozen=True, eq=False)
class TrainImages:
    """The result of `load_images`.

    - `pixels`: `(count, 3, size, size)`, uint8.
    - `digest`: fingerprint of the files, to check that a run is resumed with the same images. (Not
      of the pixels: resizing may round differently on another CPU.)
    - `skipped`: one line per unreadable image file.
    """

    pixels: Pixels
    digest: str
    skipped: tuple[str, ...] = ()


def load_images(
    source: Path,
    size: int,
    crop: Crop | None = None,
    on_event: EventCallback | None = None,
) -> TrainImages:
    """Read every image of `source`, cropped to a square and resized (antialiased) to `size`.

    Archives are read in place, without extraction. Files are sorted by name in a folder, and in the
    order of an archive. Links, folders, other suffixes and members above
    64 MiB are not opened. A file that cannot be decoded is skipped and listed.

    **Arguments:**
    - `crop`: square cut from images of exactly its `photo_size`; from others, the centred square.
    - `on_event`: called with an `Event` of phase `"images"`, the number of files read, and total 0.

    **Raises:** `ImageFileError` when `source` is missing, damaged, or not a folder, .tar or .zip;
    `SettingError` when it holds fewer than two images, or `crop` reaches beyond one.
    """
    kept: list[np.ndarray] = []
    skipped: list[str] = []
    digest = hashlib.blake2b(digest_size=16)
    members = _members(source)
    Pillow.init()  # its formats register on first use, which is not thread-safe
    with ThreadPoolExecutor() as pool:
        while chunk := list(itertools.islice(members, CHUNK)):
            for outcome in pool.map(lambda member: _try_decode(member, size, crop), chunk):
                _sort_out(outcome, kept, skipped)
            for _, data in chunk:
                digest.update(hashlib.blake2b(data if isinstance(data, bytes) else b"").digest())
            if on_event is not None:
                on_event(Event("images", len(kept) + len(skipped), 0))
    if len(kept) < 2:
        first = f", first: {skipped[0]}" if skipped else ""
        raise SettingError(
            f"Training expects at least two images in {source}; got {len(kept)} ({len(skipped)} "
            f"unreadable{first}). Name a folder, .tar or .zip of images ({', '.join(SUFFIXES)})."
        )
    return TrainImages(torch.from_numpy(np.stack(kept)), digest.hexdigest(), tuple(skipped))


def batch_at(pixels: Pixels, step: int, batch: int, seed: int, *, flip: bool = True) -> Image:
    """The training batch of `step`, in [-1, 1], on the device of `pixels`; a pure function.

    Each epoch is a random permutation of all images; a batch may straddle two epochs.
    """
    count = len(pixels)
    positions = range(step * batch, (step + 1) * batch)
    orders = {
        epoch: torch.randperm(count, generator=stream(seed, epoch, "order"))
        for epoch in {position // count for position in positions}
    }
    picked = torch.stack([orders[p // count][p % count] for p in positions])
    x = pixels[picked.to(pixels.device)].float() / 127.5 - 1
    if not flip:
        return x
    mirrored = (torch.rand(batch, generator=stream(seed, step, "flip")) < 0.5).to(x.device)
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def stream(
    seed: int, step: int, purpose: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """The random stream for one purpose at one step, independent of all others."""
    key = hashlib.blake2b(f"{seed}/{step}/{purpose}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(key, "little") >> 1)


def _sort_out(outcome: np.ndarray | str, kept: list[np.ndarray], skipped: list[str]) -> None:
    if isinstance(outcome, str):
        skipped.append(outcome)
    else:
        kept.append(outcome)


def _try_decode(member: Member, size: int, crop: Crop | None) -> np.ndarray | str:
    name, data = member
    if isinstance(data, Exception):
        return f"{name}: {' '.join(str(data).split())}"
    try:
        return _decode(name, data, size, crop)
    except ImageFileError as error:
        return str(error)


class _File(io.BytesIO):
    """Bytes with what else an open file has, and `decode_rgb` is annotated to take."""

    mode = "rb"

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def _decode(name: str, data: bytes, size: int, crop: Crop | None) -> np.ndarray:
    picture = np.array(decode_rgb(_File(data, name), name)).transpose(2, 0, 1)[None]
    square = crop_square(torch.from_numpy(picture).float() / 255, None, crop, (size, size))
    return (square[0] * 255).round().byte().contiguous().numpy()


def _members(source: Path) -> Iterator[Member]:
    try:
        if source.is_dir():
            yield from _in_folder(source)
        elif zipfile.is_zipfile(source):
            yield from _in_zip(source)
        elif source.is_file() and tarfile.is_tarfile(source):
            yield from _in_tar(source)
        else:
            what = "something else" if source.exists() else "nothing there"
            raise ImageFileError(
                f"Training expects a folder, .tar or .zip of images; {source} is {what}. "
                "Check the path."
            )
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ImageFileError(f"Cannot read {source}: {error}. Copy or pack it again.") from error


def _wanted(name: str, size: int) -> bool:
    file = Path(name)
    hidden = file.name.startswith(".")  # macOS leaves ._x.jpg beside x.jpg
    return file.suffix.lower() in SUFFIXES and not hidden and 0 < size <= MAX_BYTES


def _in_folder(folder: Path) -> Iterator[Member]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and _wanted(path.name, path.stat().st_size):
            yield str(path.relative_to(folder)), _try_read(path.read_bytes)


def _in_tar(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            if info.isreg() and _wanted(info.name, info.size):
                file = archive.extractfile(info)
                assert file is not None  # a regular member
                yield info.name, file.read()


def _in_zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir() and _wanted(info.filename, info.file_size):
                yield info.filename, _try_read(functools.partial(archive.read, info))


def _try_read(read: Callable[[], bytes]) -> bytes | Exception:
    try:
        return read()
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # A RuntimeError when the member is encrypted.
        return error
