"""Training images: load a folder, .tar or .zip into one uint8 tensor."""

from __future__ import annotations

import dataclasses as dc
import hashlib
import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image as Pillow
from torch import Tensor

from iagan.decode import decode_rgb
from iagan.engine import Event, EventCallback
from iagan.errors import ImageFileError, SettingError, shown
from iagan.images import SUFFIXES, Crop, crop_square
from iagan.limits import LIMITS, Limits
from iagan.train.members import Member, members
from iagan.types import Image

CHUNK = 512
"""Maximum number of images decoded at once."""

Pixels = UInt8[Tensor, "_count 3 _size _size"]


@dc.dataclass(frozen=True, eq=False)
class TrainImages:
    """The result of `load_images`.

    - `pixels`: `(count, 3, size, size)`, uint8.
    - `digest`: fingerprint of the files, to check that a run is resumed with the same images. It
      does not depend on the pixels, since resizing may round differently on another CPU.
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
    limits: Limits = LIMITS,
) -> TrainImages:
    """Read every image of `source`, cropped to a square and resized (antialiased) to `size`.

    Archives are read in place, without extraction. Files are sorted by name in a folder, and in the
    order of an archive. Links, folders and other suffixes are not opened. A file that cannot be
    decoded or exceeds the limits, and a folder that cannot be read, is skipped and listed.

    **Arguments:**
    - `crop`: square cropped from images of exactly its `photo_size`; from others, the centred
      square.
    - `on_event`: called with an `Event` of phase `"images"`, the number of files read, and total 0.
    - `limits`: `entries` bounds the number of files; `member_bytes` and `pixels` bound each file,
      and all files that are decoded at once.

    **Raises:** `ImageFileError` if `source` is missing, damaged, or not a folder, .tar or .zip;
    `SettingError` if it has fewer than two images, or `crop` exceeds an image.
    """
    kept: list[np.ndarray] = []
    skipped: list[str] = []
    digest = hashlib.blake2b(digest_size=16)
    Pillow.init()  # its formats register on first use, which is not thread-safe
    with ThreadPoolExecutor() as pool:
        for chunk in _chunks(members(source, limits), limits):
            for outcome in pool.map(lambda member: _try_decode(member, size, crop, limits), chunk):
                _sort_out(outcome, kept, skipped)
            for member in chunk:
                digest.update(hashlib.blake2b(member.data).digest())
            if on_event is not None:
                on_event(Event("images", len(kept) + len(skipped), 0))
    if len(kept) < 2:
        bad = f" ({len(skipped)} unreadable, first: {skipped[0]})" if skipped else ""
        raise SettingError(
            f"Training expects at least two images in {source}; got {len(kept)}{bad}. "
            f"Give a folder, .tar or .zip of images ({', '.join(SUFFIXES)})."
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


def _chunks(files: Iterable[Member], limits: Limits) -> Iterator[list[Member]]:
    """Groups of members to decode at once, with the bytes and pixels allowed for a single file."""
    chunk: list[Member] = []
    size = pixels = 0
    for member in files:
        size, pixels = size + len(member.data), pixels + member.pixels
        full = len(chunk) == CHUNK or size > limits.member_bytes or pixels > limits.pixels
        if full and chunk:
            yield chunk
            chunk, size, pixels = [], len(member.data), member.pixels
        chunk.append(member)
    if chunk:
        yield chunk


def _sort_out(outcome: np.ndarray | str, kept: list[np.ndarray], skipped: list[str]) -> None:
    if isinstance(outcome, str):
        skipped.append(outcome)
    else:
        kept.append(outcome)


def _try_decode(member: Member, size: int, crop: Crop | None, limits: Limits) -> np.ndarray | str:
    if member.problem:
        return f"{member.name}: {member.problem}"
    try:
        return _decode(member, size, crop, limits)
    except ImageFileError as error:
        return shown(error, 500)


class _File(io.BytesIO):
    """Bytes with the attributes of an open file, to satisfy the type annotation of `decode_rgb`."""

    mode = "rb"

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def _decode(member: Member, size: int, crop: Crop | None, limits: Limits) -> np.ndarray:
    picture = decode_rgb(_File(member.data, member.name), member.name, limits)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    # One channel at a time, since a large image takes four times its bytes in float32.
    squares = [
        crop_square(channel.float().div_(255), None, crop, (size, size))
        for channel in pixels.split(1, dim=1)
    ]
    return (torch.cat(squares, 1)[0] * 255).round().byte().contiguous().numpy()
