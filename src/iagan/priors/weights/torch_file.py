"""Read named tensors from files of torch.save and NVIDIA's pickles, within limits and without
running any code in them."""

from __future__ import annotations

import contextlib
import io
import mmap
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iagan.archives import check_directory, open_zip, read_member
from iagan.errors import CheckpointError, shown
from iagan.limits import Limits
from iagan.priors.weights.checks import Tensors, as_checkpoint_error, check_declared
from iagan.priors.weights.nvidia_pickle import Network, PickledArray, read_pickle
from iagan.priors.weights.pickles import check_pickle

LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""The beginning of files written by torch.save before version 1.6: a pickled magic number."""
_LEGACY_PICKLES = 5
"""Number of pickles in a legacy file, before its storages: magic number, version, system info,
content, and keys of the storages."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_AVERAGES = ("avgG", "g_ema")
_NESTED = (*_AVERAGES, "netG", "generator", "state_dict")
"""Entries that hold a generator's state dict; exponential moving averages are preferred."""
OTHER_MEMBERS = 20
"""Maximum number of files other than tensors in an archive written by torch."""


def read_torch(path: Path, limits: Limits) -> Tensors:
    """The generator's state dict in a file of torch.save, at the top level or in a known entry.

    **Raises:** `CheckpointError` if there is none, or the file is damaged or exceeds `limits`.
    """
    with as_checkpoint_error(path, "torch file"):
        _check_torch(path, limits)
        content = _load_torch(path)
    if isinstance(content, Mapping):
        content = _unnested(content, path)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} expects a state dict of named tensors; got a {type(content).__name__}."
        )
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} expects named tensors, or a dict with one of {', '.join(_NESTED)}; its "
                f"entry {shown(repr(name), 80)} is a {type(value).__name__}. Save the generator's "
                "state_dict() alone."
            )
    return {str(name): value.detach() for name, value in content.items()}


def read_nvidia(path: Path, limits: Limits) -> Tensors:
    """The variables of Gs in NVIDIA's pickle of (G, D, Gs).

    **Raises:** `CheckpointError` for another pickle, or one that is damaged or exceeds `limits`.
    """
    with as_checkpoint_error(path, "pickle"), _mapped(path) as stream:
        check_pickle(stream, limits)
        stream.seek(0)
        content = read_pickle(stream)
    networks = content if isinstance(content, (tuple, list)) else ()
    if len(networks) != 3 or not all(isinstance(network, Network) for network in networks):
        raise CheckpointError(
            f"{path} is a pickle; expected NVIDIA's (G, D, Gs), three tfutil.Network; got a "
            f"{type(content).__name__}. Save other weights with torch.save(state_dict) or as .npz."
        )
    with as_checkpoint_error(path, "pickle of NVIDIA's networks"):
        variables = dict(networks[2].state["variables"])
        arrays = {k: v for k, v in variables.items() if isinstance(v, PickledArray)}
        check_declared(len(arrays), sum(v.bytes for v in arrays.values()), limits)
        return {str(name): torch.from_numpy(array.resolve()) for name, array in arrays.items()}


class _InertConfig:
    """Stand-in for pytorch_GAN_zoo's `BaseConfig`, whose contents are not needed."""

    def __setstate__(self, state: object) -> None:
        pass


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file memory-mapped, so that sizes declared beyond its end are not allocated."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        yield stream


def _check_torch(path: Path, limits: Limits) -> None:
    """Refuse a file that would make torch.load hang or exhaust the memory."""
    with path.open("rb") as file:
        legacy = file.read(len(LEGACY_TORCH)) == LEGACY_TORCH
    if legacy:
        with _mapped(path) as stream:
            for _ in range(_LEGACY_PICKLES):
                check_pickle(stream, limits)
        return
    with open_zip(path, limits.tensors + OTHER_MEMBERS) as archive:
        check_directory(archive)
        infos = archive.infolist()
        check_declared(0, sum(info.file_size for info in infos), limits)
        for info in infos:
            if info.filename.lower().endswith("data.pkl"):  # torch ignores case
                check_pickle(io.BytesIO(read_member(archive, info)), limits)


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
            raise CheckpointError(
                f"it would run {shown(name, 80)}, which is not needed to store weights"
            )
        # The class's module differs between copies of the repository, so the stand-in is registered
        # under the name used in this file; nothing of that name is imported.
        admitted = [(_InertConfig, name)]


def _unnested(content: Mapping[Any, Any], path: Path) -> Mapping[Any, Any]:
    """The entry that is the generator's state dict, or `content` if it is one itself."""
    if all(isinstance(value, Tensor) for value in content.values()):
        return content
    entries = [name for name in _NESTED if isinstance(content.get(name), Mapping)]
    if len(entries) > 1 and entries[0] not in _AVERAGES:
        raise CheckpointError(
            f"{path} expects one state dict; got {', '.join(entries)}. Save only the generator's."
        )
    inner: Mapping[Any, Any] = content[entries[0]] if entries else content
    return inner
