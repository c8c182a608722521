"""Damaged observations, and specs of operators and methods."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import torch

import iagan
from fuzz import seeds
from fuzz.base import Kind, put
from fuzz.mutate import damaged, odd_json, odd_npy, odd_text, unzipped, zipped
from iagan import methods, operators
from iagan.parse import parse_json

SMALL = 2**16
"""Numbers in A, as a matrix, up to which it is also run."""


def _observation(rng: Random, folder: Path) -> Path:
    data = rng.choice(seeds.observations())
    if rng.random() < 0.2:
        return put(rng, folder, ".npz", damaged(rng, data, seeds.observations()))
    members = dict(unzipped(data))
    if rng.random() < 0.6:
        about = json.loads(str(seeds.array(members["about.npy"])))
        if rng.random() < 0.6:
            about["operator"] = odd_json(rng, about["operator"])
            text = json.dumps(about)
        else:
            text = odd_text(rng, about)
        members["about.npy"] = seeds.npy(text)
    else:
        name = rng.choice(list(members))
        members[name] = odd_npy(rng, members[name])
    if rng.random() < 0.05:
        members[rng.choice(["x.npy", "\x1b[31m.npy"])] = members.pop("y.npy")
    return put(rng, folder, ".npz", zipped(rng, list(members.items()), 0.1))


def _read_observation(path: Path) -> None:
    observation = iagan.load_observation(path)
    assert torch.isfinite(observation.y).all()
    operator = observation.operator
    if operator.n * max(operator.m, 1) < SMALL:
        result = iagan.reconstruct(observation, None, "pinv")
        assert torch.isfinite(result.image).all() or result.messages


def _spec(rng: Random, folder: Path) -> Path:
    return put(rng, folder, ".json", odd_text(rng, rng.choice(seeds.specs())))


def _parsed(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise iagan.IaganError(str(error)) from error


def _read_spec(path: Path) -> None:
    operator = operators.from_spec(_parsed(path))
    if operator.n * max(operator.m, 1) < SMALL:
        y = operator(torch.rand(1, *operator.image_shape))
        assert torch.isfinite(y).all()
        assert torch.isfinite(operator.pinv(y)).all()
    assert operators.from_spec(json.loads(json.dumps(operator.spec()))).spec() == operator.spec()


def _method(rng: Random, folder: Path) -> Path:
    return put(rng, folder, ".json", odd_text(rng, rng.choice(seeds.methods())))


def _read_method(path: Path) -> None:
    method = methods.from_spec(_parsed(path))
    assert methods.from_spec(json.loads(json.dumps(method.spec()))) == method


KINDS = {
    "observation": Kind(16, _observation, (_read_observation,)),
    "operator": Kind(9, _spec, (_read_spec,)),
    "method": Kind(3, _method, (_read_method,)),
}
