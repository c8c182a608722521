"""Training of your own prior on a folder of images."""

from __future__ import annotations

from iagan.train.base import TrainSettings
from iagan.train.began_settings import BeganSettings
from iagan.train.data import TrainImages, load_images
from iagan.train.loop import Trained, train
from iagan.train.recipes import RECIPES
from iagan.train.vaegan_settings import VaeGanSettings

__all__ = [
    "RECIPES",
    "BeganSettings",
    "TrainImages",
    "TrainSettings",
    "Trained",
    "VaeGanSettings",
    "load_images",
    "train",
]
