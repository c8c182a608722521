"""Damaged images and masks."""

from __future__ import annotations

from pathlib import Path
from random import Random

import iagan
from fuzz import seeds
from fuzz.base import Kind, put
from fuzz.mutate import damaged, odd_npy, odd_png
from iagan.decode import decode_rgb
from iagan.masks import load_mask
from iagan.rounding import rounding_std


def picture(rng: Random) -> bytes:
    """A damaged picture of any format."""
    made = seeds.images()
    name = rng.choice(list(made))
    data = rng.choice(made[name])
    if name == "PNG" and rng.random() < 0.4:
        return odd_png(rng, data)
    return damaged(rng, data, made[name], rng.choice([0, 64, 400]))


def _image(rng: Random, folder: Path) -> Path:
    return put(rng, folder, rng.choice([".png", ".jpg", ".x"]), picture(rng))


def _read_image(path: Path) -> None:
    image = iagan.load_image(path)
    assert image.shape[:2] == (1, 3)
    assert 0 <= image.min() <= image.max() <= 1


def _read_rounding(path: Path) -> None:
    assert 0 < rounding_std(path) < 10


def _mask(rng: Random, folder: Path) -> Path:
    if rng.random() < 0.2:
        return put(rng, folder, ".png", picture(rng))
    return put(rng, folder, ".npy", odd_npy(rng, rng.choice(seeds.masks())))


def _read_mask(path: Path) -> None:
    assert load_mask(path, (24, 20)).shape == (24, 20)


KINDS = {
    "image": Kind(20, _image, (_read_image, _read_rounding, lambda p: decode_rgb(p, str(p)))),
    "mask": Kind(9, _mask, (_read_mask,)),
}
