"""BEGAN's settings."""

from __future__ import annotations

import dataclasses as dc
from typing import ClassVar, Literal

from iagan.errors import SettingError
from iagan.priors import LatentSpace, NormalLatent, UniformLatent
from iagan.train.base import Rule, TrainSettings

EncoderKind = Literal["began", "light"]
Law = Literal["uniform", "normal"]


@dc.dataclass(frozen=True, kw_only=True)
class BeganSettings(TrainSettings):
    """BEGAN (arXiv 1703.10717). The defaults are those published in its section 4.

    **Arguments:** (beyond those of `TrainSettings`)
    - `size`: 32, 64 or 128.
    - `latent`: dimension of z and of the discriminator's code (the paper: 64).
    - `width`: number n of channels in the generator's layers (the paper: 64 or 128).
    - `law`: distribution of z: `"uniform"` in [-1, 1] as published, or `"normal"`.
    - `encoder`: the published one, or a `"light"` one at a fifth of the generator's cost.
    - `gamma`: γ, the diversity ratio: smaller is smoother and less diverse (the paper: 0.3 to 0.7).
    - `lambda_k`: λ_k, the gain of the balance k.
    - `learning_rate`: Adam's learning rate in the adversarial phase, halved whenever M stalls.
    - `patience`: steps per window of M, which stalls after four windows without a new lowest mean.
    - `autoencoder_rate`: Adam's learning rate in the autoencoder phase, with cosine decay
      to a twentieth.
    - `kl_weight`: β, the scale of the Laplace likelihood there (see `autoencoder.py`).
    - `anchor`: weight of the reconstruction loss in the adversarial phase; 0: as published.

    **Raises:** `SettingError`.
    """

    method: ClassVar[str] = "began"

    width: int = 64
    law: Law = "uniform"
    encoder: EncoderKind = "began"
    gamma: float = 0.5
    lambda_k: float = 1e-3
    learning_rate: float = 1e-4
    patience: int = 2_000
    autoencoder_rate: float = 1e-3
    kl_weight: float = 0.2
    anchor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.law != "normal" and self.autoencoder_steps > 0:
            raise SettingError(
                "BeganSettings expects law 'normal' with an autoencoder phase, whose code is "
                f"unit-normal; got {self.law!r}. Set law to 'normal' or autoencoder_steps to 0."
            )
        if self.anchor > 0 and self.autoencoder_steps == 0:
            raise SettingError(
                f"BeganSettings expects autoencoder_steps above 0 with anchor {self.anchor}, which "
                "preserves the result of that phase. Set anchor to 0 or add the phase."
            )

    def rules(self) -> list[Rule]:
        return [
            *super().rules(),
            ("32, 64 or 128", self.size in (32, 64, 128), "size"),
            ("above 0", self.width > 0, "width"),
            ("'uniform' or 'normal'", self.law in ("uniform", "normal"), "law"),
            ("'began' or 'light'", self.encoder in ("began", "light"), "encoder"),
            ("in (0, 1]", 0 < self.gamma <= 1, "gamma"),
            ("in (0, 1]", 0 < self.lambda_k <= 1, "lambda_k"),
            ("in (0, 1)", 0 < self.learning_rate < 1, "learning_rate"),
            ("above 0", self.patience > 0, "patience"),
            ("in (0, 1)", 0 < self.autoencoder_rate < 1, "autoencoder_rate"),
            ("of 0 or more", self.kl_weight >= 0, "kl_weight"),
            ("of 0 or more", self.anchor >= 0, "anchor"),
        ]

    @property
    def latent_space(self) -> LatentSpace:
        """The latent space of the finished prior."""
        space = NormalLatent if self.law == "normal" else UniformLatent
        return space((self.latent,))
