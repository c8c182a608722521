"""Tasks → records: every image by every method of an experiment, resumable."""

from __future__ import annotations

import dataclasses as dc
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from iagan import measure
from iagan.errors import FileError, MissingDependencyError
from iagan.experiments.paper import EXPERIMENTS, Setting
from iagan.experiments.records import RunFolder
from iagan.generators import Generator
from iagan.images import crop_square, load_image, save_image
from iagan.observation import Observation, observe
from iagan.reconstruction import Reconstruction, reconstruct_all
from iagan.reconstruction.presets import paper_settings
from iagan.reconstruction.task import ProgressCallback
from iagan.types import Image


@dc.dataclass(frozen=True)
class Plan:
    """What is to be run.

    **Arguments:**
    - `experiments`: keys of `EXPERIMENTS`.
    - `images`: paths of photographs.
    - `methods`: those to run of each experiment's own; None for all.
    - `settings`: keys of the settings to run; None for all.
    - `steps_scale`: iterations as a share of the paper's.
    - `restarts`, `seed`: as in `iagan.reconstruct`.
    - `lpips_net`: the backbone of LPIPS.
    - `save_images`: keep every picture in the folder.
    - `chunk`: images worked on together.
    """

    experiments: tuple[str, ...]
    images: tuple[Path, ...]
    methods: tuple[str, ...] | None = None
    settings: tuple[str, ...] | None = None
    steps_scale: float = 1.0
    restarts: int = 1
    seed: int = 0
    lpips_net: str = "alex"
    save_images: bool = False
    chunk: int = 4

    def tasks(self) -> Iterable[tuple[str, Setting, tuple[str, ...]]]:
        """Experiment, setting and methods, in the paper's order."""
        for name in self.experiments:
            experiment = EXPERIMENTS[name]
            wanted = tuple(
                m for m in experiment.methods if m in (self.methods or experiment.methods)
            )
            for setting in experiment.settings:
                if self.settings is None or setting.key in self.settings:
                    yield name, setting, wanted


def run(
    plan: Plan,
    generator: Generator,
    folder: RunFolder,
    report: Callable[[str], None],
    on_progress: ProgressCallback | None = None,
) -> list[Path]:
    """Append a record for every image × method × setting that has none yet.

    Returns the images that could not be read; they are in no record.
    """
    bad: dict[Path, str] = {}
    for _, setting, methods in plan.tasks():
        done = {(r["setting"], r["method"], r["image"]) for r in folder.records()}
        waiting = [
            path
            for path in plan.images
            if any((setting.key, method, path.name) not in done for method in methods)
        ]
        for start in range(0, len(waiting), plan.chunk):
            paths = waiting[start : start + plan.chunk]
            truths = _load(paths, setting, generator, bad)
            report(f"{setting.key}: {start} of {len(waiting)} images")
            if truths:
                _work(plan, setting, methods, truths, done, generator, folder, on_progress)
    for path, why in bad.items():
        report(f"skipped {path}: {why}")
    return list(bad)


def _load(
    paths: Sequence[Path], setting: Setting, generator: Generator, bad: dict[Path, str]
) -> dict[Path, Image]:
    truths = {}
    for path in paths:
        try:
            photo = load_image(path)
            crop = generator.metadata.crop
            if setting.shift:
                photo = torch.roll(photo, -setting.shift, dims=2)
            truths[path] = crop_square(photo, None, crop, generator.image_shape[1:])
        except FileError as error:
            bad[path] = str(error)
    return truths


def _work(
    plan: Plan,
    setting: Setting,
    methods: tuple[str, ...],
    truths: dict[Path, Image],
    done: set[tuple[str, str, str]],
    generator: Generator,
    folder: RunFolder,
    on_progress: ProgressCallback | None,
) -> None:
    operator = setting.build(generator.image_shape)
    each = [
        observe(x, operator, setting.noise_255 / 255, torch.Generator().manual_seed(seed))
        for x, seed in zip(truths.values(), _seeds(plan, setting, truths), strict=True)
    ]
    observation = dc.replace(each[0], y=torch.cat([one.y for one in each]))
    shared: dict[str, Any] = {
        "effort": "paper",
        "restarts": plan.restarts,
        "seed": _seeds(plan, setting, truths),
    }
    for group in _groups(methods):
        options = shared | _effort(plan, group[-1], observation, generator)
        for result in reconstruct_all(
            observation, generator, group, on_progress=on_progress, **options
        ):
            for i, path in enumerate(truths):
                record = _record(plan, setting, path, result, i, truths[path])
                if (setting.key, record["method"], path.name) not in done:
                    folder.append(record)
                if plan.save_images:
                    name = f"{path.stem}_{record['method']}.png"
                    save_image(result.image[i : i + 1], folder.path / "images" / setting.key / name)


def _groups(methods: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Methods that take the same numbers of iterations together: DIP has its own."""
    with_prior = tuple(method for method in methods if method != "dip")
    return [group for group in (with_prior, tuple({"dip"} & set(methods))) if group]


def _effort(
    plan: Plan, method: str, observation: Observation, generator: Generator
) -> dict[str, int]:
    settings = paper_settings(method, observation, generator.metadata.architecture)
    return {
        name: max(1, round(plan.steps_scale * getattr(settings, name)))
        for name in ("csgm_steps", "steps")
    }


def _seeds(plan: Plan, setting: Setting, truths: Iterable[Path]) -> list[int]:
    """A seed of its own for every image and setting, whatever else is in the run."""
    words = [f"{plan.seed}/{setting.key}/{path.name}" for path in truths]
    return [int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") for word in words]


def _record(
    plan: Plan, setting: Setting, path: Path, result: Reconstruction, i: int, truth: Image
) -> dict[str, Any]:
    image = result.image[i : i + 1].detach().cpu().float().clamp(0, 1)
    return {
        "setting": setting.key,
        "method": result.settings.method,
        "image": path.name,
        "mse": float((image - truth).square().mean()),
        "psnr": measure.psnr(image, truth, data_range=1.0),
        "ssim": float(measure.ssim(image, truth, data_range=1.0)[0]),
        "lpips": _lpips(plan, image, truth),
        "seconds": result.seconds / len(result.image),
        "steps": int(result.iterations[i]),
        "residual": float(result.residual[i]),
        "relative_residual": float(result.relative_residual[i]),
        "noise_floor": result.noise_floor,
    }


def _lpips(plan: Plan, image: Image, truth: Image) -> float | None:
    try:
        return float(measure.lpips(image, truth, net=plan.lpips_net)[0])
    except MissingDependencyError:
        return None
