"""`reconstruct` and `reconstruct_all`."""

from __future__ import annotations

import dataclasses as dc
import logging
import operator
import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from iagan.engine import EventCallback, Execution
from iagan.errors import Cancelled, Interrupted, SettingError, ShapeError
from iagan.methods import presets
from iagan.methods.base import Method
from iagan.methods.estimate import Estimate
from iagan.methods.plausibility import check_observation
from iagan.methods.result import Reconstruction, residual_norms
from iagan.methods.task import Task
from iagan.observation import Observation
from iagan.priors import Generator, Prior, load_prior

logger = logging.getLogger("iagan")


def reconstruct(
    observation: Observation,
    prior: Prior | str | os.PathLike[str] | None = None,
    method: Method | str | None = None,
    *,
    effort: str = "fast",
    seed: int | Sequence[int] = 0,
    execution: Execution | None = None,
    on_event: EventCallback | None = None,
) -> Reconstruction:
    """Recover the images behind `observation`.

    **Arguments:**
    - `observation`: y, `(b, ...)`, with its operator and noise level.
    - `prior`: a generator (or another `iagan.Prior` that `method` supports), the name of one, or a
      path to a checkpoint. It is not modified. Not needed for naive, pinv and dip.
    - `method`: a method with its settings, such as `iagan.CSGM(steps=100)`; or the name of a preset
      (`iagan.presets.NAMES`); None: `"iagan-bp"` without noise, `"iagan"` with it, as in the paper.
    - `effort`: for a preset by name: `"fast"`, or `"paper"`, the paper's full iteration counts.
    - `seed`: seed of the random starts: a nonnegative int for all images, or one per image. An
      image's result does not depend on its batch.
    - `execution`: device, precision, threads, …; see `iagan.Execution`.
    - `on_event`: called after every evaluation with an `iagan.Event`, in this thread.

    **Raises:** `SettingError`, `ShapeError`, and the errors of `iagan.load_prior`; `Cancelled` if
    `on_event` raises an exception, and `Interrupted` (a KeyboardInterrupt) on Ctrl-C, both with the
    best images so far as `result`.
    **Source:** arXiv 1906.05284, eqs. 2, 3 and 10.
    """
    return next(
        reconstruct_all(
            observation,
            prior,
            [method],
            effort=effort,
            seed=seed,
            execution=execution,
            on_event=on_event,
        )
    )


def reconstruct_all(
    observation: Observation,
    prior: Prior | str | os.PathLike[str] | None = None,
    methods: Sequence[Method | str | None] = (None,),
    *,
    effort: str = "fast",
    seed: int | Sequence[int] = 0,
    execution: Execution | None = None,
    on_event: EventCallback | None = None,
) -> Iterator[Reconstruction]:
    """Run several methods in turn; parts they share, such as CSGM, run once.

    Arguments and errors are those of `reconstruct`; all methods are validated before the first
    runs.
    """
    _check_arguments(observation, prior, execution, on_event)
    presets.check_effort(effort)
    known = load_prior(prior, on_event) if isinstance(prior, str | os.PathLike) else prior
    generator = known if isinstance(known, Generator) else None
    chosen = [
        each if isinstance(each, Method) else presets.preset(each, observation, generator, effort)
        for each in methods
    ]
    execution = execution or Execution()
    seeds = _seeds(seed, len(observation))
    notes = check_observation(observation)
    with_prior = [each.needs_prior for each in chosen]
    tasks = {
        needed: _task(observation, known, chosen, needed, seeds, execution, on_event)
        for needed in set(with_prior)
    }
    return _run_all(chosen, [tasks[needed] for needed in with_prior], notes)


def _run_all(
    methods: Sequence[Method], tasks: Sequence[Task], notes: Sequence[str]
) -> Iterator[Reconstruction]:
    for method, task in zip(methods, tasks, strict=True):
        estimate, seconds = task.timed(method)
        result = _result(task, method, estimate, seconds, notes)
        cause = task.cancellation.cause
        if isinstance(cause, KeyboardInterrupt):
            raise Interrupted("Interrupted; the best images so far are in `result`.", result)
        if cause is not None:
            raise Cancelled(
                f"Cancelled by on_event ({type(cause).__name__}); the best images so far are in "
                "`result`.",
                result,
            ) from cause
        yield result


def _task(
    observation: Observation,
    prior: Prior | None,
    methods: Sequence[Method],
    needs_prior: bool,
    seeds: tuple[int, ...],
    execution: Execution,
    on_event: EventCallback | None,
) -> Task:
    """A task on the execution's device, in the prior's precision; works in inference mode too."""
    with torch.inference_mode(False), torch.no_grad():
        if not needs_prior:
            moved = observation.to(execution.device) if execution.device else observation
            y = moved.y.clone()
            return Task(dc.replace(moved, y=y), None, seeds, execution, on_event)
        name = next(method.name for method in methods if method.needs_prior)
        prior = _fitting_prior(prior, observation, name)
        weight = prior.reference
        if execution.device is not None and not _is_on(weight, execution.device):
            prior = prior.to(execution.device)
            weight = prior.reference
        dtype = weight.dtype.to_complex() if observation.y.is_complex() else weight.dtype
        moved = observation.to(weight.device)
        y = moved.y.to(dtype, copy=True)
        return Task(dc.replace(moved, y=y), prior, seeds, execution, on_event)


def _is_on(tensor: Tensor, device: str) -> bool:
    """Whether the tensor is on that device; `"cuda"` stands for any GPU."""
    target = torch.device(device)
    return tensor.device.type == target.type and target.index in (None, tensor.device.index)


def _fitting_prior(prior: Prior | None, observation: Observation, name: str) -> Prior:
    if prior is None:
        raise SettingError(
            f"{name} needs a prior; got none. Pass a name, a path or an iagan.Generator."
        )
    if prior.image_shape != observation.operator.image_shape:
        raise ShapeError(
            f"{name} expects a prior of the operator's image shape "
            f"{observation.operator.image_shape}; got one of {prior.image_shape}. "
            "Build the operator for the prior's size, or use another prior."
        )
    return prior


def _check_arguments(
    observation: object, prior: object, execution: object, on_event: object
) -> None:
    """**Raises:** `SettingError` for arguments of a wrong type."""
    expectations = (
        ("observation", observation, Observation, "an iagan.Observation"),
        ("prior", prior, Prior | str | os.PathLike | None, "an iagan.Generator, a name or a path"),
        ("execution", execution, Execution | None, "an iagan.Execution"),
    )
    for name, value, kind, expected in expectations:
        if not isinstance(value, kind):
            raise SettingError(
                f"reconstruct expects {name} as {expected}; got {type(value).__name__}."
            )
    if on_event is not None and not callable(on_event):
        raise SettingError(
            "reconstruct expects on_event as a function of an Event; got "
            f"{type(on_event).__name__}."
        )


def _seeds(seed: int | Sequence[int], count: int) -> tuple[int, ...]:
    is_sequence = isinstance(seed, Sequence | np.ndarray | Tensor) and not isinstance(seed, str)
    try:
        seeds = tuple(map(operator.index, seed if is_sequence else [seed] * count))  # type: ignore[arg-type]
    except TypeError:
        raise SettingError(
            f"reconstruct expects seed as an integer, or one per image; got {seed!r:.80}."
        ) from None
    if len(seeds) != count:
        raise SettingError(
            f"reconstruct expects one seed or {count}, one per image; got {len(seeds)}."
        )
    if min(seeds) < 0 or max(seeds) >= 2**63:
        raise SettingError(f"reconstruct expects seeds from 0 to 2^63 - 1; got {seed}.")
    return seeds


def _result(
    task: Task, method: Method, estimate: Estimate, seconds: float, notes: Sequence[str]
) -> Reconstruction:
    residual, relative = residual_norms(estimate.image, task.observation)
    messages = (*notes, *method.messages(task), *_messages(method, estimate))
    for message in messages:
        logger.warning(message)
    return Reconstruction(
        image=estimate.image.clone(),
        variables={name: value.clone() for name, value in estimate.variables.items()},
        residual=residual,
        relative_residual=relative,
        noise_floor=task.observation.noise_floor.to(residual),
        trace=estimate.trace.clone(),
        iterations=estimate.steps.clone(),
        seconds=seconds,
        method=method,
        seeds=task.seeds,
        messages=messages,
    )


def _messages(method: Method, estimate: Estimate) -> Iterator[str]:
    total = int(estimate.recoveries.sum())
    if total:
        yield (
            f"{method.name}: the objective was NaN or infinite {total} times; restarted from an "
            "earlier iterate with smaller steps."
        )
    lost = int((~torch.isfinite(estimate.image.flatten(1)).all(1)).sum())
    if lost:
        yield (
            f"{method.name}: {lost} of {len(estimate.image)} images never had a finite objective."
        )
