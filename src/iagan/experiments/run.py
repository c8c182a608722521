"""Resumable runs: recover every image by every method of an experiment and record the results."""

from __future__ import annotations

import dataclasses as dc
import hashlib
import math
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from iagan import measure
from iagan.engine import Event, EventCallback, Execution
from iagan.errors import IaganError, SettingError, shown
from iagan.experiments.paper import Setting
from iagan.experiments.plan import Plan, seeds, simulate, truth_of
from iagan.experiments.table import MIN_MSE
from iagan.images import save_image
from iagan.jobs import Job, RunFolder, run_jobs
from iagan.jobs.job import Executor, tell
from iagan.jobs.records import measured
from iagan.methods import Reconstruction
from iagan.observation import Observation
from iagan.priors import Generator
from iagan.types import Image

IMAGES = "images"
"""Folder of a run for saved images, SETTING/STEM_METHOD.png."""
KEYS = {
    **dict.fromkeys(("setting", "method", "image", "image_sha256"), "text"),
    "mask": "an integer",
    **dict.fromkeys(("mse", "psnr", "ssim", "haarpsi"), "a number"),
    "lpips": "a number or null",
    "seconds": "a number",
    "relative_residual": "a finite number",
}
"""Fields of a record with their kinds; the first three identify a record."""


@dc.dataclass(frozen=True, eq=False)
class _Chunk:
    """Images of one setting and operator that are recovered in one job."""

    setting: Setting
    mask: int
    paths: Sequence[Path]
    hashes: Sequence[str]
    truth: Image


def run(
    plan: Plan,
    generator: Generator,
    folder: RunFolder,
    on_event: EventCallback | None = None,
    execution: Execution | None = None,
    executor: Executor | None = None,
) -> None:
    """Append a record for every image × method × setting that has none yet.

    **Arguments:**
    - `on_event`: called after every step, and before each job with an event of phase `"images"`,
      which counts images × settings and names the setting in its message.
    - `executor`: runs the jobs elsewhere (`iagan.jobs.run_jobs`); None: in this process.

    **Raises:** `SettingError` if the folder has records of another image with the same name;
    `Cancelled`, `Interrupted`; all records written so far are kept.
    """
    known = folder.records()
    hashes: dict[str, set[str]] = {}
    for record in known:
        hashes.setdefault(record["image"], set()).add(record["image_sha256"])
    for path in plan.images:
        _check_image(path, hashes, folder.path)
    done = {(r["setting"], r["method"], r["image"]) for r in known}
    chunks: dict[Job, _Chunk] = {}

    def jobs() -> Iterator[Job]:
        for chunk, observation, names in _chunks(plan, generator, done, on_event):
            for path, sha256 in zip(chunk.paths, chunk.hashes, strict=True):
                _check_image(path, hashes, folder.path, sha256)
            _save_images(plan, folder, chunk, chunk.truth, "truth")
            if plan.save_images:
                shown = observation.operator.naive(observation.y)
                _save_images(plan, folder, chunk, shown, "observed")
            methods = tuple(plan.method(name, observation, generator) for name in names)
            own = tuple(seeds(plan, chunk.setting, chunk.paths))
            job = Job(observation, methods, generator, own, execution or Execution())
            chunks[job] = chunk
            yield job

    for job, answer in run_jobs(jobs(), executor, on_event):
        if isinstance(answer, IaganError):
            raise answer
        _record_all(plan, folder, chunks[job], answer, done)


def _chunks(
    plan: Plan,
    generator: Generator,
    done: Container[tuple[str, str, str]],
    on_event: EventCallback | None,
) -> Iterator[tuple[_Chunk, Observation, list[str]]]:
    """The chunks to run, with their observations and methods; each operator is built once."""
    methods_of: dict[Setting, list[str]] = {}
    for _, setting, own in plan.tasks():
        known = methods_of.setdefault(setting, [])
        known += [method for method in own if method not in known]
    waiting = {s: plan.waiting(s, methods, done) for s, methods in methods_of.items()}
    total = sum(map(len, waiting.values()))
    step = 0
    for setting, methods in methods_of.items():
        begun = step
        for mask, paths in plan.by_mask(setting, waiting[setting]):
            operator = setting.build(generator.image_shape, mask)
            for start in range(0, len(paths), plan.chunk):
                few = paths[start : start + plan.chunk]
                place = f"{setting.key}: {step - begun} of {len(waiting[setting])} images"
                tell(on_event, Event("images", step, total, message=place))
                truth = torch.cat([truth_of(path, setting, generator) for path in few])
                sums = [_sha256(path) for path in few]
                names = [
                    m for m in methods if any((setting.key, m, p.name) not in done for p in few)
                ]
                observation = simulate(plan, setting, operator, truth, few)
                yield _Chunk(setting, mask, few, sums, truth), observation, names
                step += len(few)
    if total:
        message = "1 image is done" if total == 1 else f"all {total} images are done"
        tell(on_event, Event("images", total, total, message=message))


def _record_all(
    plan: Plan,
    folder: RunFolder,
    chunk: _Chunk,
    result: Reconstruction,
    done: Container[tuple[str, str, str]],
) -> None:
    """Save the images and records of one method on a chunk."""
    name, key = result.method.name, chunk.setting.key
    _save_images(plan, folder, chunk, result.image, name)
    for i, path in enumerate(chunk.paths):
        if (key, name, path.name) not in done:
            head: dict[str, Any] = {"setting": key, "method": name, "image": path.name}
            head |= {"image_sha256": chunk.hashes[i], "mask": chunk.mask}
            folder.append(head | _record(plan, result, i, chunk.truth[i : i + 1]))


def _save_images(plan: Plan, folder: RunFolder, chunk: _Chunk, images: Image, what: str) -> None:
    if not plan.save_images:
        return
    place = folder.path / IMAGES / chunk.setting.key
    for i, path in enumerate(chunk.paths):
        save_image(images[i : i + 1], place / f"{path.stem}_{what}.png")


def _check_image(
    path: Path, hashes: dict[str, set[str]], folder: Path, sha256: str | None = None
) -> None:
    """Check that all records of a file name are of the same image, even if it changes meanwhile.

    **Raises:** `SettingError` if not.
    """
    known = hashes.setdefault(path.name, set())
    known.add(sha256 or _sha256(path))
    if len(known) > 1:
        raise SettingError(
            f"{shown(folder)} has records of another image called {shown(path.name)}. Choose "
            "another folder for the run, or rename the image."
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _record(plan: Plan, result: Reconstruction, i: int, truth: Image) -> dict[str, Any]:
    image = result.image[i : i + 1].detach().cpu().float().clamp(0, 1)
    mse = float((image - truth).square().mean())
    net = plan.lpips_net
    return {
        "mse": mse,
        "psnr": -10 * math.log10(max(mse, MIN_MSE)),
        "ssim": float(measure.ssim(image, truth, data_range=1.0)[0]),
        "haarpsi": float(measure.haarpsi(image, truth)[0]),
        "lpips": None if net is None else float(measure.lpips(image, truth, net=net)[0]),
        **measured(result, i),
    }
