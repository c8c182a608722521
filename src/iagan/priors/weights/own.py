"""A network of the user's own, which the user names, and its state dict."""

from __future__ import annotations

import importlib
from pathlib import Path

from torch import nn

from iagan.errors import SettingError, shown
from iagan.limits import LIMITS, Limits
from iagan.priors.base import About, LatentSpace
from iagan.priors.generator import Generator
from iagan.priors.networks.registry import Factory
from iagan.priors.weights.assemble import fill
from iagan.priors.weights.convert import without_prefixes
from iagan.priors.weights.native import is_stored, load_stored
from iagan.priors.weights.readers import read_tensors


def load_own(
    path: Path,
    network: str | Factory,
    latent: LatentSpace | str | None,
    limits: Limits = LIMITS,
) -> Generator:
    """The generator whose network `network` makes and whose weights are in `path`.

    The network makes images in [-1, 1]. Weights are a state dict, or what `save_prior` wrote, which
    knows its latents.

    **Raises:** `SettingError` for a network that cannot be imported, or latents that are missing or
    given twice; `CheckpointError` where the weights are another network's.
    """
    factory = _imported(network) if isinstance(network, str) else network
    stored = is_stored(path, limits)
    if stored == (latent is not None):
        raise SettingError(
            f"load_prior knows the latents of {path} from the file; leave latent out."
            if stored
            else "load_prior expects with network also the latents, such as latent='normal:512'."
        )
    if latent is None:
        return load_stored(path, factory, limits)
    module, tensors = _made(factory, network), read_tensors(path, limits)
    if tensors.keys() != module.state_dict().keys():
        tensors = without_prefixes(tensors)
    return Generator(fill(module, tensors, path), latent, about=About(path.stem))


def _made(factory: Factory, network: str | Factory) -> nn.Module:
    """What the factory makes; it is the user's and may do anything."""
    try:
        module = factory()
    except Exception as error:
        raise SettingError(
            f"A network expects a factory that is called without arguments; {network!r} raised "
            f"{type(error).__name__}: {shown(error)}."
        ) from error
    if not isinstance(module, nn.Module):
        raise SettingError(
            f"A network expects a factory of a torch.nn.Module; {network!r} made a "
            f"{type(module).__name__}."
        )
    return module


def _imported(network: str) -> Factory:
    """The object that `"package.module:factory"` names."""
    module, _, name = network.partition(":")
    try:
        factory: Factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise SettingError(
            f"A network expects package.module:factory that Python can import; got {network!r}: "
            f"{str(error).splitlines()[0]}."
        ) from error
    if not callable(factory):
        raise SettingError(
            f"A network expects package.module:factory with a class or function; got {network!r}, "
            f"a {type(factory).__name__}."
        )
    return factory
