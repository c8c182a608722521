"""The plan of a reproduction: experiments, settings, images, methods and seeds."""

from __future__ import annotations

import dataclasses as dc
import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from iagan.errors import FileError, SettingError
from iagan.experiments.paper import EXPERIMENTS, Setting
from iagan.images import crop_square, load_image
from iagan.methods import Method, presets
from iagan.observation import Observation, observe
from iagan.operators import LinearOperator
from iagan.priors import Generator
from iagan.types import Image


@dc.dataclass(frozen=True)
class Plan:
    """The experiments to run, with their images and methods.

    **Arguments:**
    - `experiments`: keys of `EXPERIMENTS`.
    - `images`: paths of photographs, with different names.
    - `methods`: methods to run, out of each experiment's own; None: all.
    - `settings`: keys of the settings to run; None: all.
    - `effort`: `"paper"`, or `"fast"` as in `iagan.reconstruct`.
    - `steps_scale`: factor on the effort's iterations, in (0, 1].
    - `restarts`, `seed`: as in `iagan.reconstruct`.
    - `lpips_net`: the backbone of LPIPS; None: no LPIPS.
    - `save_images`: save all images to the folder.
    - `chunk`: number of images recovered together.

    **Raises:** `SettingError` for an unknown name or a setting out of range.
    """

    experiments: tuple[str, ...]
    images: tuple[Path, ...]
    methods: tuple[str, ...] | None = None
    settings: tuple[str, ...] | None = None
    effort: str = "paper"
    steps_scale: float = 1.0
    restarts: int = 1
    seed: int = 0
    lpips_net: str | None = "alex"
    save_images: bool = False
    chunk: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.steps_scale <= 1:
            raise SettingError(f"--steps-scale expects a factor in (0, 1]; got {self.steps_scale}.")
        if self.restarts < 1:
            raise SettingError(
                f"--restarts expects at least one start of z; got {self.restarts}. Use 1."
            )
        own = [EXPERIMENTS[name] for name in self.experiments]
        keys = [setting.key for each in own for setting in each.settings]
        if not set(self.settings or ()) <= set(keys):
            raise self._unknown("settings", self.settings, keys)
        methods = [method for each in own for method in each.methods]
        if self.methods and not set(self.methods) & set(methods):  # a table may lack some of them
            raise self._unknown("methods", self.methods, methods)
        stems = Counter(path.stem for path in self.images)
        twice = [str(path) for path in self.images if stems[path.stem] > 1]
        if twice:
            raise SettingError(
                "reproduce expects images whose names differ before their suffix; got "
                f"{', '.join(twice[:2])} ({len(twice)} duplicates in all). Rename them."
            )

    def _unknown(self, what: str, given: Sequence[str] | None, known: list[str]) -> SettingError:
        unknown = ", ".join(name for name in given or () if name not in known)
        return SettingError(
            f"{', '.join(self.experiments)} expects {what} from {', '.join(dict.fromkeys(known))}; "
            f"got {unknown}. Choose some of them."
        )

    def tasks(self) -> Iterator[tuple[str, Setting, tuple[str, ...]]]:
        """Experiment, setting and methods, in the paper's order."""
        for name in self.experiments:
            experiment = EXPERIMENTS[name]
            expected = tuple(
                m for m in experiment.methods if m in (self.methods or experiment.methods)
            )
            for setting in experiment.settings:
                if expected and (self.settings is None or setting.key in self.settings):
                    yield name, setting, expected

    def waiting(
        self, setting: Setting, methods: Iterable[str], done: Container[tuple[str, str, str]]
    ) -> list[Path]:
        """The images that lack a record for any of `methods`.

        **Arguments:**
        - `done`: existing records: setting's key, method's name, image's file name.
        """
        return [
            path
            for path in self.images
            if any((setting.key, method, path.name) not in done for method in methods)
        ]

    def by_mask(self, setting: Setting, paths: Sequence[Path]) -> Iterator[tuple[int, list[Path]]]:
        """Seeds of masks, each with the images among `paths` that use it."""
        place = {path: index for index, path in enumerate(self.images)}
        for mask in range(setting.masks):
            dealt = [path for path in paths if place[path] % setting.masks == mask]
            if dealt:
                yield mask, dealt

    def method(self, name: str, observation: Observation, generator: Generator) -> Method:
        """The effort's preset, with this plan's restarts and factor on the iterations."""
        preset = presets.preset(name, observation, generator, self.effort)
        return presets.adjust(preset, restarts=self.restarts, share=self.steps_scale)

    def methods_of(
        self, setting: Setting, names: Iterable[str], generator: Generator
    ) -> dict[str, Method]:
        """The methods of a setting by name; they do not depend on the measurements."""
        operator = setting.build(generator.image_shape)
        y = operator(torch.zeros(1, *generator.image_shape, dtype=torch.float32, device="cpu"))
        nothing = Observation(y, operator, setting.noise_255 / 255)
        return {name: self.method(name, nothing, generator) for name in names}

    def note(self) -> str:
        """Differences from the paper's settings, in brackets; empty if there are none."""
        fast = self.effort != "paper"
        parts = [f"effort {self.effort}, not the paper's iterations"] if fast else []
        return in_brackets([*parts, *quick_look(self.steps_scale)])

    def settings_to_keep(self, generator: Generator) -> dict[str, Any]:
        """The plan with every method's spec, as a JSON object to store in a run's folder."""
        methods = {
            setting.key: {
                name: method.spec()
                for name, method in self.methods_of(setting, names, generator).items()
            }
            for _, setting, names in self.tasks()
        }
        return {
            "effort": self.effort,
            "steps_scale": self.steps_scale,
            "restarts": self.restarts,
            "seed": self.seed,
            "lpips": self.lpips_net or "none",
            "save_images": self.save_images,
            "methods": methods,
        }


def quick_look(steps_scale: float) -> list[str]:
    """The note in titles of a run with fewer iterations."""
    return [f"quick look: {steps_scale:g} of the iterations"] if steps_scale != 1 else []


def in_brackets(parts: list[str]) -> str:
    """Notes in brackets, to append to a title; empty without notes."""
    return f" ({'; '.join(parts)})" if parts else ""


def readable(
    paths: Sequence[Path], count: int | None = None
) -> tuple[dict[Path, int], dict[Path, str]]:
    """The first `count` paths that can be read as images, with their shorter sides in pixels; and
    why the others among them cannot be read.
    """
    good: dict[Path, int] = {}
    bad: dict[Path, str] = {}
    for path in paths:
        if len(good) == count:
            break
        try:
            good[path] = min(load_image(path).shape[-2:])
        except FileError as error:
            bad[path] = str(error)
    return good, bad


def truth_of(path: Path, setting: Setting, generator: Generator) -> Image:
    """The photograph, cropped and resized for the prior, `(1, *image_shape)`."""
    photo = load_image(path)
    if setting.shift:
        photo = torch.roll(photo, -setting.shift, dims=2)
    return crop_square(photo, None, generator.about.crop, generator.image_shape[1:])


def simulate(
    plan: Plan, setting: Setting, operator: LinearOperator, truth: Image, paths: Sequence[Path]
) -> Observation:
    """Simulated observations of all images, with a separate random stream for each one's noise."""
    each = [
        observe(x[None], operator, setting.noise_255 / 255, torch.Generator().manual_seed(seed))
        for x, seed in zip(truth, seeds(plan, setting, paths), strict=True)
    ]
    y = torch.cat([one.y for one in each])
    return Observation(y, operator, setting.noise_255 / 255)


def seeds(plan: Plan, setting: Setting, paths: Iterable[Path]) -> list[int]:
    """One seed per image, which depends only on the plan's seed, the setting and the file name."""
    words = [f"{plan.seed}/{setting.key}/{path.name}" for path in paths]
    return [
        int.from_bytes(hashlib.sha256(word.encode(errors="surrogateescape")).digest()[:4], "big")
        for word in words
    ]
