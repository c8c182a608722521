"""Load a user's own network, given by its factory, from a state dict."""

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
    """The generator with the network made by `network` and the weights in `path`.

    The network's images are in [-1, 1]. The file holds a state dict, or was written by
    `save_prior`, and then includes the latent space.

    **Raises:** `SettingError` for a network that cannot be imported, or a latent space that is
    missing or given twice; `CheckpointError` if the weights do not match the network.
    """
    factory = _imported(network) if isinstance(network, str) else network
    stored = is_stored(path, limits)
    if stored == (latent is not None):
        raise SettingError(
            f"load_prior reads the latent space of {path} from the file; leave latent out."
            if stored
            else "load_prior with network also expects latent, such as latent='normal:512'."
        )
    if latent is None:
        return load_stored(path, factory, limits)
    module, tensors = _made(factory, network), read_tensors(path, limits)
    if tensors.keys() != module.state_dict().keys():
        tensors = without_prefixes(tensors)
    return Generator(fill(module, tensors, path), latent, about=About(shown(path.stem)))


def _made(factory: Factory, network: str | Factory) -> nn.Module:
    """The module made by the factory, which is user code and may raise anything."""
    try:
        module = factory()
    except Exception as error:
        raise SettingError(
            f"load_prior expects network as a factory without arguments; {network!r} raised "
            f"{type(error).__name__}: {shown(error)}."
        ) from error
    if not isinstance(module, nn.Module):
        raise SettingError(
            f"load_prior expects network as a factory of a torch.nn.Module; {network!r} made a "
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
            f"load_prior expects network as an importable package.module:factory; got {network!r}: "
            f"{str(error).splitlines()[0]}."
        ) from error
    if not callable(factory):
        raise SettingError(
            "load_prior expects network as package.module:factory of a class or function; got "
            f"{network!r}, a {type(factory).__name__}."
        )
    return factory
