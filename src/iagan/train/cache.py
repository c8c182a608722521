"""Cache of a run's decoded images, for resuming."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from iagan.engine import EventCallback
from iagan.files import write_atomically
from iagan.train.base import TrainSettings
from iagan.train.data import TrainImages, load_images

KEY = "iagan_images"


def cached_images(
    source: Path,
    folder: Path,
    settings: TrainSettings,
    on_event: EventCallback | None = None,
) -> TrainImages:
    """The result of `load_images`, from `folder/images.safetensors` where that is still valid.

    The cache is valid for the same path, size and crop while no file of `source` has changed in
    size or time. `folder/skipped.txt` lists unreadable files.

    **Raises:** as `load_images`, and `OutputError` when `folder` cannot be written.
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
    with contextlib.suppress(OSError, SafetensorError, KeyError):
        return _read(path, origin)
    images = load_images(source, settings.size, settings.crop, on_event)
    note = json.dumps({"origin": origin, "digest": images.digest, "skipped": images.skipped})
    data = save({"pixels": images.pixels}, {KEY: note})
    write_atomically(path, lambda file: file.write(data))
    listing = "".join(f"{line}\n" for line in images.skipped).encode()
    write_atomically(folder / "skipped.txt", lambda file: file.write(listing))
    return images


def _read(path: Path, origin: str) -> TrainImages:
    with safe_open(path, "pt") as file:
        note = json.loads((file.metadata() or {})[KEY])
        if note["origin"] != origin:
            raise KeyError(origin)
        return TrainImages(file.get_tensor("pixels"), note["digest"], tuple(note["skipped"]))


def _stamp(source: Path) -> list[int]:
    """Count, total bytes and latest modification time of the files of `source`."""
    paths = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
    facts = [path.stat() for path in paths if path.exists()]
    return [
        len(facts),
        sum(fact.st_size for fact in facts),
        max((fact.st_mtime_ns for fact in facts), default=0),
    ]
