"""A method's work on one observation: the problems, and how they are shared out and run."""

from __future__ import annotations

import dataclasses as dc
import logging
import time
from collections.abc import Callable

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
from iagan.methods.base import Method
from iagan.methods.estimate import Estimate
from iagan.observation import Observation
from iagan.operators.base import squared_norms
from iagan.priors import Generator
from iagan.types import Image, PerImage

logger = logging.getLogger("iagan")

MAX_A_THREAD, MAX_ON_GPU = 4, 64
"""Problems worked on at once, by a thread of a CPU or by a GPU, where the caller does not say: more
were no quicker (benchmarks/NOTES.md)."""
SMALL_ON_CPU, SMALL_ON_GPU = 64**2, 128**2
"""Pixels up to which an image is small: so many are worked on at once."""


@dc.dataclass(frozen=True)
class Batch:
    """Some problems, ready to be minimised.

    - `objective`: of the problems 0, 1, … of the batch.
    - `start`: the variables, which the minimisation overwrites.
    """

    objective: Objective
    start: Leaves
    options: MinimizeOptions


MakeBatch = Callable[[Tensor, bool], Batch]
"""`(problems, checkpointing) → Batch`: of the problems at these indices, made in the thread that
will work on them."""


@dc.dataclass(eq=False)
class Task:
    """An observation to be recovered, with all that a method may need.

    **Arguments:**
    - `observation`: on the device and in the precision of the prior.
    - `seeds`: an image's each.
    """

    observation: Observation
    generator: Generator | None
    seeds: tuple[int, ...]
    execution: Execution = dc.field(default_factory=Execution)
    on_event: EventCallback | None = None
    cancellation: Cancellation = dc.field(default_factory=Cancellation)
    _estimates: dict[Method, tuple[Estimate, float]] = dc.field(default_factory=dict, repr=False)

    def with_seeds(self, seeds: tuple[int, ...]) -> Task:
        """The same task from other seeds, with nothing known yet."""
        return dc.replace(self, seeds=seeds, _estimates={})

    @property
    def prior(self) -> Generator:
        """The prior of a method that has one."""
        assert self.generator is not None
        return self.generator

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.observation)

    @property
    def dtype(self) -> torch.dtype:
        """Of images and latents."""
        return self.observation.y.real.dtype

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.observation.y.device

    def estimate(self, method: Method) -> Estimate:
        """What `method` makes of the observation; run once, and kept for the next call."""
        return self.timed(method)[0]

    def timed(self, method: Method) -> tuple[Estimate, float]:
        """The same, with the seconds that it took, those of the methods it starts from included."""
        if method not in self._estimates:
            known = sum(seconds for _, seconds in self._within(method))
            begun = time.perf_counter()
            estimate = method.run(self)
            self._estimates[method] = (estimate, known + time.perf_counter() - begun)
        return self._estimates[method]

    def _within(self, method: Method) -> list[tuple[Estimate, float]]:
        """What is known already of the method's own inner one."""
        inner = [getattr(method, field.name) for field in dc.fields(method)]  # type: ignore[arg-type]
        return [self._estimates[each] for each in inner if each in self._estimates]

    def misfit(self, image: Image, indices: Tensor, fidelity: str = "least-squares") -> PerImage:
        r"""$\|y - A x\|^2$ per row, summed over the measurements (eqs. 2 and 3).

        With `fidelity` `"back-projection"` $\|A^\dagger(y - A x)\|^2$, summed over the pixels
        (Tirer and Giryes, arXiv 1906.06794). `indices` says which image of the observation each row
        is of.
        """
        operator, y = self.observation.operator, self.observation.y[indices]
        if fidelity == "back-projection":
            return squared_norms(operator.pinv(operator(image) - y))
        return operator.misfit(image, y)

    def minimize(
        self,
        phase: str,
        make: MakeBatch,
        image_of: Tensor,
        together: bool,
    ) -> MinimizeResult:
        """Minimise as many independent problems as `image_of` has entries.

        **Arguments:**
        - `make`: some of the problems as a batch.
        - `image_of`: which image of the observation each problem is of.
        - `together`: whether a CPU thread may take several at once; a GPU always does.

        Of the variables only z is returned. Batches for which the memory does not suffice are made
        smaller, and a single problem checkpoints its layers: the results are the same.

        **Raises:** `SettingError` where the memory does not suffice for a single problem.
        """
        run = _Run(self, phase, make, image_of, together)
        return run.result()


def preferred_batch_size(prior: Generator) -> int:
    """How many images to recover at once: with more, the first wait for the last and nothing is
    quicker; of large ones, one keeps a thread or a GPU busy.
    """
    device = next(iter(prior.parameters().values())).device
    _, height, width = prior.image_shape
    cpu = device.type == "cpu"
    most = MAX_A_THREAD * torch.get_num_threads() if cpu else MAX_ON_GPU
    large = height * width / (SMALL_ON_CPU if cpu else SMALL_ON_GPU)
    return max(1, int(most / max(1.0, large)))


class _Run:
    """One phase: its batches, which of them are done, and what it tells."""

    def __init__(
        self, task: Task, phase: str, make: MakeBatch, image_of: Tensor, together: bool
    ) -> None:
        self.task, self.phase, self.make, self.image_of = task, phase, make, image_of
        self.count = len(image_of)
        execution = task.execution
        self.on_cpu = task.device.type == "cpu"
        self.checkpointing = bool(execution.checkpointing)
        self.threads = execution.threads or torch.get_num_threads()
        self.workers = self.threads if self.on_cpu else 1
        self.size = MAX_ON_GPU if not self.on_cpu else MAX_A_THREAD if together else 1
        if self.on_cpu:
            self.workers = min(self.workers, self.count, execution.batch_size or self.count)
            self.size = min(self.size, -(-self.count // self.workers))
        if execution.batch_size is not None:
            self.size = min(self.size, max(1, execution.batch_size // self.workers))
        self.steps_done: dict[int, int] = {}
        self.total = 0

    def result(self) -> MinimizeResult:
        self._fit_into_memory()
        pending, done = list(range(self.count)), []
        while pending:
            batches = [
                torch.tensor(pending[i : i + self.size]) for i in range(0, len(pending), self.size)
            ]
            outcomes = map_on_threads(
                self._attempt,
                batches,
                self.threads,
                self.task.cancellation,
                self._tell,
                self.workers,
            )
            done += [(b, result) for b, result in zip(batches, outcomes, strict=True) if result]
            pending = [
                i
                for b, result in zip(batches, outcomes, strict=True)
                if not result
                for i in b.tolist()
            ]
            if pending:
                self._use_less_memory()
        order = torch.cat([problems for problems, _ in done]).argsort()
        whole = join([result for _, result in done])
        rows = order.to(whole.objective.device)
        return MinimizeResult(
            {name: value[rows] for name, value in whole.variables.items()},
            *(getattr(whole, field.name)[rows] for field in dc.fields(whole)[1:]),
        )

    def _attempt(self, problems: Tensor, tell: Callable[[Event], None]) -> MinimizeResult | None:
        """The result of a batch, or None for want of memory: the error, which holds tensors, ends
        here."""
        try:
            batch = self.make(problems, self.checkpointing)
            on_step = self._reporter(problems, batch.options.steps, tell)
            result = minimize(batch.objective, batch.start, batch.options, len(problems), on_step)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
        kept = {name: value for name, value in result.variables.items() if name == "z"}
        return dc.replace(result, variables=kept)

    def _fit_into_memory(self) -> None:
        """Fewer problems at once, where the memory does not suffice for as many."""
        if self.workers * self.size == 1:
            return
        first = torch.arange(1)
        with torch.inference_mode(False):
            batch = self.make(first, self.checkpointing)
            leaves = {name: leaf.requires_grad_() for name, leaf in batch.start.items()}
            fit = problems_that_fit(
                self.task.device, leaves, lambda: batch.objective(leaves, 0, first)
            )
        self.workers = min(self.workers, fit)
        self.size = min(self.size, max(1, fit // self.workers))

    def _use_less_memory(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        at_once = self.workers * self.size
        if at_once > 1:
            self.workers, self.size = max(1, self.workers // 2), max(1, self.size // 2)
            logger.warning(
                f"{self.phase}: out of memory with {at_once} problems at once; going on with "
                f"{self.workers * self.size}."
            )
        elif self.checkpointing or self.task.execution.checkpointing is False:
            raise SettingError(
                f"{self.phase} expects memory for at least one image; there is less. Take a "
                "smaller prior or another device."
            )
        else:
            self.checkpointing = True
            logger.warning(
                f"{self.phase}: out of memory with one problem; going on with activation "
                "checkpointing."
            )

    def _reporter(
        self, problems: Tensor, steps: int, tell: Callable[[Event], None]
    ) -> Callable[[int, Best], bool]:
        cancellation, listened = self.task.cancellation, self.task.on_event is not None

        def on_step(step: int, best: Best) -> bool:
            if listened:
                indices = self.image_of[problems[best.problems.cpu()]]
                image = best.image
                tell(
                    Event(
                        self.phase,
                        step + 1,
                        steps + 1,
                        best.current,
                        lambda: self._residual(image, indices),
                        lambda: image,
                        tuple(problems.tolist()),
                    )
                )
            return bool(cancellation)

        return on_step

    def _residual(self, image: Image, indices: Tensor) -> PerImage:
        return self.task.misfit(image, indices.to(image.device)).sqrt()

    def _tell(self, event: Event) -> None:
        """In the caller's thread: of one batch → of all."""
        assert self.task.on_event is not None
        for problem in event.indices:
            self.steps_done[problem] = event.step
        indices = self.image_of[list(event.indices)].tolist()
        self.task.on_event(
            dc.replace(
                event,
                step=sum(self.steps_done.values()),
                total=self.count * event.total,
                indices=tuple(dict.fromkeys(indices)),
            )
        )
