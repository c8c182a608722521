"""A checkpoint of any known kind → a Generator."""

from __future__ import annotations

from pathlib import Path

from iagan.generators.base import Generator
from iagan.generators.layouts import convert
from iagan.generators.layouts_began import BEGAN_LAYOUTS
from iagan.generators.layouts_pggan import PGGAN_LAYOUTS
from iagan.generators.reading import is_safetensors, read_tensors
from iagan.generators.store import load_stored

LAYOUTS = (*BEGAN_LAYOUTS, *PGGAN_LAYOUTS)


def load_checkpoint(path: Path) -> Generator:
    """The generator in a file, recognised by its contents; on the CPU, in float32.

    **Raises:** `CheckpointError`, in one line, for a file that cannot be read or is none of ours.
    """
    if is_safetensors(path):
        return load_stored(path)
    return convert(read_tensors(path), LAYOUTS, path)
