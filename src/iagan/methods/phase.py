"""A phase of a method: many independent problems, on CPU threads or stacked on a GPU."""

from __future__ import annotations

import dataclasses as dc
import logging
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from iagan.engine import Event, EventCallback, Execution
from iagan.engine.memory import is_out_of_memory, problems_that_fit
from iagan.engine.minimize import (
    Best,
    Leaves,
    MinimizeOptions,
    MinimizeResult,
    Objective,
    join,
    minimize,
)
from iagan.engine.workers import Cancellation, map_on_threads
from iagan.errors import SettingError
from iagan.priors import Prior
from iagan.types import Image, PerImage

logger = logging.getLogger("iagan")

MAX_PER_THREAD, MAX_ON_GPU = 4, 64
"""Default numbers of problems processed at once by a CPU thread and by a GPU; more are not faster
(benchmarks/NOTES.md)."""
SMALL_ON_CPU, SMALL_ON_GPU = 64**2, 128**2
"""Pixels per image up to which those numbers apply; larger images are processed in smaller
batches."""


@dc.dataclass(frozen=True)
class Batch:
    """Some problems, ready to be minimised.

    - `objective`: objective of the problems 0, 1, … of the batch.
    - `start`: initial variables, overwritten by the minimisation.
    - `options`: optimizer settings and stopping criteria.
    - `weights`: names of variables that are not returned: those of a network per image are too
      large.
    """

    objective: Objective
    start: Leaves
    options: MinimizeOptions
    weights: Collection[str] = ()


MakeBatch = Callable[[Tensor, bool], Batch]
"""`(problems, checkpointing) → Batch` of the problems at these indices, called in the worker's
thread."""


def preferred_batch_size(prior: Prior, restarts: int = 1) -> int:
    """The number of images to recover at once. More only delay the first results; a single large
    image saturates a thread or a GPU.

    **Arguments:**
    - `restarts`: starts of z per image.
    """
    device = prior.reference.device
    _, height, width = prior.image_shape
    cpu = device.type == "cpu"
    most = MAX_PER_THREAD * torch.get_num_threads() if cpu else MAX_ON_GPU
    large = height * width / (SMALL_ON_CPU if cpu else SMALL_ON_GPU)
    return max(1, int(most / max(1.0, large) / restarts))


class Phase:
    """One minimisation of all images: it forms batches, runs them and reports events.

    **Arguments:**
    - `name`: name in events and messages.
    - `make`: makes a batch of some of the problems.
    - `image_of`: `(problems,)`, index of each problem's image.
    - `residual`: `(images, problems) → ‖y - A x‖` of each problem.
    - `together`: whether a CPU thread may run several problems at once; a GPU always does.
    """

    def __init__(
        self,
        name: str,
        make: MakeBatch,
        image_of: Tensor,
        residual: Callable[[Image, Tensor], PerImage],
        device: torch.device,
        execution: Execution,
        together: bool,
    ) -> None:
        self.name, self.make, self.image_of, self.residual = name, make, image_of, residual
        self.device, self.execution = device, execution
        self.count = len(image_of)
        self.checkpointing = bool(execution.checkpointing)
        self.threads = execution.threads or torch.get_num_threads()
        self.workers, self.size = self._share_out(together)
        self.steps_done: dict[int, int] = {}

    def _share_out(self, together: bool) -> tuple[int, int]:
        """The number of workers, and of problems that each runs at once."""
        most = self.execution.batch_size
        if self.device.type != "cpu":
            return 1, min(MAX_ON_GPU, most or MAX_ON_GPU)
        workers = min(self.threads, self.count, most or self.count)
        size = min(MAX_PER_THREAD if together else 1, -(-self.count // workers))
        return workers, size if most is None else min(size, max(1, most // workers))

    def minimize(
        self, cancellation: Cancellation, on_event: EventCallback | None
    ) -> MinimizeResult:
        """The results of all problems, in order, with all variables but the weights.

        **Raises:** `SettingError` if memory does not suffice for a single problem.
        """
        self._fit_into_memory()

        def attempt(problems: Tensor, tell: Callable[[Event], None]) -> MinimizeResult | None:
            return self._attempt(problems, cancellation, None if on_event is None else tell)

        def pass_on(event: Event) -> None:
            assert on_event is not None
            on_event(self._of_all(event))

        pending, done = list(range(self.count)), []
        while pending:
            batches = [
                torch.tensor(pending[i : i + self.size], device="cpu")
                for i in range(0, len(pending), self.size)
            ]
            outcomes = map_on_threads(
                attempt, batches, self.threads, cancellation, pass_on, self.workers
            )
            pending = []
            for problems, outcome in zip(batches, outcomes, strict=True):
                if outcome is None:
                    pending += problems.tolist()
                else:
                    done.append((problems, outcome))
            if pending:
                self._reduce_memory()
        order = torch.cat([problems for problems, _ in done]).argsort()
        joined = join([result for _, result in done])
        return joined.pick(order.to(joined.objective.device))

    def _attempt(
        self,
        problems: Tensor,
        cancellation: Cancellation,
        tell: Callable[[Event], None] | None,
    ) -> MinimizeResult | None:
        """The result of a batch, or None if out of memory; the error, which holds tensors, is
        freed.
        """
        try:
            batch = self.make(problems, self.checkpointing)
            on_step = self._reporter(problems, batch.options.steps, cancellation, tell)
            result = minimize(batch.objective, batch.start, batch.options, len(problems), on_step)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
        kept = {k: v for k, v in result.variables.items() if k not in batch.weights}
        return dc.replace(result, variables=kept)

    def _fit_into_memory(self) -> None:
        """Reduce the number of problems at once to what memory allows."""
        if self.workers * self.size == 1:
            return
        first = torch.arange(1, device="cpu")
        with torch.inference_mode(False):
            batch = self.make(first, self.checkpointing)
            leaves = {name: leaf.requires_grad_() for name, leaf in batch.start.items()}
            fit = problems_that_fit(self.device, leaves, lambda: batch.objective(leaves, 0, first))
        self.workers = min(self.workers, fit)
        self.size = min(self.size, max(1, fit // self.workers))

    def _reduce_memory(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        at_once = self.workers * self.size
        if at_once > 1:
            self.workers, self.size = max(1, self.workers // 2), max(1, self.size // 2)
            logger.warning(
                f"{self.name}: out of memory with {at_once} problems at once; falling back to "
                f"{self.workers * self.size}."
            )
        elif self.checkpointing or self.execution.checkpointing is False:
            raise SettingError(
                f"{self.name} expects memory for at least one image; there is less. Use a "
                "smaller prior or another device."
            )
        else:
            self.checkpointing = True
            logger.warning(
                f"{self.name}: out of memory with one problem; falling back to activation "
                "checkpointing."
            )

    def _reporter(
        self,
        problems: Tensor,
        steps: int,
        cancellation: Cancellation,
        tell: Callable[[Event], None] | None,
    ) -> Callable[[int, Best], bool]:
        indices = tuple(problems.tolist())

        def on_step(step: int, best: Best) -> bool:
            if tell is not None:
                image, running = best.image, problems[best.problems.cpu()]
                tell(
                    Event(
                        self.name,
                        step + 1,
                        steps + 1,
                        objective=best.current,
                        residual=lambda: self.residual(image, running),
                        image=lambda: image,
                        indices=indices,
                    )
                )
            return bool(cancellation)

        return on_step

    def _of_all(self, event: Event) -> Event:
        """Convert an event of one batch, with problems as indices, to one of the phase, with
        images.
        """
        for problem in event.indices:
            self.steps_done[problem] = event.step
        images = self.image_of[list(event.indices)].tolist()
        return dc.replace(
            event,
            step=sum(self.steps_done.values()),
            total=self.count * event.total,
            indices=tuple(dict.fromkeys(images)),
        )
