"""Options → tasks: the paper's settings where nothing else is asked for, and what is refused."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from iagan.errors import SettingError, ShapeError
from iagan.observation import Observation
from iagan.priors import Generator
from iagan.reconstruction.presets import EFFORTS, NEED_NO_PRIOR
from iagan.reconstruction.result import Settings
from iagan.reconstruction.task import Task


def default_method(observation: Observation) -> str:
    """IAGAN-BP without noise, IAGAN with it (arXiv 1906.05284, after eq. 10)."""
    return "iagan" if observation.noise_std > 0 else "iagan-bp"


def resolve(
    observation: Observation,
    generator: Generator | None,
    method: str,
    given: dict[str, int | None],
    seed: int | Sequence[int],
    bounded_latent: bool = False,
    effort: str = "fast",
) -> Task:
    """The task of one method, checked, on the device and in the precision of the prior.

    **Raises:** `SettingError` for an option out of range or a missing prior; `ShapeError` for a
    prior of another size than the observed image's.
    """
    if method in NEED_NO_PRIOR:
        generator = None
    else:
        generator = _fitting_prior(generator, observation, method)
        observation = _like(observation, next(iter(generator.parameters().values())))
    if effort not in EFFORTS:
        raise SettingError(
            f"reconstruct knows the efforts {', '.join(EFFORTS)}; got {effort!r}. Name one of them."
        )
    preset = EFFORTS[effort](method, observation.operator, observation.noise_std, generator)
    settings = _settings(preset, given)
    settings = dc.replace(
        settings,
        seed=_seed(seed, len(observation.y)),
        bounded_latent=bounded_latent and generator is not None,
    )
    return Task(observation, generator, settings)


def _fitting_prior(generator: Generator | None, observation: Observation, method: str) -> Generator:
    if generator is None:
        raise SettingError(
            f"{method} needs a prior; got none. Pass a name, a path or an iagan.Generator."
        )
    if generator.image_shape != observation.operator.image_shape:
        raise ShapeError(
            f"{method} expects a prior of the observed image's shape "
            f"{observation.operator.image_shape}; got one of {generator.image_shape}. "
            "Build the operator for the prior's size, or take another prior."
        )
    return generator


def _like(observation: Observation, reference: Tensor) -> Observation:
    y = observation.y
    dtype = reference.dtype.to_complex() if y.is_complex() else reference.dtype
    moved = observation.to(reference.device)
    return dc.replace(moved, y=moved.y.to(dtype))


def _settings(paper: Settings, given: dict[str, int | None]) -> Settings:
    for name, value in given.items():
        least = 1 if name == "restarts" else 0
        if value is not None and (not isinstance(value, int) or value < least):
            raise SettingError(
                f"reconstruct expects {name} as an integer of at least {least}; got {value}."
            )
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return dc.replace(paper, **chosen)


def _seed(seed: int | Sequence[int], count: int) -> int | tuple[int, ...]:
    seeds = (seed,) if isinstance(seed, int) else tuple(int(each) for each in seed)
    if not isinstance(seed, int) and len(seeds) != count:
        raise SettingError(
            f"reconstruct expects one seed or {count}, one an image; got {len(seeds)}."
        )
    if min(seeds) < 0:
        raise SettingError(f"reconstruct expects seeds of at least 0; got {seed}.")
    return seed if isinstance(seed, int) else seeds
