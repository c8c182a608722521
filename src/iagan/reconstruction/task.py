"""What the phases of a method share: the task, the estimate they pass on, and batching."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from iagan.generators import Generator
from iagan.observation import Observation
from iagan.reconstruction.optimize import (
    Minimum,
    Objective,
    Projection,
    StepCallback,
    Variables,
    minimize,
)
from iagan.reconstruction.result import Settings, squared_norms
from iagan.types import Image, Latent, PerImage


@dc.dataclass(frozen=True)
class Progress:
    """Where a long run is.

    **Arguments:**
    - `phase`: `"csgm"`, `"iagan"` or `"dip"`.
    - `done`, `total`: evaluations of that phase.
    - `objective`: $\\|y - A x\\|^2$ of the rows at work. On the device: reading it waits.
    """

    phase: str
    done: int
    total: int
    objective: Tensor


ProgressCallback: TypeAlias = Callable[[Progress], None]


@dc.dataclass(frozen=True)
class Task:
    """An observation to be reconstructed, with all that a phase may need.

    `batch_size` bounds how many images (times restarts) are worked on at once.
    """

    observation: Observation
    generator: Generator | None
    settings: Settings
    batch_size: int
    on_progress: ProgressCallback | None = None

    @property
    def prior(self) -> Generator:
        """The generator of a method that has one."""
        assert self.generator is not None
        return self.generator

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.observation.y)

    def seeds(self) -> list[int]:
        """One seed for every image."""
        seed = self.settings.seed
        return [seed] * self.count if isinstance(seed, int) else list(seed)

    def misfit(self, image: Image, image_of_row: Tensor) -> PerImage:
        r"""$\|y - A x\|^2$ per row, summed over the measurements as in eqs. 2 and 3."""
        y = self.observation.y[image_of_row]
        return squared_norms(self.observation.operator(image) - y)


@dc.dataclass(frozen=True)
class Estimate:
    """What a phase found, per image; `trace` has no column where nothing was iterated."""

    image: Image
    latent: Latent | None
    trace: Tensor
    recoveries: Tensor

    @staticmethod
    def direct(image: Image) -> Estimate:
        """An estimate that took no iterations."""
        count = len(image)
        return Estimate(
            image, None, image.new_empty(count, 0), torch.zeros(count, dtype=torch.int64)
        )


Stage: TypeAlias = Callable[[Task, "Estimate | None"], Estimate]
"""A phase: the task and what came before → an estimate."""


def minimize_in_batches(
    task: Task,
    phase: str,
    problem: Callable[[Tensor], Objective],
    start: Variables,
    rates: Mapping[str, float],
    steps: int,
) -> Minimum:
    """`minimize`, at most `task.batch_size` rows at a time; of the variables only z is returned.

    `problem` makes the objective of the rows that it is given.
    """
    count = len(next(iter(start.values())))
    total = -(-count // task.batch_size) * (steps + 1)
    found: list[Minimum] = []
    for rows in torch.arange(count).split(task.batch_size):
        report = _reporter(task, phase, len(found) * (steps + 1), total)
        part = {name: value[int(rows[0]) : int(rows[-1]) + 1] for name, value in start.items()}
        minimum = minimize(problem(rows), part, rates, steps, report, _projection(task))
        kept = {name: value for name, value in minimum.variables.items() if name == "z"}
        found.append(dc.replace(minimum, variables=kept))
    return _join(found)


def _projection(task: Task) -> Projection | None:
    if not task.settings.bounded_latent:
        return None
    law = task.prior.latent

    def project(variables: dict[str, Tensor]) -> None:
        variables["z"] = law.nearest(variables["z"])

    return project


def _reporter(task: Task, phase: str, before: int, total: int) -> StepCallback | None:
    tell = task.on_progress
    if tell is None:
        return None
    return lambda step, objective: tell(Progress(phase, before + step + 1, total, objective))


def _join(parts: list[Minimum]) -> Minimum:
    def cat(pick: Callable[[Minimum], Tensor]) -> Tensor:
        return torch.cat([pick(part) for part in parts])

    return Minimum(
        variables={name: cat(lambda part: part.variables[name]) for name in parts[0].variables},  # noqa: B023
        image=cat(lambda part: part.image),
        objective=cat(lambda part: part.objective),
        trace=cat(lambda part: part.trace),
        recoveries=cat(lambda part: part.recoveries),
    )


def pick_rows(found: Minimum, rows: Tensor) -> Estimate:
    """The chosen rows as an estimate."""
    latent = found.variables["z"][rows] if "z" in found.variables else None
    return Estimate(found.image[rows], latent, found.trace[rows], found.recoveries[rows])
