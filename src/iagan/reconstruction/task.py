"""What the phases of a method share: the task, the estimate they pass on, and batching."""

from __future__ import annotations

import dataclasses as dc
import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeAlias

import torch
from torch import Tensor

from iagan.errors import SettingError
from iagan.observation import Observation
from iagan.operators.base import squared_norms
from iagan.priors import Generator
from iagan.priors.networks.recompute import is_recomputing, recomputing
from iagan.priors.networks.winograd import quick_convolutions
from iagan.priors.run import as_it_is_written
from iagan.reconstruction.allocator import memory_kept
from iagan.reconstruction.memory import is_out_of_memory, rows_that_fit
from iagan.reconstruction.optimize import (
    Minimum,
    Objective,
    Projection,
    Rules,
    StepCallback,
    Variables,
    join,
)
from iagan.reconstruction.result import Settings
from iagan.reconstruction.threads import minimize_on_threads
from iagan.types import Image, Latent, PerImage

logger = logging.getLogger("iagan")

MOST_A_THREAD, MOST_ON_GPU = 4, 64
"""Rows worked on at once, by a thread of a CPU or by a GPU, where the caller does not say: more are
no quicker."""
SMALL_ON_CPU, SMALL_ON_GPU = 64**2, 128**2
"""Pixels of images of which it takes so many to be quick."""


@dc.dataclass(frozen=True)
class Progress:
    """Where a long run is.

    **Arguments:**
    - `phase`: `"csgm"`, `"iagan"` or `"dip"`; where starts are raced, `"csgm 1/3"` and so on.
    - `done`, `total`: evaluations of that phase.
    - `objective`: of the rows at work, as in a result's `trace`. On the device: reading it waits.
    """

    phase: str
    done: int
    total: int
    objective: Tensor


ProgressCallback: TypeAlias = Callable[[Progress], None]


@dc.dataclass(frozen=True)
class Task:
    """An observation to be reconstructed, with all that a phase may need.

    `batch_size` bounds how many images (times restarts) are worked on at once; None: what fits.
    """

    observation: Observation
    generator: Generator | None
    settings: Settings
    batch_size: int | None = None
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
        r"""$\|y - A x\|^2$ per row, summed over the measurements as in eqs. 2 and 3.

        Or $\|A^\dagger(y - A x)\|^2$, summed over the pixels, where the settings want that.
        """
        operator, y = self.observation.operator, self.observation.y[image_of_row]
        if self.settings.fidelity == "back-projection":
            return squared_norms(operator.pinv(operator(image) - y))
        return operator.misfit(image, y)

    def goal(self) -> PerImage | None:
        r"""$\tau^2 \sigma^2 m$ per image, where the settings have a τ (Morozov's principle)."""
        end = self.settings.noise_share * self.observation.noise_floor
        if end == 0:
            return None
        return torch.full((self.count,), end**2, device=self.observation.y.device)

    def projection(self) -> Projection | None:
        """What keeps z inside its law, where the settings want it."""
        if not self.settings.bounded_latent:
            return None
        law = self.prior.latent

        def project(variables: dict[str, Tensor]) -> None:
            variables["z"] = law.nearest(variables["z"])

        return project


@dc.dataclass(frozen=True)
class Estimate:
    """What a phase found, per image; `trace` has no column where nothing was iterated.

    `steps` are those that were taken, all phases together.
    """

    image: Image
    latent: Latent | None
    trace: Tensor
    steps: Tensor
    recoveries: Tensor

    @staticmethod
    def direct(image: Image) -> Estimate:
        """An estimate that took no iterations."""
        count = len(image)
        none = torch.zeros(count, dtype=torch.int64, device=image.device)
        return Estimate(image, None, image.new_empty(count, 0), none, none)

    @staticmethod
    def of(found: Minimum) -> Estimate:
        """All rows of a minimum."""
        latent = found.variables.get("z")
        return Estimate(found.image, latent, found.trace, found.steps, found.recoveries)

    def pick(self, rows: Tensor) -> Estimate:
        """The rows of an index."""
        return Estimate(
            self.image[rows],
            None if self.latent is None else self.latent[rows],
            self.trace[rows],
            self.steps[rows],
            self.recoveries[rows],
        )

    def after(self, before: Estimate) -> Estimate:
        """This one, which went on from `before`, with what was done for both."""
        return dc.replace(
            self,
            trace=torch.cat([before.trace, self.trace], 1),
            steps=before.steps + self.steps,
            recoveries=before.recoveries + self.recoveries,
        )


Stage: TypeAlias = Callable[[Task, "Estimate | None"], Estimate]
"""A phase: the task and what came before → an estimate."""


def worth_together(generator: Generator, restarts: int = 1) -> int:
    """How many images to recover at once: with more, the first wait for the last and nothing is
    quicker; of large ones, one keeps a thread or a GPU busy.
    """
    device = next((value.device for value in generator.parameters().values()), torch.device("cpu"))
    _, height, width = generator.image_shape
    large = height * width / (SMALL_ON_CPU if device.type == "cpu" else SMALL_ON_GPU)
    return max(1, int(_most_rows(device) / max(1.0, large) / max(1, restarts)))


def minimize_in_batches(
    task: Task, phase: str, objective: Objective, start: Variables, rules: Rules
) -> Minimum:
    """`minimize_on_threads`, at most `task.batch_size` rows at a time.

    A batch for which the memory does not suffice is halved, and one of a single row keeps less of
    the published networks' layers: the results are the same.

    **Raises:** `SettingError` when the memory does not suffice for a single row.
    """
    count = len(next(iter(start.values())))
    size = task.batch_size or _batch_that_fits(objective, start)
    found: list[Minimum] = []
    done = 0
    with quick_convolutions(), memory_kept(), ExitStack() as thrift:
        while done < count:
            rows = torch.arange(done, min(done + size, count))
            batches = len(found) + -(-(count - done) // size)
            each = rules.steps + 1
            report = _reporter(task, phase, len(found) * each, batches * each)
            goal = None if rules.goal is None else rules.goal[done : done + size]
            minimum = _minimize_if_it_fits(
                objective, _rows(start, rows), dc.replace(rules, goal=goal), rows, report
            )
            if minimum is None:
                size = _save_memory(len(rows), phase, thrift)
                continue
            found.append(minimum)
            done += len(rows)
    return join(found)


def _batch_that_fits(objective: Objective, start: Variables) -> int:
    first = next(iter(start.values()))
    if len(first) == 1:
        return 1
    one = torch.arange(1)
    row = {name: value[0].clone().requires_grad_() for name, value in start.items()}
    alone = {name: [value] for name, value in row.items()}
    with as_it_is_written():
        fit = rows_that_fit(first.device, row, lambda: objective(alone, 0, one))
    return min(_most_rows(first.device), fit)


def _most_rows(device: torch.device) -> int:
    return MOST_A_THREAD * torch.get_num_threads() if device.type == "cpu" else MOST_ON_GPU


def _rows(variables: Variables, rows: Tensor) -> dict[str, Tensor]:
    return {name: value[int(rows[0]) : int(rows[-1]) + 1] for name, value in variables.items()}


def _minimize_if_it_fits(objective: Objective, *rest: Any) -> Minimum | None:
    """A minimum, or None for want of memory: the error, which holds its tensors, ends in here."""
    try:
        return minimize_on_threads(objective, *rest)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None


def _save_memory(size: int, phase: str, thrift: ExitStack) -> int:
    """Half as many rows; for a single one, from now on, layers computed twice instead of kept."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if size > 1:
        logger.warning(f"{phase}: out of memory with {size} rows; going on with {size // 2}.")
        return size // 2
    if is_recomputing():
        raise SettingError(
            f"{phase} expects memory for one image at least; there is less. Take a smaller prior "
            "or another device."
        )
    logger.warning(f"{phase}: out of memory with one row; going on with its layers computed twice.")
    thrift.enter_context(recomputing())
    return 1


def _reporter(task: Task, phase: str, before: int, total: int) -> StepCallback | None:
    tell = task.on_progress
    if tell is None:
        return None
    return lambda step, objective: tell(Progress(phase, before + step + 1, total, objective))
