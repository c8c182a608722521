"""Names → pipelines, and the two functions that run them."""

from __future__ import annotations

import dataclasses as dc
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from iagan.errors import SettingError, ShapeError
from iagan.generators import Generator, load_prior
from iagan.observation import Observation
from iagan.reconstruction import project
from iagan.reconstruction.adapt import adapt
from iagan.reconstruction.csgm import csgm
from iagan.reconstruction.dip import dip
from iagan.reconstruction.presets import paper_settings
from iagan.reconstruction.result import Reconstruction, Settings, residual_norms
from iagan.reconstruction.task import Estimate, ProgressCallback, Stage, Task

logger = logging.getLogger("iagan")

DEFAULT_BATCH = {"cpu": 8}
"""Images times restarts at once where the caller does not say; on a GPU 64."""


def _naive(task: Task, before: Estimate | None = None) -> Estimate:
    return Estimate.direct(project.naive(task.observation))


def _pinv(task: Task, before: Estimate | None = None) -> Estimate:
    return Estimate.direct(project.pinv(task.observation))


def _back_project(task: Task, before: Estimate | None) -> Estimate:
    assert before is not None
    return dc.replace(before, image=project.back_project(before.image, task.observation))


METHODS: dict[str, tuple[Stage, ...]] = {
    "naive": (_naive,),
    "pinv": (_pinv,),
    "csgm": (csgm,),
    "csgm-bp": (csgm, _back_project),
    "iagan": (csgm, adapt),
    "iagan-bp": (csgm, adapt, _back_project),
    "dip": (dip,),
}
"""Every method, by its name on the command line, as the phases that run one after another."""

NEED_PRIOR = frozenset({"csgm", "csgm-bp", "iagan", "iagan-bp"})


def reconstruct(
    observation: Observation,
    prior: Generator | str | os.PathLike[str] | None = None,
    method: str | None = None,
    **options: Any,
) -> Reconstruction:
    """Recover the images behind `observation`.

    **Arguments:**
    - `observation`: y of `(b, ...)`, its operator and noise.
    - `prior`: a generator, the name of one, or a path to a checkpoint. Never changed. Not needed
      for naive, pinv and dip.
    - `method`: a key of `iagan.METHODS`. Without one: `"iagan-bp"` when `noise_std` is 0, else
      `"iagan"`, as in the paper.
    - `options`: see `reconstruct_all`.

    **Raises:** `SettingError`, `ShapeError`, and what `iagan.load_prior` raises.
    **Source:** arXiv 1906.05284, eqs. 2, 3 and 10.
    """
    return next(reconstruct_all(observation, prior, [method], **options))


def reconstruct_all(
    observation: Observation,
    prior: Generator | str | os.PathLike[str] | None = None,
    methods: Sequence[str | None] = (None,),
    *,
    csgm_steps: int | None = None,
    steps: int | None = None,
    restarts: int = 1,
    seed: int | Sequence[int] = 0,
    batch_size: int | None = None,
    on_progress: ProgressCallback | None = None,
) -> Iterator[Reconstruction]:
    """Several methods one after another; a phase that they share (CSGM) runs once.

    **Arguments:** (beyond those of `reconstruct`)
    - `csgm_steps`, `steps`: iterations of CSGM, and of the image-adaptive phase or DIP, at least 0;
      the paper's where not given (see `iagan.reconstruction.presets`).
    - `restarts`: random starts of z an image, at least 1.
    - `seed`: an int for all images, or one an image. Nonnegative.
    - `batch_size`: images times restarts worked on at once; does not change the results.
    - `on_progress`: called after every evaluation with a `Progress`.
    """
    generator = load_prior(prior) if isinstance(prior, str | os.PathLike) else prior
    given = {"csgm_steps": csgm_steps, "steps": steps, "restarts": restarts}
    tasks = [
        _task(observation, generator, _resolve(method, observation), given, seed, on_progress)
        for method in methods
    ]
    if batch_size is not None and batch_size < 1:
        raise SettingError(f"reconstruct wants batch_size of at least 1; got {batch_size}.")
    tasks = [dc.replace(task, batch_size=batch_size or task.batch_size) for task in tasks]
    return _run_all(tasks)


def _run_all(tasks: list[Task]) -> Iterator[Reconstruction]:
    known: dict[Any, tuple[Estimate, float]] = {}
    for task in tasks:
        stages = METHODS[task.settings.method]
        estimate, seconds = None, 0.0
        for i, stage in enumerate(stages):
            key = stages[: i + 1]
            if key not in known:
                begun = time.perf_counter()
                known[key] = (stage(task, estimate), time.perf_counter() - begun)
            estimate, taken = known[key]
            seconds += taken
        assert estimate is not None
        yield _result(task, estimate, seconds)


def default_method(observation: Observation) -> str:
    """IAGAN-BP without noise, IAGAN with it (arXiv 1906.05284, after eq. 10)."""
    return "iagan" if observation.noise_std > 0 else "iagan-bp"


def _resolve(method: str | None, observation: Observation) -> str:
    if method is None:
        return default_method(observation)
    if method not in METHODS:
        raise SettingError(
            f"reconstruct knows the methods {', '.join(METHODS)}; got {method!r}. Name one of them."
        )
    return method


def _task(
    observation: Observation,
    generator: Generator | None,
    method: str,
    given: dict[str, int | None],
    seed: int | Sequence[int],
    on_progress: ProgressCallback | None,
) -> Task:
    if method in NEED_PRIOR:
        generator = _fitting_prior(generator, observation, method)
    architecture = generator.metadata.architecture if generator else "custom"
    settings = _settings(method, observation, architecture, given, seed)
    if generator is not None and method in NEED_PRIOR:
        reference = next(iter(generator.parameters().values()))
        observation = observation.to(reference.device, reference.dtype)
    batch = DEFAULT_BATCH.get(observation.y.device.type, 64)
    return Task(observation, generator, settings, batch, on_progress)


def _settings(
    method: str,
    observation: Observation,
    architecture: str,
    given: dict[str, int | None],
    seed: int | Sequence[int],
) -> Settings:
    for name, value in given.items():
        least = 1 if name == "restarts" else 0
        if value is not None and (not isinstance(value, int) or value < least):
            raise SettingError(
                f"reconstruct wants {name} as an integer of at least {least}; got {value}."
            )
    seeds = seed if isinstance(seed, int) else tuple(int(each) for each in seed)
    if isinstance(seeds, tuple) and len(seeds) != len(observation.y):
        raise SettingError(
            f"reconstruct wants one seed or {len(observation.y)}, one an image; got {len(seeds)}."
        )
    if min([seeds] if isinstance(seeds, int) else seeds) < 0:
        raise SettingError(f"reconstruct wants seeds of at least 0; got {seed}.")
    chosen = {name: value for name, value in given.items() if value is not None}
    return dc.replace(paper_settings(method, observation, architecture), seed=seeds, **chosen)


def _fitting_prior(generator: Generator | None, observation: Observation, method: str) -> Generator:
    if generator is None:
        raise SettingError(
            f"{method} needs a prior; got none. Pass a name, a path or an iagan.Generator."
        )
    if generator.image_shape != observation.operator.image_shape:
        raise ShapeError(
            f"{method} wants a prior of the observed image's shape "
            f"{observation.operator.image_shape}; got one of {generator.image_shape}. "
            "Build the operator for the prior's size, or take another prior."
        )
    return generator


def _result(task: Task, estimate: Estimate, seconds: float) -> Reconstruction:
    residual, relative = residual_norms(estimate.image, task.observation)
    messages = tuple(_messages(task, estimate))
    for message in messages:
        logger.warning(message)
    return Reconstruction(
        image=estimate.image,
        latent=estimate.latent,
        residual=residual,
        relative_residual=relative,
        noise_floor=task.observation.noise_floor,
        trace=estimate.trace,
        seconds=seconds,
        settings=task.settings,
        messages=messages,
    )


def _messages(task: Task, estimate: Estimate) -> Iterator[str]:
    method, sigma = task.settings.method, task.observation.noise_std
    if method.endswith("-bp") and sigma > 0:
        yield f"{method}: {_swamped(task)} Without noise in y, or as {method[:-3]}, it does better."
    total = int(estimate.recoveries.sum())
    if total:
        yield (
            f"{method}: the objective was NaN or infinite {total} times; went on from the best "
            "iterate at a tenth of the learning rate."
        )
    lost = int((~torch.isfinite(estimate.image.flatten(1)).all(1)).sum())
    if lost:
        yield f"{method}: {lost} of {task.count} images never had a finite objective."


def _swamped(task: Task) -> str:
    sigma, gain = task.observation.noise_std, project.noise_gain(task.observation.operator)
    if gain is None:
        return f"back-projection adds A†e to the image, and the noise e has std {sigma:.3g}."
    return (
        f"back-projection adds A†e to the image, of std {gain * sigma:.3g}: alone that would be "
        f"{-20 * math.log10(max(gain * sigma, 1e-12)):.1f} dB."
    )
