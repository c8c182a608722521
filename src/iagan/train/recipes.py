"""Training recipes by name, and the run for given settings."""

from __future__ import annotations

import torch

from iagan.train.base import TrainingRun, TrainSettings
from iagan.train.began_run import new_began_run
from iagan.train.began_settings import BeganSettings
from iagan.train.vaegan_settings import VaeGanSettings
from iagan.train.vaegan_start import new_vaegan_run

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
"""Training settings by name: this project's VAE-GAN, used for `faces`; BEGAN as published, for a
GPU; and a BEGAN for some hours on two CPU cores, used for `faces-64`."""


def new_run(settings: TrainSettings, device: torch.device) -> TrainingRun:
    """A run before its first step."""
    if isinstance(settings, VaeGanSettings):
        return new_vaegan_run(settings, device)
    assert isinstance(settings, BeganSettings)
    return new_began_run(settings, device)
