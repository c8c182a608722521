"""Kinds of trials: how an input is made, and everything that reads it."""

from __future__ import annotations

import dataclasses as dc
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

import iagan
from fuzz import extremes, faulty, seeds
from fuzz.mutate import (
    damaged,
    odd_json,
    odd_npy,
    odd_png,
    odd_text,
    safetensors_of,
    safetensors_parts,
    unzipped,
    zipped,
)
from iagan import images, methods, operators
from iagan.decode import decode_rgb
from iagan.experiments.paper import EXPERIMENTS
from iagan.experiments.run import KEYS
from iagan.experiments.table import cells, comma_separated, markdown, mask_spread, tex
from iagan.jobs import RunFolder
from iagan.jobs.outputs import KEYWORD, Outputs
from iagan.masks import load_mask
from iagan.parse import parse_json
from iagan.rounding import rounding_std
from iagan.train import load_images
from iagan.train.cache import cached_images
from iagan.train.checkpoint import load_checkpoint

SMALL = 2**16
"""Numbers of an image for which an operator is also run."""
NAMES = ["case"] * 30 + ["\x1b]0;x\x07", "a\nb", "é" * 100, "\udcff"]


@dc.dataclass(frozen=True)
class Kind:
    """**Arguments:**
    - `weight`: share of the trials, in percent.
    - `make`: writes an input into the folder, and gives the path that is read.
    - `reads`: whatever reads such a path.
    """

    weight: int
    make: Callable[[Random, Path], Path]
    reads: tuple[Callable[[Path], object], ...]


def _put(rng: Random, folder: Path, suffix: str, data: bytes | str) -> Path:
    path = folder / f"{rng.choice(NAMES)}{suffix}"
    path.write_bytes(data if isinstance(data, bytes) else data.encode(errors="backslashreplace"))
    return path


# -- images and masks -------------------------------------------------------------------------


def _picture(rng: Random) -> bytes:
    made = seeds.images()
    name = rng.choice(list(made))
    data = rng.choice(made[name])
    if name == "PNG" and rng.random() < 0.4:
        return odd_png(rng, data)
    return damaged(rng, data, made[name], rng.choice([0, 64, 400]))


def _image(rng: Random, folder: Path) -> Path:
    return _put(rng, folder, rng.choice([".png", ".jpg", ".x"]), _picture(rng))


def _read_image(path: Path) -> None:
    image = iagan.load_image(path)
    assert image.shape[:2] == (1, 3)
    assert 0 <= image.min() <= image.max() <= 1


def _read_rounding(path: Path) -> None:
    assert 0 < rounding_std(path) < 10


def _mask(rng: Random, folder: Path) -> Path:
    if rng.random() < 0.2:
        return _put(rng, folder, ".png", _picture(rng))
    return _put(rng, folder, ".npy", odd_npy(rng, rng.choice(seeds.masks())))


def _read_mask(path: Path) -> None:
    assert load_mask(path, (24, 20)).shape == (24, 20)


# -- observations, operators, methods ---------------------------------------------------------


def _observation(rng: Random, folder: Path) -> Path:
    data = rng.choice(seeds.observations())
    if rng.random() < 0.2:
        return _put(rng, folder, ".npz", damaged(rng, data, seeds.observations()))
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
    return _put(rng, folder, ".npz", zipped(rng, list(members.items()), 0.1))


def _read_observation(path: Path) -> None:
    observation = iagan.load_observation(path)
    assert torch.isfinite(observation.y).all()
    operator = observation.operator
    if operator.n * max(operator.m, 1) < SMALL:
        result = iagan.reconstruct(observation, None, "pinv")
        assert torch.isfinite(result.image).all() or result.messages


def _spec(rng: Random, folder: Path) -> Path:
    return _put(rng, folder, ".json", odd_text(rng, rng.choice(seeds.specs())))


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
    return _put(rng, folder, ".json", odd_text(rng, rng.choice(seeds.methods())))


def _read_method(path: Path) -> None:
    method = methods.from_spec(_parsed(path))
    assert methods.from_spec(json.loads(json.dumps(method.spec()))) == method


# -- priors -----------------------------------------------------------------------------------


def _own_prior(rng: Random, folder: Path) -> Path:
    data = rng.choice(seeds.priors())
    if rng.random() < 0.25:
        data = damaged(rng, data, seeds.priors(), 1500)
        return _put(rng, folder, ".safetensors", data)
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
    return _put(rng, folder, ".safetensors", safetensors_of(text, values))


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _torch_file(rng: Random, folder: Path) -> Path:
    data = rng.choice(seeds.torch_files())
    if not data.startswith(b"PK") or rng.random() < 0.3:
        return _put(rng, folder, ".pth", damaged(rng, data, seeds.torch_files(), 1200))
    members = unzipped(data)
    index = rng.choice([0, rng.randrange(len(members))])  # the pickle comes first
    members[index] = (members[index][0], damaged(rng, members[index][1]))
    return _put(rng, folder, ".pth", zipped(rng, members, 0.1))


def _tensorflow(rng: Random, folder: Path) -> Path:
    members = list(seeds.tensorflow_arrays())
    index = rng.randrange(len(members))
    name, data = members[index]
    members[index] = (rng.choice([name, name, "x\n.npy"]), odd_npy(rng, data))
    return _put(rng, folder, ".npz", zipped(rng, members))


BOMBS = (b"q\x00h\x00\x86" * 40, b"Nr\xff\xff\xff\x07", b"(" * 5000, b"}K\x01" + b"q\x00\x85" * 300)


def _nvidia(rng: Random, folder: Path) -> Path:
    data = damaged(rng, rng.choice(seeds.nvidia_pickles()), seeds.nvidia_pickles(), 2000)
    if rng.random() < 0.1:
        at = rng.randrange(min(len(data), 300) + 1)
        data = data[:at] + rng.choice(BOMBS) + data[at:]
    return _put(rng, folder, ".pkl", data)


def _read_prior(path: Path) -> None:
    prior = iagan.load_prior(path)
    x = prior(prior.latent.sample(1, torch.Generator().manual_seed(0)))
    assert x.shape[1:] == prior.image_shape
    assert str(prior.about.name).isprintable()


# -- runs -------------------------------------------------------------------------------------


SETTINGS = {"a": 1, "methods": ["csgm"]}


def _run(rng: Random, folder: Path) -> Path:
    lines = [json.dumps(seeds.record())] * 2 + [odd_text(rng, seeds.record())]
    text = odd_text(rng, SETTINGS) if rng.random() < 0.3 else json.dumps(SETTINGS)
    (folder / "settings.json").write_text(text, errors="backslashreplace")
    text = "\n".join(lines).encode(errors="backslashreplace") + b"\n" * rng.randint(0, 1)
    (folder / "records.jsonl").write_bytes(damaged(rng, text) if rng.random() < 0.2 else text)
    return folder


def _read_run(folder: Path) -> None:
    records = RunFolder(folder, SETTINGS, tuple(SETTINGS), KEYS).records()
    for name in EXPERIMENTS:
        table = cells(name, records)
        markdown(table, "alex")
        tex(table, "alex", "x")
        mask_spread(name, records)
        comma_separated({name: table}, {})


OUTPUT = {"observation": "0", "method": {"method": "naive"}, "prior": None, "seed": 0}


def _output(rng: Random, folder: Path) -> Path:
    text = odd_text(rng, OUTPUT).encode(errors="backslashreplace").decode()
    data = images.encode_png(torch.zeros(1, 3, 4, 4), {KEYWORD: text})
    return _put(rng, folder, ".png", data if rng.random() < 0.7 else damaged(rng, data))


def _read_output(path: Path) -> None:
    Outputs(path.parent, [path], 1).are_made([path], OUTPUT)


# -- training ---------------------------------------------------------------------------------


def _archive(rng: Random, folder: Path) -> Path:
    names = ["a.png", "b.jpg", "x/c.tif", "../d.png", "\x1b\n.png", "", "a.png", ".png", "e.txt"]
    picked = [(rng.choice(names), _picture(rng)) for _ in range(rng.randint(0, 3))]
    good = seeds.images()["PNG"][0]
    files = [*picked, ("good.png", good), ("good2.png", good)]
    kind = rng.choice(["zip", "tar", "gz", "bz2", "xz", "folder"])
    if kind == "zip":
        return _put(rng, folder, ".zip", zipped(rng, [(n or "\0", d) for n, d in files]))
    if kind == "folder":
        for index, (_, data) in enumerate(files):
            _put(rng, folder, f"{index}.png", data)
        return folder
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w" if kind == "tar" else f"w:{kind}") as archive:  # type: ignore[call-overload]
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.type = rng.choice([tarfile.REGTYPE] * 9 + [tarfile.SYMTYPE, tarfile.XHDTYPE])
            archive.addfile(info, io.BytesIO(data))
    return _put(rng, folder, ".tar", damaged(rng, stream.getvalue(), head=2000))


def _read_archive(path: Path) -> None:
    found = load_images(path, 8)
    assert found.pixels.shape[1:] == (3, 8, 8)
    assert all(line.isprintable() for line in found.skipped)


def _cache(rng: Random, folder: Path) -> Path:
    (folder / "images").mkdir()
    for name in ("a.png", "b.png"):
        (folder / "images" / name).write_bytes(seeds.images()["PNG"][0])
    _read_cache(folder)
    path = folder / "run" / "images.safetensors"
    header, values = safetensors_parts(path.read_bytes())
    notes = header["__metadata__"]
    chance = rng.random()
    if chance < 0.4:
        notes["iagan_images"] = odd_text(rng, json.loads(notes["iagan_images"]))
    text = odd_text(rng, header) if chance > 0.7 else json.dumps(header)
    path.write_bytes(safetensors_of(text, damaged(rng, values) if chance > 0.9 else values))
    return folder


def _read_cache(folder: Path) -> None:
    found = cached_images(folder / "images", folder / "run", seeds.TRAINING)
    assert found.pixels.shape[1:] == (3, 32, 32)


def _checkpoint(rng: Random, folder: Path) -> Path:
    header, values = safetensors_parts(seeds.run()[0])
    if rng.random() < 0.7:
        notes = header["__metadata__"]
        notes["iagan_training"] = odd_text(rng, json.loads(notes["iagan_training"]))
        text = json.dumps(header)
    else:
        text = odd_text(rng, header)
    return _put(rng, folder, ".safetensors", safetensors_of(text, values))


def _read_checkpoint(path: Path) -> None:
    load_checkpoint(path, seeds.TRAINING, seeds.run()[1], torch.device("cpu"))


KINDS = {
    "image": Kind(20, _image, (_read_image, _read_rounding, lambda p: decode_rgb(p, str(p)))),
    "mask": Kind(9, _mask, (_read_mask,)),
    "observation": Kind(16, _observation, (_read_observation,)),
    "operator": Kind(9, _spec, (_read_spec,)),
    "method": Kind(3, _method, (_read_method,)),
    "own prior": Kind(10, _own_prior, (_read_prior,)),
    "torch prior": Kind(6, _torch_file, (_read_prior,)),
    "TensorFlow prior": Kind(4, _tensorflow, (_read_prior,)),
    "NVIDIA prior": Kind(5, _nvidia, (_read_prior,)),
    "run": Kind(4, _run, (_read_run,)),
    "output": Kind(2, _output, (_read_output,)),
    "training images": Kind(4, _archive, (_read_archive,)),
    "training cache": Kind(2, _cache, (_read_cache,)),
    "checkpoint": Kind(2, _checkpoint, (_read_checkpoint,)),
    "extreme": Kind(4, extremes.make, (extremes.read,)),
    "faulty": Kind(0, faulty.make, (faulty.read,)),
}
