"""A job is a value: what is recovered, by which methods, and how that is computed."""

from __future__ import annotations

import collections
import dataclasses as dc
import os
import pickle
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeAlias

from iagan.engine import Event, EventCallback, Execution
from iagan.errors import Cancelled, IaganError
from iagan.methods import Method, Reconstruction, reconstruct_all
from iagan.observation import Observation
from iagan.priors import Generator

IN_FLIGHT = 16
"""Jobs that an executor is given at once: enough to keep a node busy, few enough for its memory."""


class Executor(Protocol):
    """What runs jobs: `concurrent.futures.ProcessPoolExecutor(4)`, dask's client, or your own."""

    def submit(self, function: Any, job: bytes, /) -> Any:
        """A future of `function(job)`: an object with `result()` and `cancel()`."""


@dc.dataclass(frozen=True, eq=False)
class Job:
    """Images of one observation, to be recovered by some methods. It pickles.

    **Arguments:**
    - `observation`: y of `(b, ...)`, its operator and noise.
    - `methods`: run one after another; what they share runs once.
    - `prior`: a generator, or the name or path of one, which the process that runs the job loads.
    - `seed`: of the random starts: one for all images, or one an image.
    - `execution`: device, precision, threads, …
    """

    observation: Observation
    methods: tuple[Method, ...]
    prior: Generator | str | os.PathLike[str] | None
    seed: int | tuple[int, ...] = 0
    execution: Execution = dc.field(default_factory=Execution)

    def __len__(self) -> int:
        return len(self.observation)

    def results(self, on_event: EventCallback | None = None) -> Iterator[Reconstruction]:
        """A result of each method, as soon as it is there. Errors: those of `reconstruct_all`."""
        return reconstruct_all(
            self.observation,
            self.prior,
            self.methods,
            seed=self.seed,
            execution=self.execution,
            on_event=on_event,
        )


Answer: TypeAlias = tuple[Job, Reconstruction | IaganError]
"""A job with one method's result, or with the error that ended it."""


def run_job(job: bytes) -> bytes:
    """All results of a pickled job, pickled: what an executor runs in a process of its own.

    As bytes, since tensors would otherwise travel by handles that only processes of one machine
    can share, and not many of them.
    """
    return pickle.dumps(list(pickle.loads(job).results()))


def run_jobs(
    jobs: Iterable[Job], executor: Executor | None = None, on_event: EventCallback | None = None
) -> Iterator[Answer]:
    """Results of all jobs, in order. A job that fails gives its error, and the others go on.

    **Arguments:**
    - `executor`: what runs them; at most `IN_FLIGHT` jobs wait there. None: this process, where a
      `Cancelled` (Ctrl-C, an exception of `on_event`) is the last answer and holds the best images
      so far.
    - `on_event`: hears every step of jobs that run in this process.
    """
    return _here(jobs, on_event) if executor is None else _elsewhere(jobs, executor)


def _here(jobs: Iterable[Job], on_event: EventCallback | None) -> Iterator[Answer]:
    for job in jobs:
        try:
            for result in job.results(on_event):
                yield job, result
        except IaganError as error:
            yield job, error
            if isinstance(error, Cancelled):
                return


def _elsewhere(jobs: Iterable[Job], executor: Executor) -> Iterator[Answer]:
    waiting: collections.deque[tuple[Job, Any]] = collections.deque()
    try:
        for job in jobs:
            waiting.append((job, _submitted(job, executor)))
            if len(waiting) >= IN_FLIGHT:
                yield from _answers(*waiting.popleft())
        while waiting:
            yield from _answers(*waiting.popleft())
    finally:
        for _, future in waiting:
            future.cancel()


def _submitted(job: Job, executor: Executor) -> Any:
    """A future, also of what could not even be sent there."""
    try:
        return executor.submit(run_job, pickle.dumps(job))
    except Exception as error:
        future: Future[bytes] = Future()
        future.set_exception(error)
        return future


def _answers(job: Job, future: Any) -> Iterator[Answer]:
    try:
        results = pickle.loads(future.result())
    except IaganError as error:
        yield job, error
        return
    except Exception as error:  # whatever the executor raises where it could not run the job
        lost = IaganError(
            f"The executor could not run a job: {type(error).__name__}: {str(error)[:200]}. "
            "See that its workers live and have iagan."
        )
        lost.__cause__ = error
        yield job, lost
        return
    for result in results:
        yield job, result


def tell(on_event: EventCallback | None, event: Event) -> None:
    """Call `on_event` outside of a reconstruction.

    **Raises:** `Cancelled`, without a result, where the callback raises an exception.
    """
    if on_event is None:
        return
    try:
        on_event(event)
    except Exception as error:
        raise Cancelled(
            f"Cancelled by on_event ({type(error).__name__}); what was finished is kept.", None
        ) from error
