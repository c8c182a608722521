"""Parsing of untrusted JSON and .npy within limits."""

from __future__ import annotations

import io
import json
import math
import sys
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from iagan.errors import shown
from iagan.limits import LIMITS, Limits

HEADER_BYTES = 4096
"""Maximum size of the header of a .npy; a plain array's takes 118 bytes."""


def parse_json(text: str | bytes, limits: Limits = LIMITS) -> Any:
    """The value of a JSON text of at most `limits.text_bytes` bytes, `limits.entries` values and
    `limits.nesting` levels.

    **Raises:** `ValueError`, one line, for a text that exceeds a limit or is not JSON.
    """
    if len(text) > limits.text_bytes:
        raise ValueError(f"{len(text)} bytes of JSON, above the limit of {limits.text_bytes}")
    marks: tuple[Any, ...] = (b",", b"[", b"{") if isinstance(text, bytes) else (",", "[", "{")
    if sum(map(text.count, marks)) > limits.entries:
        raise ValueError(f"more than {limits.entries} values in JSON, the limit")
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_nested(limits) from None
    except ValueError as error:
        raise ValueError(f"not JSON ({shown(error)})") from error
    level = [value]
    for _ in range(limits.nesting + 1):
        level = [part for one in level for part in _parts(one)]
        if not level:
            return value
    raise _too_nested(limits)


def _too_nested(limits: Limits) -> ValueError:
    return ValueError(f"JSON nested more than {limits.nesting} deep, the limit")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def read_array(
    stream: IO[bytes], kinds: str, most: int, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Read the array of a .npy, in native byte order, without running any code in it.

    **Arguments:**
    - `kinds`: accepted values of `dtype.kind`.
    - `most`: maximum size in bytes.
    - `shape`: required shape; None: any.

    **Raises:** `ValueError`, one line, if possible from the header before any value is read; any
    exception of `stream`.
    """
    head = io.BytesIO(stream.read(HEADER_BYTES))
    its_shape, by_columns, dtype = read_header(head)
    size = math.prod(its_shape) * dtype.itemsize
    if dtype.kind not in kinds or dtype.hasobject:
        raise ValueError(f"an array of {shown(dtype, 40)}, which is not accepted")
    if shape is not None and its_shape != shape:
        raise ValueError(f"an array of shape {its_shape} instead of {shape}")
    if size > most:
        raise ValueError(f"an array of {size} bytes, above the limit of {most}")
    values = np.empty(size, np.uint8)
    data = values.data
    filled = head.readinto(data)
    while filled < size and (chunk := stream.read(min(size - filled, 2**20))):
        data[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    if filled < size or head.read(1) or stream.read(1):
        raise ValueError(
            f"an array of {its_shape} with {'fewer' if filled < size else 'more'} data"
        )
    flat = values.view(dtype)
    if not dtype.isnative:
        flat = flat.byteswap(inplace=True).view(dtype.newbyteorder("="))
    if dtype.kind == "U" and size and flat.view(np.uint32).max() > sys.maxunicode:
        raise ValueError("a text with invalid characters")
    return flat.reshape(its_shape, order="F" if by_columns else "C")


def read_header(head: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy: shape, whether it is in Fortran order, and dtype.

    **Raises:** `ValueError`, one line.
    """
    try:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, by_columns, dtype = read[npy.read_magic(head)](head, max_header_size=HEADER_BYTES)
    except Exception as error:  # NumPy's literal parser may raise anything
        reason = shown(error) if isinstance(error, ValueError) else type(error).__name__
        raise ValueError(f"not a readable .npy ({reason})") from error
    if any(isinstance(side, bool) or not 0 <= side < 2**62 for side in shape):
        raise ValueError(f"an array of invalid shape {shown(shape, 80)}")
    return shape, by_columns, dtype
