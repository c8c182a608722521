"""The recipes by name, and the run that belongs to each kind of settings."""

from __future__ import annotations

import torch

from iagan.train.base import TrainingRun, TrainSettings
from iagan.train.began_run import new_began_run
from iagan.train.began_settings import BeganSettings
from iagan.train.vaegan import new_vaegan_run
from iagan.train.vaegan_settings import VaeGanSettings

RECIPES: dict[str, TrainSettings] = {
    "vae-gan": VaeGanSettings(),
    "began": BeganSettings(),
    "began-cpu": BeganSettings(
        latent=128,
        law="normal",
        encoder="light",
        autoencoder_steps=8_000,
        steps=30_000,
        anchor=1.0,
        patience=500,
    ),
}
"""By name: this project's own, as for `faces`; BEGAN as published, for a GPU; and BEGAN as far as
two processor cores get in some hours, as for `faces-64`."""


def new_run(settings: TrainSettings, device: torch.device) -> TrainingRun:
    """A run before its first step, with seeded weights."""
    if isinstance(settings, VaeGanSettings):
        return new_vaegan_run(settings, device)
    assert isinstance(settings, BeganSettings)
    return new_began_run(settings, device)
