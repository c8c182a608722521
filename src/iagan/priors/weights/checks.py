"""Checks of files of weights: of the file before it is read, and of the tensors in it."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from iagan.errors import CheckpointError, shown
from iagan.limits import MIB, Limits

Tensors = dict[str, Tensor]

ENTRY_BYTES = 256
"""Bytes of a header for one tensor: its name, type, shape and place."""
_DTYPES = {torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8}
_DTYPES |= {torch.int8, torch.int16, torch.int32, torch.int64}


@contextlib.contextmanager
def as_checkpoint_error(path: Path, kind: str) -> Iterator[None]:
    """Turn what a reader raises into one line. A broken file can make it raise anything."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} is refused: {error}. Save the weights alone, as a state dict."
        ) from error
    except Exception as error:
        reason = shown(str(error).partition("\n")[0], 120).rstrip(".")
        raise CheckpointError(
            f"{path} is truncated or broken: it begins as a {kind}, but reading it failed with "
            f"{type(error).__name__}: {reason}. Fetch the file again."
        ) from error


def read_head(path: Path, limits: Limits) -> bytes:
    """The first 64 bytes of a regular file that is not larger than weights may be.

    **Raises:** `CheckpointError`.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            reason = "it is a folder, a pipe or a device"
        else:
            _check_size(path, path.stat().st_size, limits)
            with path.open("rb") as stream:
                return stream.read(64)
    except OSError as error:
        reason = error.strerror or str(error)
    raise CheckpointError(f"Cannot read the checkpoint {path}: {reason}. Give the path of a file.")


def check_header(path: Path, most: int) -> None:
    """Refuse a safetensors file whose header (names, types, shapes) exceeds `most` bytes.

    Parsing it takes 25 µs and 1 kB of memory for each tensor, however small.

    **Raises:** `CheckpointError`; `OSError` where the file cannot be read.
    """
    with path.open("rb") as file:
        length = file.read(8)
    (size,) = struct.unpack("<Q", length) if len(length) == 8 else (0,)
    if size > most:
        raise CheckpointError(f"its header takes {size} bytes, above the limit of {most}")


def check_declared(tensors: int, size: int, limits: Limits) -> None:
    """Refuse more tensors or bytes than `limits` admit, before they are read.

    **Raises:** `CheckpointError`.
    """
    if tensors > limits.tensors:
        raise CheckpointError(f"it holds {tensors} tensors, above the limit of {limits.tensors}")
    if size > limits.weight_bytes:
        raise CheckpointError(
            f"its tensors take {size} bytes, above the limit of {limits.weight_bytes}"
        )


def check_tensors(tensors: Mapping[str, Tensor], limits: Limits) -> None:
    """Refuse what is no plain tensor of numbers, or takes too much once it is contiguous.

    **Raises:** `CheckpointError`.
    """
    for name, value in tensors.items():
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_nested
        if not plain or value.dtype not in _DTYPES:
            raise CheckpointError(
                f"{shown(name, 80)} is {value.dtype}, {value.layout} on {value.device.type}; "
                "expected a dense tensor of numbers"
            )
    # They are loaded in float32, and contiguous, as those of a few bytes with stride 0 are not yet.
    size = sum(value.numel() * max(4, value.element_size()) for value in tensors.values())
    check_declared(len(tensors), size, limits)


def _check_size(path: Path, size: int, limits: Limits) -> None:
    most = limits.weight_bytes + 4 * MIB
    if size > most:
        raise CheckpointError(
            f"{path} takes {size} bytes, above the limit of {most}. Save the generator's weights "
            "alone, or raise Limits.weight_bytes."
        )
