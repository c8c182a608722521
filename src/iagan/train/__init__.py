"""A prior of one's own: BEGAN, trained on a folder of images."""

from __future__ import annotations

from iagan.train.data import TrainImages, load_images
from iagan.train.loop import Progress, Trained, train
from iagan.train.settings import RECIPES, TrainSettings

__all__ = [
    "RECIPES",
    "Progress",
    "TrainImages",
    "TrainSettings",
    "Trained",
    "load_images",
    "train",
]
