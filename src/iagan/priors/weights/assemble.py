"""Load the tensors of a file into a network, checking each of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iagan.errors import CheckpointError, shown
from iagan.priors.networks.registry import Factory
from iagan.priors.weights.checks import Tensors


def assemble(
    factory: Factory,
    settings: dict[str, Any],
    tensors: Tensors,
    path: Path,
    theirs: Mapping[str, str] | None = None,
) -> nn.Module:
    """Build the network with these settings and load these tensors, as in `fill`.

    Nothing is allocated before settings and shapes are known to match.

    **Raises:** `CheckpointError` for settings out of range, and the errors of `fill`.
    """
    try:
        with torch.device("meta"):
            network = factory(**settings)
    except Exception as error:  # settings of any type and size
        raise CheckpointError(f"{path} has invalid settings: {shown(error)}") from error
    expected = getattr(network, "settings", {})
    if expected != settings:
        raise CheckpointError(
            f"{path} expects all settings of {type(network).__name__}, {shown(expected)}; got "
            f"{shown(settings)}. "
            "Save it again with iagan.save_prior."
        )
    _check(network, tensors, path, theirs or {})
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        network = factory(**settings)
    return fill(network, tensors, path, theirs)


def fill(
    network: nn.Module, tensors: Tensors, path: Path, theirs: Mapping[str, str] | None = None
) -> nn.Module:
    """Load parameters and buffers into the network, floating-point ones as float32; returns it.

    **Arguments:**
    - `theirs`: maps the network's names to those in the file, for error messages.

    **Raises:** `CheckpointError` for a missing or unexpected tensor, a wrong shape, integers in
    place of floating-point numbers, NaN or Inf.
    """
    _check(network, tensors, path, theirs or {})
    network.float().load_state_dict(tensors)
    return network


def listed(keys: Collection[str]) -> str:
    """The first six keys as text, and their number if there are more."""
    first = ", ".join(shown(key, 80) for key in list(keys)[:6])
    return (f"{first}, … ({len(keys)} keys)" if len(keys) > 6 else first) or "none"


def _check(network: nn.Module, tensors: Tensors, path: Path, theirs: Mapping[str, str]) -> None:
    expected = network.state_dict()
    missing = [theirs.get(name, name) for name in expected if name not in tensors]
    surplus = [theirs.get(name, name) for name in tensors if name not in expected]
    if missing or surplus:
        settings = getattr(network, "settings", {})
        raise CheckpointError(
            f"{path} does not hold the weights of {type(network).__name__} with {shown(settings)}: "
            f"missing {listed(missing)}; unexpected {listed(surplus)}. Download the file again."
        )
    for name, value in tensors.items():
        _check_tensor(shown(theirs.get(name, name), 80), value, expected[name], path)


def _check_tensor(key: str, value: Tensor, expected: Tensor, path: Path) -> None:
    if value.shape != expected.shape:
        raise CheckpointError(
            f"{path}: {key} expects shape {tuple(expected.shape)}, given the other weights; got "
            f"{tuple(value.shape)} (axes in our order). Check that the file is the published one."
        )
    floating = expected.is_floating_point()
    if value.layout != torch.strided or value.is_floating_point() != floating:
        kind = "floating-point weights" if floating else f"numbers of {expected.dtype}"
        raise CheckpointError(f"{path}: {key} expects dense {kind}; got {value.dtype}.")
    if not bool(torch.isfinite(value).all()):
        raise CheckpointError(
            f"{path}: {key} contains NaN or Inf. Download or train the weights again."
        )
