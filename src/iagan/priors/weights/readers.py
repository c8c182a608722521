"""Files of weights → named tensors. Which network they are is no concern of this file."""

from __future__ import annotations

import contextlib
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from iagan.errors import CheckpointError
from iagan.priors.weights.nvidia_pickle import Network, PickledArray, read_pickle

Tensors = dict[str, Tensor]

_ZIP = b"PK\x03\x04"
_LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""A pickle of torch's magic number: how torch.save began its files before version 1.6."""
_TENSORFLOW = re.compile(r"\.(index|meta)$|\.data-\d+-of-\d+$|\.ckpt(-\d+)?$|^checkpoint$")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as a safetensors file does: a length and a JSON object."""
    return _head(path)[8:9] == b"{"


def read_tensors(path: Path) -> Tensors:
    """The named tensors in a published checkpoint, recognised by its first bytes.

    - torch (.pth, .pt), new or legacy: a state dict, or a dict whose `avgG` is one (Facebook's
      pytorch_GAN_zoo). Read with `weights_only=True`.
    - NVIDIA's pickle of (G, D, Gs): the variables of Gs, read by `nvidia_pickle.read_pickle`.
    - .npz: TensorFlow variables by name.
    - safetensors: all tensors.

    **Raises:** `CheckpointError`, in words, for everything else.
    """
    head = _head(path)
    if not head:
        raise CheckpointError(f"{path} is empty; a checkpoint was expected. Fetch the file again.")
    if path.is_file() and _TENSORFLOW.search(path.name):
        raise CheckpointError(
            f"{path} is a TensorFlow checkpoint, which only TensorFlow can read. There, save its "
            "variables by name: numpy.savez('began.npz', **{v.name: v.eval() for v in variables})."
        )
    if head.startswith(_ZIP):
        with _as_checkpoint_error(path, "zip archive"), zipfile.ZipFile(path) as archive:
            arrays = all(name.endswith(".npy") for name in archive.namelist())
        return _read_npz(path) if arrays else _read_torch(path)
    if is_safetensors(path):
        return read_safetensors(path)[1]
    if head.startswith(_LEGACY_TORCH):
        return _read_torch(path)
    if head.startswith(b"\x80"):
        return _read_nvidia(path)
    raise CheckpointError(
        f"{path} is no checkpoint: expected a torch file, a safetensors file of iagan, NVIDIA's "
        f"pickle or an .npz of TensorFlow variables; it begins with {head[:8]!r}."
    )


def read_safetensors(path: Path) -> tuple[dict[str, str], Tensors]:
    """Metadata and tensors of a safetensors file.

    **Raises:** `CheckpointError` where it is truncated or broken.
    """
    with _as_checkpoint_error(path, "safetensors file"), safe_open(path, framework="pt") as stream:
        names = list(stream.keys())
        return stream.metadata() or {}, {name: stream.get_tensor(name) for name in names}


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(
            f"Cannot read the checkpoint {path}: {reason}. Give the path of a file."
        ) from error


@contextlib.contextmanager
def _as_checkpoint_error(path: Path, kind: str) -> Iterator[None]:
    """Turn what a reader raises into one line. A broken file can make it raise anything."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} is refused: {error}. Save the weights alone, as a state dict."
        ) from error
    except Exception as error:
        lines = str(error).splitlines() or [""]
        raise CheckpointError(
            f"{path} is truncated or broken: it begins as a {kind}, but reading it failed with "
            f"{type(error).__name__}: {lines[0][:120].rstrip('.')}. Fetch the file again."
        ) from error


class _InertConfig:
    """Stands in for pytorch_GAN_zoo's `BaseConfig`; its contents are not needed."""

    def __setstate__(self, state: object) -> None:
        pass


def _read_torch(path: Path) -> Tensors:
    with _as_checkpoint_error(path, "torch file"):
        content = _load_torch(path)
    if isinstance(content, Mapping) and isinstance(content.get("avgG"), Mapping):
        content = content["avgG"]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; expected a state dict of named tensors."
        )
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} expects named tensors, or a dict with 'avgG' (pytorch_GAN_zoo); its entry "
                f"{name!r} is a {type(value).__name__}. Save the generator's state_dict() alone."
            )
    return {str(name): value for name, value in content.items()}


def _load_torch(path: Path) -> object:
    admitted: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    while True:
        with torch.serialization.safe_globals(admitted):
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                named = _GLOBAL.search(str(error))
                if named is None:
                    raise
                name = named.group(1)
        if not name.endswith(".BaseConfig") or admitted:
            raise CheckpointError(f"it would run {name}, which is not needed to store weights")
        # The module of the class differs between copies of the repository, so it is bound to the
        # stand-in under the name that this file uses; nothing of that name is imported.
        admitted = [(_InertConfig, name)]


def _read_nvidia(path: Path) -> Tensors:
    with _as_checkpoint_error(path, "pickle"), path.open("rb") as stream:
        content = read_pickle(stream)
    networks = content if isinstance(content, (tuple, list)) else ()
    if len(networks) != 3 or not all(isinstance(network, Network) for network in networks):
        raise CheckpointError(
            f"{path} is a pickle; expected NVIDIA's (G, D, Gs), three tfutil.Network; got a "
            f"{type(content).__name__}. Save other weights with torch.save(state_dict) or as .npz."
        )
    with _as_checkpoint_error(path, "pickle of NVIDIA's networks"):
        variables = dict(networks[2].state["variables"])
        arrays = {k: v.resolve() for k, v in variables.items() if isinstance(v, PickledArray)}
        return {str(name): torch.from_numpy(array) for name, array in arrays.items()}


def _read_npz(path: Path) -> Tensors:
    with _as_checkpoint_error(path, "zip archive"), np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays.files}
