"""Cache of a run's decoded images, for resuming."""

from __future__ import annotations

import dataclasses as dc
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from iagan.engine import EventCallback
from iagan.files import write_atomically, write_text
from iagan.limits import LIMITS, MIB, Limits
from iagan.priors.weights.checks import check_header
from iagan.train.base import TrainSettings
from iagan.train.data import TrainImages, load_images

KEY = "iagan_images"
NOTE_BYTES = 8 * MIB
"""Maximum size of the metadata: about 80,000 skipped files."""


def cached_images(
    source: Path,
    folder: Path,
    settings: TrainSettings,
    on_event: EventCallback | None = None,
    limits: Limits = LIMITS,
) -> TrainImages:
    """The result of `load_images`, from `folder/images.safetensors` if that is still valid.

    The cache is valid for the same path, size and crop as long as no file of `source` has changed
    in size or time. `folder/skipped.txt` lists unreadable files.

    **Raises:** the errors of `load_images`, and `OutputError` if `folder` cannot be written.
    """
    path = folder / "images.safetensors"
    origin = json.dumps(
        [
            str(source.resolve()),
            _stamp(source),
            settings.size,
            settings.crop and dc.asdict(settings.crop),
        ]
    )
    cached = _read(path, origin, settings.size)
    if cached is not None:
        return cached
    images = load_images(source, settings.size, settings.crop, on_event, limits)
    note = json.dumps({"origin": origin, "digest": images.digest, "skipped": images.skipped})
    data = save({"pixels": images.pixels}, {KEY: note})
    listing = "".join(f"{line}\n" for line in images.skipped)
    write_text(folder / "skipped.txt", listing)  # before the cache, which spares this the next time
    write_atomically(path, lambda file: file.write(data))
    return images


def _read(path: Path, origin: str, size: int) -> TrainImages | None:
    """The cached images; None if there are none of this origin and size, or the file is damaged."""
    if not path.is_file():
        return None
    try:
        check_header(path, NOTE_BYTES)
        with safe_open(path, "pt") as file:
            note = json.loads(file.metadata()[KEY])
            _, *shape = file.get_slice("pixels").get_shape()
            if note["origin"] != origin or shape != [3, size, size]:
                return None
            pixels, digest = file.get_tensor("pixels"), note["digest"]
        skipped = tuple(str(line) for line in note["skipped"])
    except Exception:  # whatever the damage, the images can be read again
        return None
    valid = pixels.dtype == torch.uint8 and isinstance(digest, str)
    return TrainImages(pixels, digest, skipped) if valid else None


def _stamp(source: Path) -> list[int]:
    """Count, total bytes and latest modification time of the files of `source`."""
    paths = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
    stats = [path.stat() for path in paths if path.exists()]
    return [
        len(stats),
        sum(stat.st_size for stat in stats),
        max((stat.st_mtime_ns for stat in stats), default=0),
    ]
