"""Checks of weights files: of the file before it is read, and of its tensors."""

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
"""Maximum bytes of a header per tensor: its name, type, shape and offsets."""
_DTYPES = {torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8}
_DTYPES |= {torch.int8, torch.int16, torch.int32, torch.int64}


@contextlib.contextmanager
def as_checkpoint_error(path: Path, kind: str) -> Iterator[None]:
    """Convert any exception of a reader to a one-line `CheckpointError`; a damaged file can make it
    raise anything.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} is refused: {error}. Save the weights alone, as a state dict."
        ) from error
    except Exception as error:
        reason = shown(str(error).partition("\n")[0], 120).rstrip(".")
        raise CheckpointError(
            f"{path} is truncated or damaged: it begins like a {kind}, but reading it failed with "
            f"{type(error).__name__}: {reason}. Download the file again."
        ) from error


def read_head(path: Path, limits: Limits) -> bytes:
    """The first 64 bytes of a file.

    **Raises:** `CheckpointError` if it is missing, not a regular file, or larger than `limits`.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block forever
            reason = "it is a folder, a pipe or a device"
        else:
            _check_size(path, path.stat().st_size, limits)
            with path.open("rb") as stream:
                return stream.read(64)
    except OSError as error:
        reason = error.strerror or str(error)
    raise CheckpointError(f"Cannot read the checkpoint {path}: {reason}. Give the path of a file.")


def check_header(path: Path, most: int) -> None:
    """Check that a safetensors file's header (names, types, shapes) has at most `most` bytes.

    Parsing it takes 25 µs and 1 kB of memory per tensor, however small.

    **Raises:** `CheckpointError` for a larger one; `OSError` if the file cannot be read.
    """
    with path.open("rb") as file:
        length = file.read(8)
    (size,) = struct.unpack("<Q", length) if len(length) == 8 else (0,)
    if size > most:
        raise CheckpointError(f"its header takes {size} bytes, above the limit of {most}")


def check_declared(tensors: int, size: int, limits: Limits) -> None:
    """Check the number of tensors and bytes against `limits` before they are read.

    **Raises:** `CheckpointError` if either is exceeded.
    """
    if tensors > limits.tensors:
        raise CheckpointError(f"it has {tensors} tensors, above the limit of {limits.tensors}")
    if size > limits.weight_bytes:
        raise CheckpointError(
            f"its tensors take {size} bytes, above the limit of {limits.weight_bytes}"
        )


def check_tensors(tensors: Mapping[str, Tensor], limits: Limits) -> None:
    """Check that all tensors are dense and numeric, and within `limits` once contiguous.

    **Raises:** `CheckpointError` if not.
    """
    for name, value in tensors.items():
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_nested
        if not plain or value.dtype not in _DTYPES:
            raise CheckpointError(
                f"{shown(name, 80)} is {value.dtype}, {value.layout} on {value.device.type}; "
                "expected a dense tensor of numbers"
            )
    # They are loaded as contiguous float32; with strides of 0 they may occupy only a few bytes now.
    size = sum(value.numel() * max(4, value.element_size()) for value in tensors.values())
    check_declared(len(tensors), size, limits)


def _check_size(path: Path, size: int, limits: Limits) -> None:
    most = limits.weight_bytes + 4 * MIB
    if size > most:
        raise CheckpointError(
            f"{path} takes {size} bytes, above the limit of {most}. Save the generator's weights "
            "alone, or raise Limits.weight_bytes."
        )
