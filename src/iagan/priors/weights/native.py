"""This package's format of priors: safetensors with all other data in its metadata."""

from __future__ import annotations

import dataclasses as dc
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from iagan.errors import CheckpointError, SettingError, shown
from iagan.files import write_atomically
from iagan.images import Crop
from iagan.limits import LIMITS, Limits
from iagan.priors.base import LATENTS, About, latent_from_spec
from iagan.priors.generator import Generator
from iagan.priors.networks.registry import NETWORKS, Factory, registered_name
from iagan.priors.weights.assemble import assemble
from iagan.priors.weights.checks import (
    Tensors,
    as_checkpoint_error,
    check_tensors,
)
from iagan.priors.weights.readers import is_safetensors, read_metadata, read_safetensors

FORMAT = "iagan-prior"
VERSION = "1"
ENCODER, LATENT = "encoder.", "latent:"
"""Prefixes of the names of an encoder's and of a latent space's tensors."""
_TEXTS = ("name", "architecture", "license", "source")


def save_prior(generator: Generator, path: str | os.PathLike[str]) -> None:
    """Write a generator of a registered network as safetensors, for `load_prior`.

    The metadata, all strings: `format` "iagan-prior", `version`, `name`, `architecture` (the
    network's name), `license`, `source`, and as JSON `settings` (of the network), `value_range`,
    `latent` (law, shape and other fields), `crop`. For an encoder, `encoder` holds its settings and
    `encoder_architecture` its name; the names of its tensors begin with "encoder.", those of the
    latent space's tensors with "latent:". Parameters and buffers keep their precision; `load_prior`
    converts them to float32.

    **Raises:** `SettingError` for a network or latent space that is not registered, or whose
    `settings` do not recreate it; `OutputError` if the file cannot be written.
    """
    about, encoder, latent = generator.about, generator.encoder, generator.latent
    if LATENTS.get(latent.law) is not type(latent):
        raise SettingError(
            f"save_prior expects a registered latent space; got {type(latent).__name__}. Decorate "
            "the class with iagan.priors.register_latent."
        )
    name, settings, tensors = _described(generator.module, about.architecture)
    spec = latent.spec()
    ours = {key: value for key, value in spec.items() if isinstance(value, Tensor)}
    tensors |= {f"{LATENT}{key}": _plain(value) for key, value in ours.items()}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "name": about.name,
        "architecture": name,
        "license": about.license,
        "source": about.source,
        "settings": json.dumps(settings),
        "value_range": json.dumps(generator.value_range),
        "latent": json.dumps({key: value for key, value in spec.items() if key not in ours}),
        "crop": json.dumps(about.crop and dc.asdict(about.crop)),
    }
    if encoder is not None:
        name, settings, parts = _described(encoder, "")
        header |= {"encoder": json.dumps(settings), "encoder_architecture": name}
        tensors |= {f"{ENCODER}{key}": value for key, value in parts.items()}
    write_atomically(path, lambda stream: stream.write(save(tensors, header)))


def _described(module: nn.Module, architecture: str) -> tuple[str, dict[str, Any], Tensors]:
    """Name, settings and tensors of a network; checks that the first two recreate it."""
    name, settings = registered_name(module, architecture), getattr(module, "settings", {})
    if not name:
        raise SettingError(
            f"save_prior expects one of the networks {', '.join(NETWORKS)}; got "
            f"{type(module).__name__}. Register it with iagan.priors.register first."
        )
    tensors = {key: _plain(value) for key, value in module.state_dict().items()}
    with torch.device("meta"):
        again = NETWORKS[name](**settings).state_dict()
    if {key: value.shape for key, value in again.items()} != {
        key: value.shape for key, value in tensors.items()
    }:
        raise SettingError(
            f"save_prior expects settings that recreate {name!r}; got {settings}, which give other "
            "tensors. Set the module's attribute `settings`."
        )
    return name, settings, tensors


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)


def is_stored(path: Path, limits: Limits = LIMITS) -> bool:
    """Whether `save_prior` wrote the file."""
    return is_safetensors(path, limits) and read_metadata(path, limits).get("format") == FORMAT


def load_stored(path: Path, factory: Factory | None = None, limits: Limits = LIMITS) -> Generator:
    """The generator in a file written by `save_prior`.

    **Arguments:**
    - `factory`: factory of its network, if that is not registered.

    **Raises:** `CheckpointError` if the file is truncated, was written by another program, exceeds
    `limits`, or its metadata and weights disagree.
    """
    header, tensors = read_safetensors(path, limits)
    with as_checkpoint_error(path, "safetensors file"):
        check_tensors(tensors, limits)
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        got = " and ".join(f"{header.get(key)!r:.40}" for key in ("format", "version"))
        raise CheckpointError(
            f"{path} expects the metadata format {FORMAT!r} and version {VERSION!r}; got {got}. "
            "Load the original checkpoint and save it with iagan.save_prior."
        )
    if "licence" in header:  # the spelling in files before 0.1.0
        header = {"license": header["licence"], **header}
    texts = {key: shown(_text(header, key, path), 1000) for key in _TEXTS}
    settings, latent, crop = (
        _parsed(header, key, dict, path) for key in ("settings", "latent", "crop")
    )
    latent |= _extract(tensors, LATENT)
    encoder = None
    if "encoder" in header:
        name = header.get("encoder_architecture", "tapered-encoder")
        described = _parsed(header, "encoder", dict, path)
        encoder = assemble(_network(name, path), described, _extract(tensors, ENCODER), path)
    network = assemble(factory or _network(texts["architecture"], path), settings, tensors, path)
    try:
        low, high = _parsed(header, "value_range", list, path)
        space = latent_from_spec(latent | {"shape": _positive(latent.get("shape"))})
        size = 4 * math.prod(space.shape)
        if size > limits.weight_bytes:
            raise ValueError(f"latents of {size} bytes, above the limit of {limits.weight_bytes}")
        return Generator(
            network,
            space,
            (float(low), float(high)),
            About(**texts, crop=crop and _crop(**crop)),
            encoder,
        )
    except Exception as error:  # untrusted metadata can make the constructors raise anything
        raise CheckpointError(
            f"{path} has metadata that do not match its weights: {shown(error).rstrip('.')}. "
            "Save it again with iagan.save_prior."
        ) from error


def _network(name: str, path: Path) -> Factory:
    if name not in NETWORKS:
        raise CheckpointError(
            f"{path} expects the network {name!r:.80}; known: {', '.join(NETWORKS)}. Register it, "
            "or give it as package.module:factory."
        )
    return NETWORKS[name]


def _extract(tensors: Tensors, prefix: str) -> Tensors:
    """Remove the tensors whose names begin with `prefix`; returns them without it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


def _crop(photo_size: Any, center: Any, side: Any) -> Crop:
    (width, height), (x, y), (side,) = _positive(photo_size), _positive(center), _positive([side])
    return Crop((width, height), (x, y), side)


def _positive(numbers: Any) -> tuple[int, ...]:
    if isinstance(numbers, list) and all(type(n) is int and n > 0 for n in numbers):
        return tuple(numbers)
    raise ValueError(f"a crop expects lists of positive integers; got {numbers!r:.80}")


def _text(header: Mapping[str, str], key: str, path: Path) -> str:
    if key not in header:
        raise CheckpointError(
            f"{path} lacks {key!r} in its metadata. Save it again with iagan.save_prior."
        )
    return header[key]


def _parsed(header: Mapping[str, str], key: str, kind: type, path: Path) -> Any:
    """The JSON value of `key`; null is allowed only for the crop."""
    text = _text(header, key, path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, kind) or (key == "crop" and value is None):
        return value
    raise CheckpointError(
        f"{path} expects a JSON {'object' if kind is dict else 'list'} as {key!r} in its metadata; "
        f"got {text!r:.80}. Save it again with iagan.save_prior."
    )
