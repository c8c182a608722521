"""The header of a safetensors file, measured before it is read."""

from __future__ import annotations

import struct
from pathlib import Path

from iagan.errors import CheckpointError


def check_header(path: Path, most: int) -> None:
    """Refuse a safetensors file whose header (names, types, shapes) exceeds `most` bytes.

    Parsing it takes 25 µs and 1 kB of memory for each tensor, however small.

    **Raises:** `CheckpointError`; `OSError` where the file cannot be read.
    """
    with path.open("rb") as file:
        length = file.read(8)
    (size,) = struct.unpack("<Q", length) if len(length) == 8 else (0,)
    if size > most:
        raise CheckpointError(f"{path} has a header of {size} bytes, above the limit of {most}.")
