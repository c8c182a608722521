"""Damaged priors in every format."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import torch

import iagan
from fuzz import seeds
from fuzz.base import Kind, put
from fuzz.mutate import (
    damaged,
    odd_npy,
    odd_text,
    safetensors_of,
    safetensors_parts,
    unzipped,
    zipped,
)


def _own_prior(rng: Random, folder: Path) -> Path:
    data = rng.choice(seeds.priors())
    if rng.random() < 0.25:
        data = damaged(rng, data, seeds.priors(), 1500)
        return put(rng, folder, ".safetensors", data)
    header, values = safetensors_parts(data)
    if rng.random() < 0.5:
        notes = header["__metadata__"]
        for name in rng.sample(list(notes), 2):
            notes[name] = odd_text(rng, _as_json(notes[name]))
        text = json.dumps(header)
    else:
        text = odd_text(rng, header)
    if rng.random() < 0.1:
        values = damaged(rng, values)
    return put(rng, folder, ".safetensors", safetensors_of(text, values))


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _torch_file(rng: Random, folder: Path) -> Path:
    data = rng.choice(seeds.torch_files())
    if not data.startswith(b"PK") or rng.random() < 0.3:
        return put(rng, folder, ".pth", damaged(rng, data, seeds.torch_files(), 1200))
    members = unzipped(data)
    index = rng.choice([0, rng.randrange(len(members))])  # the pickle comes first
    members[index] = (members[index][0], damaged(rng, members[index][1]))
    return put(rng, folder, ".pth", zipped(rng, members, 0.1))


def _tensorflow(rng: Random, folder: Path) -> Path:
    members = list(seeds.tensorflow_arrays())
    index = rng.randrange(len(members))
    name, data = members[index]
    members[index] = (rng.choice([name, name, "x\n.npy"]), odd_npy(rng, data))
    return put(rng, folder, ".npz", zipped(rng, members))


BOMBS = (b"q\x00h\x00\x86" * 40, b"Nr\xff\xff\xff\x07", b"(" * 5000, b"}K\x01" + b"q\x00\x85" * 300)


def _nvidia(rng: Random, folder: Path) -> Path:
    data = damaged(rng, rng.choice(seeds.nvidia_pickles()), seeds.nvidia_pickles(), 2000)
    if rng.random() < 0.1:
        at = rng.randrange(min(len(data), 300) + 1)
        data = data[:at] + rng.choice(BOMBS) + data[at:]
    return put(rng, folder, ".pkl", data)


def _read_prior(path: Path) -> None:
    prior = iagan.load_prior(path)
    x = prior(prior.latent.sample(1, torch.Generator().manual_seed(0)))
    assert x.shape[1:] == prior.image_shape
    assert str(prior.about.name).isprintable()


KINDS = {
    "own prior": Kind(10, _own_prior, (_read_prior,)),
    "torch prior": Kind(6, _torch_file, (_read_prior,)),
    "TensorFlow prior": Kind(4, _tensorflow, (_read_prior,)),
    "NVIDIA prior": Kind(5, _nvidia, (_read_prior,)),
}
