"""A prior of one's own: BEGAN, trained on a folder of images."""

from __future__ import annotations

from iagan.train.data import TrainImages, load_images
from iagan.train.loop import Progress, Trained, train
from iagan.train.settings import TrainSettings

__all__ = ["Progress", "TrainImages", "TrainSettings", "Trained", "load_images", "train"]
