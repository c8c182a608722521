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

from iagan.errors import SettingError
from iagan.observation import Observation
from iagan.priors import Generator, load_prior
from iagan.reconstruction import project
from iagan.reconstruction.adapt import adapt
from iagan.reconstruction.csgm import csgm
from iagan.reconstruction.dip import dip
from iagan.reconstruction.resolve import default_method, resolve
from iagan.reconstruction.result import Reconstruction, residual_norms
from iagan.reconstruction.task import Estimate, ProgressCallback, Stage, Task

logger = logging.getLogger("iagan")


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
    effort: str = "fast",
    csgm_steps: int | None = None,
    steps: int | None = None,
    restarts: int = 1,
    bounded_latent: bool = False,
    seed: int | Sequence[int] = 0,
    batch_size: int | None = None,
    on_progress: ProgressCallback | None = None,
) -> Iterator[Reconstruction]:
    """Several methods one after another; a phase that they share (CSGM) runs once.

    **Arguments:** (beyond those of `reconstruct`)
    - `effort`: `"fast"`, or `"paper"`: the paper's iterations, each of them run (see
      `iagan.reconstruction.presets`).
    - `csgm_steps`, `steps`: iterations of CSGM, and of the image-adaptive phase or DIP, at least 0;
      those of `effort` where not given.
    - `restarts`: random starts of z an image, at least 1. The fast effort races them: the worse
      half is given up again and again.
    - `bounded_latent`: keep z where its law has its mass: in [-1, 1] for a uniform one, within
      √n of 0 for a normal one of n entries. The paper lets it go anywhere, which fits y better.
    - `seed`: an int for all images, or one an image. Nonnegative.
    - `batch_size`: images times restarts worked on at once, by default as many as the memory
      takes (at most 4 a CPU thread, 64 on a GPU). It does not change the results but for rounding,
      which hundreds of iterations amplify: by a tenth of a dB for an image, not for their mean.
    - `on_progress`: called after every evaluation with a `Progress`.
    """
    if batch_size is not None and batch_size < 1:
        raise SettingError(f"reconstruct expects batch_size of at least 1; got {batch_size}.")
    names = [_known(method or default_method(observation)) for method in methods]
    generator = load_prior(prior) if isinstance(prior, str | os.PathLike) else prior
    given = {"csgm_steps": csgm_steps, "steps": steps, "restarts": restarts}
    tasks = [
        resolve(observation, generator, name, given, seed, bounded_latent, effort) for name in names
    ]
    return _run_all(
        [dc.replace(task, batch_size=batch_size, on_progress=on_progress) for task in tasks]
    )


def _known(method: str) -> str:
    if method not in METHODS:
        raise SettingError(
            f"reconstruct knows the methods {', '.join(METHODS)}; got {method!r}. Name one of them."
        )
    return method


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
        iterations=estimate.steps,
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
            f"{method}: the objective was NaN or infinite {total} times; went on from an earlier "
            "iterate by smaller steps."
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
