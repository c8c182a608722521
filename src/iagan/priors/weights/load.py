"""A checkpoint of any known kind → a Generator."""

from __future__ import annotations

from pathlib import Path

from iagan.priors.generator import Generator
from iagan.priors.weights.began import BEGAN_LAYOUTS
from iagan.priors.weights.convert import convert
from iagan.priors.weights.native import load_stored
from iagan.priors.weights.pggan import PGGAN_LAYOUTS
from iagan.priors.weights.readers import is_safetensors, read_tensors

LAYOUTS = (*BEGAN_LAYOUTS, *PGGAN_LAYOUTS)


def load_checkpoint(path: Path) -> Generator:
    """The generator in a file, recognised by its contents; on the CPU, in float32.

    **Raises:** `CheckpointError`, in one line, for a file that cannot be read or is none of ours.
    """
    if is_safetensors(path):
        return load_stored(path)
    return convert(read_tensors(path), LAYOUTS, path)
