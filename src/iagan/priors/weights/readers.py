"""Read named tensors from weights files, whatever their network."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from iagan.archives import open_zip, read_member
from iagan.errors import CheckpointError
from iagan.limits import LIMITS, Limits
from iagan.parse import read_header
from iagan.priors.weights.checks import (
    ENTRY_BYTES,
    Tensors,
    as_checkpoint_error,
    check_declared,
    check_header,
    check_tensors,
    read_head,
)
from iagan.priors.weights.torch_file import LEGACY_TORCH, OTHER_MEMBERS, read_nvidia, read_torch

_ZIP = b"PK\x03\x04"
_GIT_LFS = b"version https://git-lfs"
_TENSORFLOW = re.compile(r"\.(index|meta)$|\.data-\d+-of-\d+$|\.ckpt(-\d+)?$|^checkpoint$")
_NOTE_BYTES = 2**17
"""Maximum bytes of metadata in a header, in addition to its tensors' entries."""


def is_safetensors(path: Path, limits: Limits = LIMITS) -> bool:
    """Whether the file begins like a safetensors file: with a length and a JSON object.

    **Raises:** `CheckpointError` if it is missing, not a regular file, or too large.
    """
    return read_head(path, limits)[8:9] == b"{"


def read_tensors(path: Path, limits: Limits = LIMITS) -> Tensors:
    """The named tensors in a published checkpoint, whose format is recognised by its first bytes.

    - torch (.pth, .pt), new or legacy: a state dict, or a dict with the generator's under a known
      name. Read with `weights_only=True`.
    - NVIDIA's pickle of (G, D, Gs): the variables of Gs, read by `nvidia_pickle.read_pickle`.
    - .npz: TensorFlow variables by name.
    - safetensors: all tensors.

    **Raises:** `CheckpointError` for any other file, a damaged one, or one that exceeds `limits`.
    """
    head = read_head(path, limits)
    tensors = _read(path, head, limits)
    with as_checkpoint_error(path, "weights file"):
        check_tensors(tensors, limits)
    return tensors


def _read(path: Path, head: bytes, limits: Limits) -> Tensors:
    if head.startswith(_ZIP):
        with (
            as_checkpoint_error(path, "zip archive"),
            open_zip(path, limits.tensors + OTHER_MEMBERS) as archive,
        ):
            arrays = all(name.endswith(".npy") for name in archive.namelist())
        return _read_npz(path, limits) if arrays else read_torch(path, limits)
    if head[8:9] == b"{":
        return read_safetensors(path, limits)[1]
    if head.startswith(LEGACY_TORCH):
        return read_torch(path, limits)
    if head.startswith(b"\x80"):
        return read_nvidia(path, limits)
    if not head:
        raise CheckpointError(f"{path} is empty; expected a checkpoint. Download it again.")
    if head.startswith(_GIT_LFS):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself. Run git lfs pull in its "
            "repository, or download the file."
        )
    if _TENSORFLOW.search(path.name):
        raise CheckpointError(
            f"{path} is a TensorFlow checkpoint, which only TensorFlow can read. There, save its "
            "variables by name: numpy.savez('began.npz', **{v.name: v.eval() for v in variables})."
        )
    raise CheckpointError(
        f"{path} is not a checkpoint: expected a torch file, a safetensors file of iagan, NVIDIA's "
        f"pickle or an .npz of TensorFlow variables; got a file beginning with {head[:8]!r}."
    )


def read_metadata(path: Path, limits: Limits = LIMITS) -> dict[str, str]:
    """The metadata of a safetensors file.

    **Raises:** `CheckpointError` if it is truncated or damaged, or exceeds `limits`.
    """
    with as_checkpoint_error(path, "safetensors file"):
        check_header(path, ENTRY_BYTES * limits.tensors + _NOTE_BYTES)
        with safe_open(path, framework="pt") as stream:
            return stream.metadata() or {}


def read_safetensors(path: Path, limits: Limits = LIMITS) -> tuple[dict[str, str], Tensors]:
    """Metadata and tensors of a safetensors file.

    **Raises:** `CheckpointError` if it is truncated or damaged, or exceeds `limits`.
    """
    metadata = read_metadata(path, limits)
    with as_checkpoint_error(path, "safetensors file"), safe_open(path, framework="pt") as stream:
        names = list(stream.keys())
        check_declared(len(names), path.stat().st_size, limits)
        return metadata, {name: stream.get_tensor(name) for name in names}


def _read_npz(path: Path, limits: Limits) -> Tensors:
    tensors: Tensors = {}
    with (
        as_checkpoint_error(path, "zip archive"),
        open_zip(path, limits.tensors) as archive,
    ):
        infos = archive.infolist()
        check_declared(len(infos), sum(info.file_size for info in infos), limits)
        for info in infos:
            data = read_member(archive, info)
            _check_array(data)
            array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
            name = info.filename.removesuffix(".npy")
            tensors[name] = torch.from_numpy(np.ascontiguousarray(array))
    return tensors


def _check_array(data: bytes) -> None:
    """Check that the size declared by a .npy, which is allocated first, is its actual size.

    **Raises:** `CheckpointError` if not; `ValueError` for a damaged header.
    """
    stream = io.BytesIO(data)
    shape, _, dtype = read_header(stream)
    declared = math.prod(shape) * dtype.itemsize
    if declared != len(data) - stream.tell():
        raise CheckpointError(
            f"an array declares {declared} bytes; it has {len(data) - stream.tell()}"
        )
