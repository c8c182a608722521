"""Generated pictures for the tests of training: a coloured disc on a coloured ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def disc(rng: np.random.Generator, size: int) -> Image.Image:
    """A disc of random place, radius and colour on a darker ground."""
    y, x = np.mgrid[0:size, 0:size] / size
    cx, cy = rng.uniform(0.35, 0.65, 2)
    inside = ((x - cx) ** 2 + (y - cy) ** 2 < rng.uniform(0.15, 0.3) ** 2)[..., None]
    colours = np.where(inside, rng.uniform(150, 250, 3), rng.uniform(0, 100, 3))
    return Image.fromarray(colours.astype(np.uint8))


def write_discs(folder: Path, count: int, size: int = 32) -> Path:
    """`count` PNGs of discs, named in order."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        disc(rng, size).save(folder / f"{index:04}.png")
    return folder
