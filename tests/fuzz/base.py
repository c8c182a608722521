"""What a kind of trial is."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable
from pathlib import Path
from random import Random

NAMES = ["case"] * 30 + ["\x1b]0;x\x07", "a\nb", "é" * 100, "\udcff"]


@dc.dataclass(frozen=True)
class Kind:
    """How an input is made and read.

    **Arguments:**
    - `weight`: share of the trials, in percent.
    - `make`: writes an input into the folder, and gives the path that is read.
    - `reads`: whatever reads such a path.
    """

    weight: int
    make: Callable[[Random, Path], Path]
    reads: tuple[Callable[[Path], object], ...]


def put(rng: Random, folder: Path, suffix: str, data: bytes | str) -> Path:
    """Write an input, now and then by a name that a terminal or an encoding minds."""
    path = folder / f"{rng.choice(NAMES)}{suffix}"
    path.write_bytes(data if isinstance(data, bytes) else data.encode(errors="backslashreplace"))
    return path
