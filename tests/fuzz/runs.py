"""Damaged folders of runs: records, images that were made, training."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from random import Random

import torch

from fuzz import seeds
from fuzz.base import Kind, put
from fuzz.mutate import damaged, odd_text, safetensors_of, safetensors_parts, zipped
from fuzz.pictures import picture
from iagan import images
from iagan.experiments.paper import EXPERIMENTS
from iagan.experiments.run import KEYS
from iagan.experiments.table import cells, comma_separated, markdown, mask_spread, tex
from iagan.jobs import RunFolder
from iagan.jobs.outputs import KEYWORD, Outputs
from iagan.train import load_images
from iagan.train.cache import cached_images
from iagan.train.checkpoint import load_checkpoint

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
    return put(rng, folder, ".png", data if rng.random() < 0.7 else damaged(rng, data))


def _read_output(path: Path) -> None:
    Outputs(path.parent, [path], 1).are_made([path], OUTPUT)


def _archive(rng: Random, folder: Path) -> Path:
    names = ["a.png", "b.jpg", "x/c.tif", "../d.png", "\x1b\n.png", "", "a.png", ".png", "e.txt"]
    picked = [(rng.choice(names), picture(rng)) for _ in range(rng.randint(0, 3))]
    good = seeds.images()["PNG"][0]
    files = [*picked, ("good.png", good), ("good2.png", good)]
    kind = rng.choice(["zip", "tar", "gz", "bz2", "xz", "folder"])
    if kind == "zip":
        return put(rng, folder, ".zip", zipped(rng, [(n or "\0", d) for n, d in files]))
    if kind == "folder":
        for index, (_, data) in enumerate(files):
            put(rng, folder, f"{index}.png", data)
        return folder
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w" if kind == "tar" else f"w:{kind}") as archive:  # type: ignore[call-overload]
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.type = rng.choice([tarfile.REGTYPE] * 9 + [tarfile.SYMTYPE, tarfile.XHDTYPE])
            archive.addfile(info, io.BytesIO(data))
    return put(rng, folder, ".tar", damaged(rng, stream.getvalue(), head=2000))


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
    return put(rng, folder, ".safetensors", safetensors_of(text, values))


def _read_checkpoint(path: Path) -> None:
    load_checkpoint(path, seeds.TRAINING, seeds.run()[1], torch.device("cpu"))


KINDS = {
    "run": Kind(4, _run, (_read_run,)),
    "output": Kind(2, _output, (_read_output,)),
    "training images": Kind(4, _archive, (_read_archive,)),
    "training cache": Kind(2, _cache, (_read_cache,)),
    "checkpoint": Kind(2, _checkpoint, (_read_checkpoint,)),
}
