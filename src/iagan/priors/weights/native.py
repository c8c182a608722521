"""Priors in the project's own format: safetensors whose metadata say everything else."""

from __future__ import annotations

import dataclasses as dc
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from iagan.errors import CheckpointError, IaganError, SettingError
from iagan.files import write_atomically
from iagan.images import Crop
from iagan.priors.base import About, latent_from_spec
from iagan.priors.generator import Generator
from iagan.priors.networks.tapered import TaperedEncoder
from iagan.priors.weights.convert import NETWORKS, assemble
from iagan.priors.weights.readers import Tensors

FORMAT = "iagan-prior"
VERSION = "1"
ENCODER = "encoder."
"""What the names of an encoder's weights begin with."""
_TEXTS = ("name", "architecture", "license", "source")


def save_prior(generator: Generator, path: str | os.PathLike[str]) -> None:
    """Write a generator of one of the package's networks as safetensors, for `load_prior`.

    The metadata, all strings: `format` "iagan-prior", `version`, `name`, `architecture`, `license`,
    `source`, and as JSON `settings` (of the network's constructor), `value_range`, `latent` (law
    and shape), `crop`, and where there is one the `encoder`'s settings; its weights' names begin
    with "encoder.". Weights keep their precision; `load_prior` makes them float32.

    **Raises:** `SettingError` for other networks; `OutputError` when the file cannot be written.
    """
    module, about = generator.module, generator.about
    kinds = [name for name, network in NETWORKS.items() if type(module) is network]
    if not kinds:
        raise SettingError(
            f"save_prior writes the networks {', '.join(NETWORKS)}; got {type(module).__name__}. "
            "Keep its state_dict() yourself and wrap it with iagan.Generator again."
        )
    header = {
        "format": FORMAT,
        "version": VERSION,
        "name": about.name,
        "architecture": kinds[0],
        "license": about.license,
        "source": about.source,
        "settings": json.dumps(module.settings),
        "value_range": json.dumps(generator.value_range),
        "latent": json.dumps({"law": generator.latent.law, "shape": generator.latent.shape}),
        "crop": json.dumps(about.crop and dc.asdict(about.crop)),
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in module.named_parameters()}
    encoder = generator.encoder
    if encoder is not None:
        if type(encoder) is not TaperedEncoder:
            raise SettingError(
                f"save_prior writes encoders of TaperedEncoder; got {type(encoder).__name__}. "
                "Wrap the network without its encoder, or keep both state dicts yourself."
            )
        header["encoder"] = json.dumps(encoder.settings)
        weights |= {
            f"{ENCODER}{name}": value.detach().cpu().contiguous()
            for name, value in encoder.named_parameters()
        }
    write_atomically(path, lambda stream: stream.write(save(weights, header)))


def load_stored(path: Path) -> Generator:
    """The generator that `save_prior` wrote.

    **Raises:** `CheckpointError` when the file is truncated, is another program's, or its metadata
    and weights disagree.
    """
    header, tensors = _read(path)
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise CheckpointError(
            f"{path} expects the metadata format {FORMAT!r} and version {VERSION!r}; got "
            f"{header.get('format')!r} and {header.get('version')!r}. Load the original checkpoint "
            "and write it with iagan.save_prior."
        )
    if "licence" in header:  # how files before 0.1.0 spelled it
        header = {"license": header["licence"], **header}
    texts = {key: _text(header, key, path) for key in _TEXTS}
    if texts["architecture"] not in NETWORKS:
        raise CheckpointError(
            f"{path} expects architecture {' or '.join(NETWORKS)}; got {texts['architecture']!r}."
        )
    settings, latent, crop = (
        _parsed(header, key, dict, path) for key in ("settings", "latent", "crop")
    )
    encoder = None
    if "encoder" in header:
        parts = {
            name.removeprefix(ENCODER): value
            for name, value in tensors.items()
            if name.startswith(ENCODER)
        }
        tensors = {name: value for name, value in tensors.items() if not name.startswith(ENCODER)}
        encoder = assemble(TaperedEncoder, _parsed(header, "encoder", dict, path), parts, path)
    network = assemble(NETWORKS[texts["architecture"]], settings, tensors, path)
    try:
        low, high = _parsed(header, "value_range", list, path)
        return Generator(
            network,
            latent_from_spec(latent | {"shape": _positive(latent.get("shape"))}),
            (float(low), float(high)),
            About(**texts, crop=crop and _crop(**crop)),
            encoder,
        )
    except (IaganError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} has metadata that do not fit its weights: {str(error).splitlines()[0]} "
            "Write it again with iagan.save_prior."
        ) from error


def _crop(photo_size: Any, center: Any, side: Any) -> Crop:
    (width, height), (x, y), (side,) = _positive(photo_size), _positive(center), _positive([side])
    return Crop((width, height), (x, y), side)


def _positive(numbers: Any) -> tuple[int, ...]:
    if isinstance(numbers, list) and all(type(n) is int and n > 0 for n in numbers):
        return tuple(numbers)
    raise ValueError(f"Sizes and places are lists of positive integers; got {numbers!r}.")


def _read(path: Path) -> tuple[Mapping[str, str], Tensors]:
    try:
        with safe_open(path, framework="pt") as stream:
            names = list(stream.keys())
            return stream.metadata() or {}, {name: stream.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0][:120].rstrip(".")
        raise CheckpointError(
            f"{path} is truncated or broken: it begins as a safetensors file, but reading it "
            f"failed: {reason}. Fetch the file again."
        ) from error


def _text(header: Mapping[str, str], key: str, path: Path) -> str:
    if key not in header:
        raise CheckpointError(
            f"{path} lacks {key!r} in its metadata. Write it again with iagan.save_prior."
        )
    return header[key]


def _parsed(header: Mapping[str, str], key: str, kind: type, path: Path) -> Any:
    """The JSON under `key`; null is admitted for the crop alone."""
    text = _text(header, key, path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, kind) or (key == "crop" and value is None):
        return value
    raise CheckpointError(
        f"{path} expects a JSON {'object' if kind is dict else 'list'} as its metadata's {key!r}; "
        f"got {text[:80]!r}. Write it again with iagan.save_prior."
    )
