"""Which published layout a set of named tensors has, and its conversion to our networks."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iagan.errors import CheckpointError, IaganError
from iagan.images import Crop
from iagan.priors.base import About, LatentSpace
from iagan.priors.generator import Generator
from iagan.priors.networks.began import Began
from iagan.priors.networks.pggan import Pggan
from iagan.priors.networks.tapered import Tapered
from iagan.priors.weights.readers import Tensors

NETWORKS: dict[str, type[nn.Module]] = {"began": Began, "pggan": Pggan, "tapered": Tapered}
"""By the word for the architecture in metadata."""
CELEBA_CROP = Crop(photo_size=(178, 218), center=(89, 121), side=112)


def without_data_parallel(key: str) -> str:
    """The key without the prefix that `nn.DataParallel` puts before it."""
    return key.removeprefix("module.")


@dc.dataclass(frozen=True)
class Layout:
    """How one program of others writes a generator.

    **Arguments:**
    - `name`, `source`, `license`: told to the user; the license is that of the published weights.
    - `architecture`: a key of `NETWORKS`.
    - `names`: from the keys in a file, the keys that it needs (for as many resolutions as it seems
      to have) → our parameters' names.
    - `latent`: the length of z → the latents.
    - `settings`: our tensors → the network's constructor arguments.
    - `canonical`: a file's key as `names` knows it.
    - `arrange`: (their key, tensor) → the tensor with our axes.
    - `complete`: our tensors → with those that the layout leaves implicit.
    - `extras`: whether other keys may be present, and are ignored.
    - `crop`: of photographs, by image size.
    """

    name: str
    source: str
    license: str
    architecture: str
    names: Callable[[Collection[str]], dict[str, str]]
    settings: Callable[[Tensors], dict[str, Any]]
    latent: Callable[[int], LatentSpace]
    canonical: Callable[[str], str] = without_data_parallel
    arrange: Callable[[str, Tensor], Tensor] = lambda key, tensor: tensor
    complete: Callable[[Tensors], Tensors] = lambda tensors: tensors
    extras: bool = False
    crop: dict[int, Crop] = dc.field(default_factory=dict)


@dc.dataclass(frozen=True)
class _Match:
    layout: Layout
    tensors: Tensors
    names: dict[str, str]

    @property
    def missing(self) -> list[str]:
        return [key for key in self.names if key not in self.tensors]

    @property
    def unexpected(self) -> list[str]:
        if self.layout.extras:
            return []
        return [key for key in self.tensors if key not in self.names]

    @property
    def closeness(self) -> float:
        return 1 - len(self.missing) / len(self.names)


def convert(raw: Tensors, layouts: Collection[Layout], path: Path) -> Generator:
    """The generator in a published checkpoint, in whichever of `layouts` it is written.

    **Raises:** `CheckpointError` saying which keys or shapes the closest layout expects.
    """
    best = max((_match(layout, raw) for layout in layouts), key=lambda match: match.closeness)
    if best.closeness == 0:
        known = "; ".join(f"{item.name} ({next(iter(item.names([])))}, …)" for item in layouts)
        raise CheckpointError(
            f"{path} has no known layout. Known are {known}; got {_listed(raw)}. "
            "Wrap your own network as iagan.Generator(module, latent) instead."
        )
    if best.missing or best.unexpected:
        raise CheckpointError(
            f"{path} is not quite a checkpoint of {best.layout.name}, the closest layout: missing "
            f"{_listed(best.missing)}; unexpected {_listed(best.unexpected)}. Save the generator's "
            "whole state dict, and nothing else."
        )
    return _build(best, path)


def _match(layout: Layout, raw: Tensors) -> _Match:
    tensors = {layout.canonical(key): value for key, value in raw.items()}
    return _Match(layout, tensors, layout.names(tensors.keys()))


def _listed(keys: Collection[str]) -> str:
    first = ", ".join(list(keys)[:6])
    return (f"{first}, … ({len(keys)} keys)" if len(keys) > 6 else first) or "none"


def _build(match: _Match, path: Path) -> Generator:
    layout = match.layout
    ours = {name: _arranged(match, key, name, path) for key, name in match.names.items()}
    try:
        ours = layout.complete(ours)
        settings = layout.settings(ours)
    except (RuntimeError, ValueError, IndexError, ArithmeticError) as error:
        raise CheckpointError(
            f"{path} has the keys of {layout.name}, but its shapes do not fit together: "
            f"{str(error).splitlines()[0]} Check that the file is the published one."
        ) from error
    theirs = {name: key for key, name in match.names.items()}
    network = assemble(NETWORKS[layout.architecture], settings, ours, path, theirs)
    return Generator(
        network,
        layout.latent(settings["latent"]),
        (-1.0, 1.0),
        About(
            name=path.stem,
            architecture=layout.architecture,
            license=layout.license,
            source=layout.source,
            crop=layout.crop.get(settings.get("size", 0)),
        ),
    )


def _arranged(match: _Match, key: str, name: str, path: Path) -> Tensor:
    tensor = match.tensors[key]
    rank = 1 if name.endswith((".b", ".bias", ".scale")) else 2 if "linear" in name else 4
    try:
        arranged = match.layout.arrange(key, tensor)
    except RuntimeError:
        arranged = tensor
    if arranged.ndim != rank:
        raise CheckpointError(
            f"{path} has the keys of {match.layout.name}, but {key} has shape "
            f"{tuple(tensor.shape)}, which cannot be its weights. Check that the file is the "
            "published one."
        )
    return arranged


def assemble(
    kind: type[nn.Module],
    settings: dict[str, Any],
    tensors: Tensors,
    path: Path,
    theirs: dict[str, str] | None = None,
) -> nn.Module:
    """The network of this kind and settings holding these tensors, with everything checked.

    Weights become float32. `theirs` gives the names in the file, for messages.

    **Raises:** `CheckpointError` for settings out of range, a missing or surplus tensor, a wrong
    shape, integers, NaN or Inf.
    """
    theirs = theirs or {}
    try:
        with torch.device("meta"):
            network = kind(**settings)
    except (IaganError, TypeError) as error:
        raise CheckpointError(
            f"{path} has impossible settings: {str(error).splitlines()[0]}"
        ) from error
    if network.settings != settings:
        raise CheckpointError(
            f"{path} expects all settings of {kind.__name__}, {network.settings}; got {settings}. "
            "Write it again with iagan.save_prior."
        )
    expected = {name: tuple(value.shape) for name, value in network.named_parameters()}
    missing = [theirs.get(name, name) for name in expected if name not in tensors]
    surplus = [theirs.get(name, name) for name in tensors if name not in expected]
    if missing or surplus:
        raise CheckpointError(
            f"{path} does not hold the weights of {kind.__name__} with {settings}: missing "
            f"{_listed(missing)}; unexpected {_listed(surplus)}. Fetch the file again."
        )
    for name, value in tensors.items():
        _check_weights(theirs.get(name, name), value, expected[name], path)
    weights = {name: value.float().contiguous() for name, value in tensors.items()}
    network.load_state_dict(weights, assign=True)
    return network


def _check_weights(key: str, value: Tensor, expected: tuple[int, ...], path: Path) -> None:
    if tuple(value.shape) != expected:
        raise CheckpointError(
            f"{path}: {key} expects shape {expected} beside the other weights; got "
            f"{tuple(value.shape)} (axes in our order). Check that the file is the published one."
        )
    if value.layout != torch.strided or not value.is_floating_point():
        raise CheckpointError(
            f"{path}: {key} expects dense floating-point weights; got {value.dtype}."
        )
    if not bool(torch.isfinite(value).all()):
        raise CheckpointError(f"{path}: {key} holds NaN or Inf. Fetch or train the weights again.")
