"""Recognition of published checkpoint layouts, and conversion to this package's networks."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from iagan.errors import CheckpointError, shown
from iagan.images import Crop
from iagan.priors.base import About, LatentSpace
from iagan.priors.generator import Generator
from iagan.priors.networks.registry import NETWORKS
from iagan.priors.weights.assemble import assemble, listed
from iagan.priors.weights.checks import Tensors

_PREFIXES = ("_orig_mod.", "module.", "netG.", "generator.")
_DISCRIMINATORS = ("netD.", "discriminator.")
CELEBA_CROP = Crop(photo_size=(178, 218), center=(89, 121), side=112)


def without_data_parallel(key: str) -> str:
    """The key without the prefix added by `nn.DataParallel`."""
    return key.removeprefix("module.")


def without_prefixes(tensors: Tensors) -> Tensors:
    """A generator's tensors without the prefixes that programs add to all names.

    Besides `netG.` and `generator.` there may be a discriminator's tensors, which are dropped.
    """
    for prefix in _PREFIXES * 2:  # prefixes may be nested
        ours = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        others = [key for key in tensors if not key.startswith(prefix)]
        if ours and all(key.startswith(_DISCRIMINATORS) for key in others):
            tensors = ours
    return tensors


@dc.dataclass(frozen=True)
class Layout:
    """How another program stores a generator.

    **Arguments:**
    - `name`, `source`, `license`: for `About` and messages; the license of the published weights.
    - `architecture`: a key of `NETWORKS`.
    - `names`: keys of a file → required keys (for the number of resolutions that it seems to have)
      → our parameter names.
    - `latent`: length of z → latent space.
    - `settings`: our tensors → the network's constructor arguments.
    - `canonical`: key of a file → the spelling used by `names`.
    - `arrange`: (their key, tensor) → the tensor with our axis order.
    - `complete`: our tensors → our tensors and those that the layout leaves implicit.
    - `extras`: whether other keys are ignored instead of refused.
    - `crop`: crop of the training photographs, by image size.
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
    """The generator in a published checkpoint with one of `layouts`.

    **Raises:** `CheckpointError` with the keys or shapes that the closest layout expects.
    """
    raw = without_prefixes(raw)
    best = max((_match(layout, raw) for layout in layouts), key=lambda match: match.closeness)
    if best.closeness < 0.5:  # fewer names in common are a coincidence
        known = "; ".join(f"{item.name} ({next(iter(item.names([])))}, …)" for item in layouts)
        raise CheckpointError(
            f"{path} expects one of the known layouts: {known}; got {listed(raw)}. "
            "Wrap your own network as iagan.Generator(module, latent) instead."
        )
    if best.missing or best.unexpected:
        raise CheckpointError(
            f"{path} does not match the closest known layout, {best.layout.name}: missing "
            f"{listed(best.missing)}; unexpected {listed(best.unexpected)}. Save the generator's "
            "whole state dict, and nothing else."
        )
    return _build(best, path)


def _match(layout: Layout, raw: Tensors) -> _Match:
    tensors = {layout.canonical(key): value for key, value in raw.items()}
    return _Match(layout, tensors, layout.names(tensors.keys()))


def _build(match: _Match, path: Path) -> Generator:
    layout = match.layout
    try:
        ours = layout.complete(
            {name: layout.arrange(key, match.tensors[key]) for key, name in match.names.items()}
        )
        settings = layout.settings(ours)
    except Exception as error:  # untrusted shapes
        raise CheckpointError(
            f"{path} has the keys of {layout.name}, but inconsistent shapes: "
            f"{shown(error).rstrip('.')}. Check that the file is the published one."
        ) from error
    theirs = {name: key for key, name in match.names.items()}
    network = assemble(NETWORKS[layout.architecture], settings, ours, path, theirs)
    return Generator(
        network,
        layout.latent(settings["latent"]),
        (-1.0, 1.0),
        About(
            name=shown(path.stem),
            architecture=layout.architecture,
            license=layout.license,
            source=layout.source,
            crop=layout.crop.get(settings.get("size", 0)),
        ),
    )
