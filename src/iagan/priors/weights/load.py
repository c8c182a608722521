"""Load a generator from a checkpoint of any known kind."""

from __future__ import annotations

from pathlib import Path

from iagan.limits import LIMITS, Limits
from iagan.priors.generator import Generator
from iagan.priors.weights.began import BEGAN_LAYOUTS
from iagan.priors.weights.convert import convert
from iagan.priors.weights.native import load_stored
from iagan.priors.weights.pggan import PGGAN_LAYOUTS
from iagan.priors.weights.readers import is_safetensors, read_tensors

LAYOUTS = (*BEGAN_LAYOUTS, *PGGAN_LAYOUTS)


def load_checkpoint(path: Path, limits: Limits = LIMITS) -> Generator:
    """The generator in a file, whose kind is recognised by its contents; on the CPU, in float32.

    **Raises:** `CheckpointError`, in one line, for a file that cannot be read, is of no known kind,
    or exceeds `limits`.
    """
    if is_safetensors(path, limits):
        return load_stored(path, limits=limits)
    return convert(read_tensors(path, limits), LAYOUTS, path)
