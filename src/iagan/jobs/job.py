"""Jobs: picklable values that are run in this process or by an executor."""

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
"""Maximum number of jobs submitted to an executor at once, as a compromise between its utilisation
and its memory."""


class Executor(Protocol):
    """Runs jobs: a `concurrent.futures.ProcessPoolExecutor(4)`, a dask client, or your own."""

    def submit(self, function: Any, job: bytes, /) -> Any:
        """Submit `function(job)`; returns a future, an object with `result()` and `cancel()`."""


@dc.dataclass(frozen=True, eq=False)
class Job:
    """An observation to recover by some methods; picklable.

    **Arguments:**
    - `observation`: y, `(b, ...)`, with its operator and noise level.
    - `methods`: run in turn; parts they share run once.
    - `prior`: a generator, or the name or path of one, which is loaded where the job runs.
    - `seed`: seed of the random starts, for all images or one per image.
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
        """Yield the result of each method as soon as it is available.

        **Raises:** the errors of `reconstruct_all`.
        """
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
    """All results of a pickled job, pickled; the function that an executor runs.

    Job and results are bytes, since tensors would otherwise be sent as shared-memory handles, which
    are limited in number and to one machine.
    """
    return pickle.dumps(list(pickle.loads(job).results()))


def run_jobs(
    jobs: Iterable[Job], executor: Executor | None = None, on_event: EventCallback | None = None
) -> Iterator[Answer]:
    """Yield the results of all jobs, in order. A job that fails yields its error; the others
    continue.

    **Arguments:**
    - `executor`: runs the jobs, at most `IN_FLIGHT` at once; None: this process, where a
      `Cancelled` (Ctrl-C, an exception of `on_event`) is the last answer and holds the best images
      so far.
    - `on_event`: called after every step of jobs that run in this process.
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
    """A future of the job, which holds the exception if it could not be submitted."""
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
    except Exception as error:  # the executor may raise anything if it could not run the job
        lost = IaganError(
            f"The executor could not run a job: {type(error).__name__}: {str(error)[:200]}. "
            "Check that its workers are running and have iagan installed."
        )
        lost.__cause__ = error
        yield job, lost
        return
    for result in results:
        yield job, result


def tell(on_event: EventCallback | None, event: Event) -> None:
    """Call `on_event` outside of a reconstruction.

    **Raises:** `Cancelled`, without a result, if the callback raises an exception.
    """
    if on_event is None:
        return
    try:
        on_event(event)
    except Exception as error:
        raise Cancelled(
            f"Cancelled by on_event ({type(error).__name__}); finished results are kept.", None
        ) from error
