"""Everything that decides what a training run gives, as one value."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping
from typing import Any, Literal

from iagan.errors import SettingError
from iagan.generators.base import LatentLaw, Law
from iagan.images import Crop

EncoderKind = Literal["began", "light"]


@dc.dataclass(frozen=True)
class TrainSettings:
    """One run of `train`. The defaults are BEGAN as published (arXiv 1703.10717, section 4).

    **Arguments:**
    - `size`: side of the images in pixels: 32, 64 or 128.
    - `latent`: entries of z, and of the discriminator's code (the paper: 64).
    - `width`: channels n of every layer of the generator (the paper: 64 or 128).
    - `law`: `"uniform"` in [-1, 1] as published, or `"normal"`.
    - `encoder`: the published one, or a `"light"` one at a fifth of the generator's cost.
    - `batch`: images a step.
    - `steps`: adversarial steps; the only field that may change when a run goes on.
    - `gamma`: γ, the diversity ratio: smaller is smoother and less diverse (the paper: 0.3 to 0.7).
    - `lambda_k`: λ_k, the gain of the balance k.
    - `learning_rate`: Adam's in the adversarial phase, halved each time that M stalls.
    - `patience`: a window of M in steps; four windows without a new lowest mean are a stall.
    - `ema`: decay of the running mean of the generator's weights, which is what is saved.
    - `autoencoder_steps`: steps of the autoencoder phase before the adversarial one; 0: none.
    - `autoencoder_rate`: Adam's learning rate there, falling to a twentieth by half a cosine.
    - `kl_weight`: β, the scale of the Laplace likelihood there (see `autoencoder.py`).
    - `anchor`: weight that the reconstruction keeps in the adversarial phase; 0: as published.
    - `flip`: mirror every second image, drawn at random.
    - `crop`: square to cut from images of exactly its `photo_size`; others, the centred square.
    - `holdout`: the last images, kept for validation only.
    - `seed`: of every random draw; each is a function of the seed and the step.

    **Raises:** `SettingError`.
    """

    size: int = 64
    latent: int = 64
    width: int = 64
    law: Law = "uniform"
    encoder: EncoderKind = "began"
    batch: int = 16
    steps: int = 200_000
    gamma: float = 0.5
    lambda_k: float = 1e-3
    learning_rate: float = 1e-4
    patience: int = 2_000
    ema: float = 0.999
    autoencoder_steps: int = 0
    autoencoder_rate: float = 1e-3
    kl_weight: float = 0.2
    anchor: float = 0.0
    flip: bool = True
    crop: Crop | None = None
    holdout: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for wanted, holds, name in _rules(self):
            if not holds:
                raise SettingError(
                    f"TrainSettings wants {name} {wanted}; got {getattr(self, name)!r}. "
                    f"Choose another {name}."
                )
        if self.law != "normal" and self.autoencoder_steps > 0:
            raise SettingError(
                "TrainSettings wants law 'normal' with an autoencoder phase, whose code is "
                f"unit-normal; got {self.law!r}. Set law to 'normal' or autoencoder_steps to 0."
            )
        if self.anchor > 0 and self.autoencoder_steps == 0:
            raise SettingError(
                f"TrainSettings wants autoencoder_steps above 0 with anchor {self.anchor}: the "
                "anchor holds what that phase learned. Set anchor to 0 or add the phase."
            )

    @property
    def latent_law(self) -> LatentLaw:
        """The law of z that the finished prior states."""
        return LatentLaw(self.law, (self.latent,))

    @property
    def total_steps(self) -> int:
        """Steps of both phases."""
        return self.autoencoder_steps + self.steps

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `settings_from_json` turns into the same settings."""
        return dc.asdict(self)

    def differences(self, other: TrainSettings) -> list[str]:
        """What makes a run under `other` another run: names of fields, without `steps`."""
        return [
            field.name
            for field in dc.fields(self)
            if field.name != "steps" and getattr(self, field.name) != getattr(other, field.name)
        ]


def settings_from_json(spec: Mapping[str, Any]) -> TrainSettings:
    """Invert `TrainSettings.to_json`.

    **Raises:** `SettingError`, `TypeError` or `KeyError` when `spec` is something else.
    """
    fields = dict(spec)
    if fields["crop"] is not None:
        crop = fields["crop"]
        fields["crop"] = Crop(tuple(crop["photo_size"]), tuple(crop["center"]), crop["side"])
    return TrainSettings(**fields)


def _rules(s: TrainSettings) -> list[tuple[str, bool, str]]:
    return [
        ("32, 64 or 128", s.size in (32, 64, 128), "size"),
        ("above 0", s.latent > 0, "latent"),
        ("above 0", s.width > 0, "width"),
        ("'uniform' or 'normal'", s.law in ("uniform", "normal"), "law"),
        ("'began' or 'light'", s.encoder in ("began", "light"), "encoder"),
        ("above 0", s.batch > 0, "batch"),
        ("of 0 or more, above 0 in all", s.steps >= 0 and s.total_steps > 0, "steps"),
        ("in (0, 1]", 0 < s.gamma <= 1, "gamma"),
        ("in (0, 1]", 0 < s.lambda_k <= 1, "lambda_k"),
        ("in (0, 1)", 0 < s.learning_rate < 1, "learning_rate"),
        ("above 0", s.patience > 0, "patience"),
        ("in [0, 1)", 0 <= s.ema < 1, "ema"),
        ("of 0 or more", s.autoencoder_steps >= 0, "autoencoder_steps"),
        ("in (0, 1)", 0 < s.autoencoder_rate < 1, "autoencoder_rate"),
        ("of 0 or more", s.kl_weight >= 0, "kl_weight"),
        ("of 0 or more", s.anchor >= 0, "anchor"),
        ("of 0 or more", s.holdout >= 0, "holdout"),
        ("of 0 or more", s.seed >= 0, "seed"),
    ]


RECIPES: dict[str, TrainSettings] = {
    "began": TrainSettings(),
    "cpu": TrainSettings(
        latent=128,
        law="normal",
        encoder="light",
        autoencoder_steps=8_000,
        steps=30_000,
        anchor=1.0,
        patience=500,
    ),
}
"""By name: BEGAN as published, for a GPU; and what two processor cores can do in some hours."""
