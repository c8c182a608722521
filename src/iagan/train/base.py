"""What every recipe shares: settings, a run that can be stopped and resumed, what it reports."""

from __future__ import annotations

import abc
import dataclasses as dc
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iagan.errors import SettingError
from iagan.images import Crop
from iagan.priors import About, Generator
from iagan.train.data import Pixels
from iagan.types import Image

Rule = tuple[str, bool, str]
"""(what is expected, whether it holds, the field's name)."""


@dc.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything that decides what a training run gives. Each recipe is a subclass.

    **Arguments:**
    - `size`: side of the images in pixels.
    - `latent`: entries of z.
    - `batch`: images a step.
    - `autoencoder_steps`: steps of the first phase, in which images are only reconstructed.
    - `steps`: adversarial steps after it; the only field that may change when a run goes on.
    - `ema`: decay of the running mean of the weights, which is what is saved.
    - `flip`: mirror every second image, drawn at random.
    - `crop`: square to cut from images of exactly its `photo_size`; others, the centred square.
    - `holdout`: the last images, kept for validation only.
    - `seed`: of every random draw; each is a function of the seed and the step.

    **Raises:** `SettingError`.
    """

    method: ClassVar[str]
    """The word for the recipe's algorithm in checkpoints."""

    size: int = 64
    latent: int = 64
    batch: int = 16
    autoencoder_steps: int = 0
    steps: int = 200_000
    ema: float = 0.999
    flip: bool = True
    crop: Crop | None = None
    holdout: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for expected, holds, name in self.rules():
            if not holds:
                raise SettingError(
                    f"{type(self).__name__} expects {name} {expected}; got "
                    f"{getattr(self, name)!r}. Choose another {name}."
                )

    def rules(self) -> list[Rule]:
        """What the fields must fulfil; a subclass adds its own."""
        return [
            ("above 0", self.latent > 0, "latent"),
            ("above 0", self.batch > 0, "batch"),
            ("of 0 or more", self.autoencoder_steps >= 0, "autoencoder_steps"),
            ("of 0 or more, above 0 in all", self.steps >= 0 and self.total_steps > 0, "steps"),
            ("in [0, 1)", 0 <= self.ema < 1, "ema"),
            ("of 0 or more", self.holdout >= 0, "holdout"),
            ("of 0 or more", self.seed >= 0, "seed"),
        ]

    @property
    def total_steps(self) -> int:
        """Steps of both phases."""
        return self.autoencoder_steps + self.steps

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` turns into the same settings."""
        return {"method": self.method, **dc.asdict(self)}

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> TrainSettings:
        """Invert `to_json`.

        **Raises:** `SettingError`, `TypeError` or `KeyError` when `spec` is something else.
        """
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()
        }
        kinds = {kind.method: kind for kind in TrainSettings.__subclasses__()}
        kind = kinds[fields.pop("method")]
        if fields["crop"] is not None:
            crop = fields["crop"]
            fields["crop"] = Crop(tuple(crop["photo_size"]), tuple(crop["center"]), crop["side"])
        return kind(**fields)

    def differences(self, other: TrainSettings) -> list[str]:
        """What makes a run under `other` another run: names of fields, without `steps`."""
        if type(self) is not type(other):
            return ["method"]
        return [
            field.name
            for field in dc.fields(self)
            if field.name != "steps" and getattr(self, field.name) != getattr(other, field.name)
        ]


@dc.dataclass
class TrainingRun(abc.ABC):
    """Everything that changes while training, and the settings, which do not.

    - `step`: steps done, of both phases.
    - `validation`: (step, mean absolute error of reconstructed held-out images in [0, 1]).
    """

    settings: TrainSettings
    step: int = dc.field(default=0, init=False)
    validation: list[tuple[int, float]] = dc.field(default_factory=list, init=False)

    @property
    @abc.abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The networks by name, as checkpoints call them."""

    @property
    @abc.abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Adam]:
        """The optimizers by name, as checkpoints call them."""

    @property
    def phase(self) -> str:
        """That of the next step."""
        return "autoencoder" if self.step < self.settings.autoencoder_steps else "adversarial"

    @abc.abstractmethod
    def losses(self, x: Image, pixels: Pixels) -> dict[str, float]:
        """One step on the batch `x`, in [-1, 1]: every network's, and the running mean's.

        `pixels` are all training images. `step` is still the number of steps done before.
        """

    @abc.abstractmethod
    def prior(self, pixels: Pixels, about: About | None) -> Generator:
        """The prior as it is now, from the running mean of the weights."""

    @abc.abstractmethod
    def reconstruct(self, x: Image) -> Image | None:
        """G(encoder(x)) of images in [-1, 1]; None while, or where, there is no encoder for it."""

    def curves(self) -> dict[str, dict[str, list[tuple[int, float]]]]:
        """Panels of the training curve: title → line → (step, value)."""
        return {"held-out images: mean |x - G(encoder(x))|": {"error": self.validation}}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds as JSON beside networks and moments; a subclass adds to it."""
        return {"step": self.step, "validation": self.validation}

    def tensors(self) -> dict[str, Tensor]:
        """What it holds as tensors beside them."""
        return {}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Invert `state` and `tensors`."""
        self.step = int(state["step"])
        self.validation = [(int(step), float(error)) for step, error in state["validation"]]
