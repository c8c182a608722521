"""Base classes of the recipes: settings, and a resumable training run."""

from __future__ import annotations

import abc
import dataclasses as dc
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iagan.errors import SettingError
from iagan.images import Crop
from iagan.priors import About, Generator
from iagan.train.data import Pixels
from iagan.types import Image

Rule = tuple[str, bool, str]
"""A constraint on a setting: (expectation, whether it holds, name of the field)."""


@dc.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """All settings that determine the result of a training run. Each algorithm has a subclass.

    **Arguments:**
    - `size`: side of the images in pixels.
    - `latent`: dimension of z.
    - `batch`: images per step.
    - `autoencoder_steps`: steps of the first phase, without a discriminator.
    - `steps`: steps of the following adversarial phase; the only field that may change on resuming.
    - `ema`: decay of the weights' exponential moving average, which is saved as the prior.
    - `flip`: mirror images with probability ½.
    - `crop`: square cropped from images of exactly its `photo_size`; from others, the centred
      square.
    - `holdout`: number of images, the last ones, held out for validation.
    - `seed`: seed of all random draws, each a function of seed and step.

    **Raises:** `SettingError` for a setting out of range.
    """

    method: ClassVar[str]
    """Name of the algorithm in checkpoints."""

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
        """The constraints on the fields; a subclass adds its own."""
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
        """Number of steps of both phases."""
        return self.autoencoder_steps + self.steps

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON object, for `from_json`."""
        return {"method": self.method, **dc.asdict(self)}

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> TrainSettings:
        """The inverse of `to_json`.

        **Raises:** `SettingError`, `TypeError` or `KeyError` for any other `spec`.
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
        """Names of the fields, other than `steps`, in which `other` differs."""
        if type(self) is not type(other):
            return ["method"]
        return [
            field.name
            for field in dc.fields(self)
            if field.name != "steps" and getattr(self, field.name) != getattr(other, field.name)
        ]


@dc.dataclass
class TrainingRun(abc.ABC):
    """The state of a training run, with its settings.

    - `step`: number of steps done in both phases.
    - `validation`: (step, mean absolute reconstruction error of held-out images in [0, 1]).
    """

    settings: TrainSettings
    step: int = dc.field(default=0, init=False)
    validation: list[tuple[int, float]] = dc.field(default_factory=list, init=False)

    @property
    @abc.abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The networks by their names in checkpoints."""

    @property
    @abc.abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Adam]:
        """The optimizers by their names in checkpoints."""

    @property
    def phase(self) -> str:
        """Phase of the next step."""
        return "autoencoder" if self.step < self.settings.autoencoder_steps else "adversarial"

    @abc.abstractmethod
    def losses(self, x: Image, pixels: Pixels) -> dict[str, float]:
        """Train all networks for one step on the batch `x`, in [-1, 1]; returns losses by name.

        `pixels` are all training images. `step` does not yet include this step.
        """

    @abc.abstractmethod
    def prior(self, pixels: Pixels, about: About | None) -> Generator:
        """The current prior, from the exponential moving average of the weights."""

    @abc.abstractmethod
    def reconstruct(self, x: Image) -> Image | None:
        """G(encoder(x)) of images in [-1, 1]; None without an encoder."""

    def curves(self) -> dict[str, dict[str, list[tuple[int, float]]]]:
        """Panels of the training curves: title → line → (step, value)."""
        return {"held-out images: mean |x - G(encoder(x))|": {"error": self.validation}}

    def state(self) -> dict[str, Any]:
        """The JSON part of a checkpoint; a subclass adds to it."""
        return {"step": self.step, "validation": self.validation}

    def tensors(self) -> dict[str, Tensor]:
        """Tensors in a checkpoint other than networks and optimizer moments."""
        return {}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Load the return values of `state` and `tensors`.

        **Raises:** any exception if they are invalid for such a run.
        """
        self.step = step_number(state["step"])
        self.validation = points(state["validation"])


def step_number(value: Any) -> int:
    """A number of steps from JSON.

    **Raises:** `ValueError` for anything else.
    """
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"a {type(value).__name__} in place of a number of steps")
    return value


def number(value: Any) -> float:
    """A finite number from JSON.

    **Raises:** `ValueError` for anything else.
    """
    if not math.isfinite(_float(value)):
        raise ValueError("a number that is not finite")
    return float(value)


def points(pairs: Any) -> list[tuple[int, float]]:
    """A curve, (step, value) by step, from JSON. Values may be NaN, as in old checkpoints of runs
    without held-out images.

    **Raises:** `ValueError` or `TypeError` for anything else.
    """
    return [(step_number(step), _float(value)) for step, value in pairs]


def _float(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"a {type(value).__name__} in place of a number")
    return float(value)


def check_tensor(value: Tensor, shape: Sequence[int], name: str) -> None:
    """**Raises:** `ValueError` unless a checkpoint's tensor is float32 with this shape."""
    if value.shape != torch.Size(shape) or value.dtype != torch.float32:
        raise ValueError(
            f"{name} is {value.dtype} of shape {tuple(value.shape)}; expected {tuple(shape)}"
        )
