"""Tasks → records: every image by every method of an experiment, resumable."""

from __future__ import annotations

import dataclasses as dc
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from iagan import measure
from iagan.engine import EventCallback, Execution
from iagan.errors import FileError, SettingError
from iagan.experiments.paper import EXPERIMENTS, Setting
from iagan.experiments.records import RunFolder
from iagan.experiments.table import LEAST_MSE
from iagan.images import crop_square, load_image, save_image
from iagan.methods import Method, Reconstruction, presets, reconstruct_all
from iagan.observation import Observation, observe
from iagan.operators import LinearOperator
from iagan.priors import Generator
from iagan.types import Image

IMAGES = "images"
"""The folder of a run that pictures are saved to, as SETTING/STEM_METHOD.png."""


KEYS = (
    *("setting", "method", "image", "image_sha256"),
    *("mask", "mse", "psnr", "ssim", "haarpsi", "lpips", "seconds", "relative_residual"),
)
"""What a record has; the first three tell records apart."""


@dc.dataclass(frozen=True)
class Plan:
    """What is to be run.

    **Arguments:**
    - `experiments`: keys of `EXPERIMENTS`.
    - `images`: paths of photographs, of different names.
    - `methods`: those to run of each experiment's own; None for all.
    - `settings`: keys of the settings to run; None for all.
    - `effort`: `"paper"`, or `"fast"` as in `iagan.reconstruct`.
    - `steps_scale`: iterations as a share of that, in (0, 1].
    - `restarts`, `seed`: as in `iagan.reconstruct`.
    - `lpips_net`: the backbone of LPIPS; None leaves LPIPS out.
    - `save_images`: keep every picture in the folder.
    - `chunk`: images worked on together.

    **Raises:** `SettingError`.
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
            raise SettingError(f"--steps-scale expects a share in (0, 1]; got {self.steps_scale}.")
        if self.restarts < 1:
            raise SettingError(
                f"--restarts expects at least one start of z; got {self.restarts}. Take 1."
            )
        own = [EXPERIMENTS[name] for name in self.experiments]
        keys = [setting.key for each in own for setting in each.settings]
        if not set(self.settings or ()) <= set(keys):
            raise self._unknown("settings", self.settings, keys)
        methods = [method for each in own for method in each.methods]
        if self.methods and not set(self.methods) & set(methods):  # a table lacks some: no harm
            raise self._unknown("methods", self.methods, methods)
        stems = Counter(path.stem for path in self.images)
        twice = [str(path) for path in self.images if stems[path.stem] > 1]
        if twice:
            raise SettingError(
                f"Images are expected with names that differ before their suffix; got "
                f"{', '.join(twice[:2])} ({len(twice)} such in all). Rename them."
            )

    def _unknown(self, what: str, given: Sequence[str] | None, known: list[str]) -> SettingError:
        strange = ", ".join(name for name in given or () if name not in known)
        return SettingError(
            f"{', '.join(self.experiments)} has the {what} {', '.join(dict.fromkeys(known))}; got "
            f"{strange}. Name some of them."
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
        self, setting: Setting, methods: Iterable[str], records: list[dict[str, Any]]
    ) -> list[Path]:
        """The images that some of `methods` has no record of."""
        done = {(r["method"], r["image"]) for r in records if r["setting"] == setting.key}
        return [path for path in self.images if any((m, path.name) not in done for m in methods)]

    def by_mask(self, setting: Setting, paths: Sequence[Path]) -> Iterator[tuple[int, list[Path]]]:
        """Seeds of masks, and those of `paths` that they are for."""
        place = {path: index for index, path in enumerate(self.images)}
        for mask in range(setting.masks):
            dealt = [path for path in paths if place[path] % setting.masks == mask]
            if dealt:
                yield mask, dealt

    def method(self, name: str, observation: Observation, generator: Generator) -> Method:
        """The effort's preset, with this plan's restarts and share of the iterations."""
        preset = presets.preset(name, observation, generator, self.effort)
        return presets.adjust(preset, restarts=self.restarts, share=self.steps_scale)

    def methods_of(
        self, setting: Setting, names: Iterable[str], generator: Generator
    ) -> dict[str, Method]:
        """The methods of a setting by name; they do not depend on what was measured."""
        operator = setting.build(generator.image_shape)
        y = operator(torch.zeros(1, *generator.image_shape))
        nothing = Observation(y, operator, setting.noise_255 / 255)
        return {name: self.method(name, nothing, generator) for name in names}


def readable(
    paths: Sequence[Path], count: int | None = None
) -> tuple[dict[Path, int], dict[Path, str]]:
    """The first `count` that can be read as images, with their shorter side, in pixels.

    And why the others among them cannot.
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


def run(
    plan: Plan,
    generator: Generator,
    folder: RunFolder,
    report: Callable[[str], None],
    on_event: EventCallback | None = None,
    execution: Execution | None = None,
) -> None:
    """Append a record for every image × method × setting that has none yet.

    **Raises:** `SettingError` when the folder has records of another image of the same name.
    """
    _check_images(plan, folder)
    for _, setting, methods in plan.tasks():
        waiting = plan.waiting(setting, methods, folder.records())
        if not waiting:
            continue
        done = 0
        for mask, paths in plan.by_mask(setting, waiting):
            operator = setting.build(generator.image_shape, mask)
            work = _Work(
                plan, setting, methods, operator, mask, generator, folder, on_event, execution
            )
            for start in range(0, len(paths), plan.chunk):
                report(f"{setting.key}: {done + start} of {len(waiting)} images")
                work.on(paths[start : start + plan.chunk])
            done += len(paths)


def _check_images(plan: Plan, folder: RunFolder) -> None:
    known = {record["image"]: record["image_sha256"] for record in folder.records()}
    for path in plan.images:
        if path.name in known and known[path.name] != _sha256(path):
            raise SettingError(
                f"{folder.path} has records of another image that is called {path.name}. Name "
                "another folder for the run, or another image."
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dc.dataclass(frozen=True)
class _Work:
    """One setting, and of several masks one: its operator is made once, and the images share it."""

    plan: Plan
    setting: Setting
    methods: tuple[str, ...]
    operator: LinearOperator
    mask: int
    generator: Generator
    folder: RunFolder
    on_event: EventCallback | None
    execution: Execution | None

    def on(self, paths: Sequence[Path]) -> None:
        """All methods on some images."""
        truth = torch.cat([truth_of(path, self.setting, self.generator) for path in paths])
        observation = simulate(self.plan, self.setting, self.operator, truth, paths)
        hashes = [_sha256(path) for path in paths]
        self._save(paths, truth, "truth")
        self._save(paths, self.operator.naive(observation.y), "observed")
        done = {
            (r["method"], r["image"])
            for r in self.folder.records()
            if r["setting"] == self.setting.key
        }
        names = [m for m in self.methods if any((m, path.name) not in done for path in paths)]
        results = reconstruct_all(
            observation,
            self.generator,
            [self.plan.method(name, observation, self.generator) for name in names],
            seed=seeds(self.plan, self.setting, paths),
            execution=self.execution,
            on_event=self.on_event,
        )
        for name, result in zip(names, results, strict=True):
            self._save(paths, result.image, name)
            for i, path in enumerate(paths):
                if (name, path.name) not in done:
                    record = _record(self.plan, result, i, truth[i : i + 1])
                    head: dict[str, Any] = {"setting": self.setting.key, "method": name}
                    head |= {"image": path.name, "image_sha256": hashes[i], "mask": self.mask}
                    self.folder.append(head | record)

    def _save(self, paths: Sequence[Path], images: Image, what: str) -> None:
        if not self.plan.save_images:
            return
        place = self.folder.path / IMAGES / self.setting.key
        for i, path in enumerate(paths):
            save_image(images[i : i + 1], place / f"{path.stem}_{what}.png")


def truth_of(path: Path, setting: Setting, generator: Generator) -> Image:
    """The photograph as the prior's image, `(1, *image_shape)`."""
    photo = load_image(path)
    if setting.shift:
        photo = torch.roll(photo, -setting.shift, dims=2)
    return crop_square(photo, None, generator.about.crop, generator.image_shape[1:])


def simulate(
    plan: Plan, setting: Setting, operator: LinearOperator, truth: Image, paths: Sequence[Path]
) -> Observation:
    """y of all images, the noise of each from a stream of its own."""
    each = [
        observe(x[None], operator, setting.noise_255 / 255, torch.Generator().manual_seed(seed))
        for x, seed in zip(truth, seeds(plan, setting, paths), strict=True)
    ]
    y = torch.cat([one.y for one in each])
    return Observation(y, operator, setting.noise_255 / 255)


def seeds(plan: Plan, setting: Setting, paths: Iterable[Path]) -> list[int]:
    """A seed of its own for every image and setting, whatever else is in the run."""
    words = [f"{plan.seed}/{setting.key}/{path.name}" for path in paths]
    return [int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") for word in words]


def _record(plan: Plan, result: Reconstruction, i: int, truth: Image) -> dict[str, Any]:
    image = result.image[i : i + 1].detach().cpu().float().clamp(0, 1)
    mse = float((image - truth).square().mean())
    net = plan.lpips_net
    return {
        "mse": mse,
        "psnr": -10 * math.log10(max(mse, LEAST_MSE)),
        "ssim": float(measure.ssim(image, truth, data_range=1.0)[0]),
        "haarpsi": float(measure.haarpsi(image, truth)[0]),
        "lpips": None if net is None else float(measure.lpips(image, truth, net=net)[0]),
        "seconds": result.seconds / len(result.image),
        "steps": int(result.iterations[i]),
        "residual": float(result.residual[i]),
        "relative_residual": float(result.relative_residual[i]),
        "noise_floor": float(result.noise_floor[i]),
    }
