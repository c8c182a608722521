"""Settings of the VAE-GAN."""

from __future__ import annotations

import dataclasses as dc
from typing import ClassVar

from iagan.priors.networks.tapered import CHANNELS, ENCODER_CHANNELS, side_of
from iagan.train.base import Rule, TrainSettings


@dc.dataclass(frozen=True, kw_only=True)
class VaeGanSettings(TrainSettings):
    """A variational autoencoder with an adversarial phase (`vaegan.py`).

    The defaults are for images of 128×128.

    **Arguments:** (beyond those of `TrainSettings`)
    - `channels`: channels of the decoder at the resolutions 4, 8, …, `size`.
    - `encoder_channels`: channels of the encoder at the resolutions `size` / 2, …, 4.
    - `learning_rate`: Adam's learning rate for encoder and decoder, with 200 steps of warm-up, then
      cosine decay to a twentieth over both phases.
    - `discriminator_rate`: Adam's learning rate for the discriminator.
    - `kl_weight`: β, the scale of the Laplace likelihood, for images in [0, 1].
    - `perceptual_weight`: weight of the distance between squeezenet1_1's features; 0: unused.
    - `adversarial_weight`: weight of the hinge loss in the adversarial phase.
    - `gradient_penalty`: γ of the R1 penalty on real images.
    - `start`: a prior, by name or path, whose decoder and encoder weights the run starts from;
      None: random weights. It must have the same channels and latent.
    - `degraded_weight`: weight of the KL term of degraded images, in units of the KL term.

    **Raises:** `SettingError`.
    **Sources:** Larsen et al. 2016 (arXiv 1512.09300); Kingma and Welling 2014 (arXiv 1312.6114).
    """

    method: ClassVar[str] = "vae-gan"

    size: int = 128
    latent: int = 256
    batch: int = 32
    autoencoder_steps: int = 8_000
    steps: int = 8_000
    holdout: int = 0
    channels: tuple[int, ...] = CHANNELS
    encoder_channels: tuple[int, ...] = ENCODER_CHANNELS
    learning_rate: float = 6e-4
    discriminator_rate: float = 4e-4
    kl_weight: float = 0.05
    perceptual_weight: float = 0.02
    adversarial_weight: float = 0.004
    gradient_penalty: float = 1.0
    degraded_weight: float = 1.0
    start: str | None = None

    def rules(self) -> list[Rule]:
        return [
            *super().rules(),
            ("that matches channels and encoder_channels", self._sizes_agree(), "size"),
            ("in (0, 1)", 0 < self.learning_rate < 1, "learning_rate"),
            ("in (0, 1)", 0 < self.discriminator_rate < 1, "discriminator_rate"),
            ("of 0 or more", self.kl_weight >= 0, "kl_weight"),
            ("of 0 or more", self.perceptual_weight >= 0, "perceptual_weight"),
            ("of 0 or more", self.adversarial_weight >= 0, "adversarial_weight"),
            ("of 0 or more", self.gradient_penalty >= 0, "gradient_penalty"),
            ("of 0 or more", self.degraded_weight >= 0, "degraded_weight"),
            ("of 2 or more", self.batch >= 2, "batch"),
        ]

    def _sizes_agree(self) -> bool:
        sides = (side_of(self.channels), 2 * side_of(self.encoder_channels))
        return sides == (self.size, self.size)
