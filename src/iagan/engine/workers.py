"""Independent problems on the threads of a CPU, one problem per thread.

Two threads with one problem each are faster than two threads per convolution, since small layers
and the operations between them use one thread anyway. A GPU has one worker.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TypeVar

import torch

from iagan.engine.events import Event, EventCallback
from iagan.errors import SettingError

Problem = TypeVar("Problem")
Result = TypeVar("Result")


class Cancellation:
    """A request to stop work early and return partial results; `cause` is the reason, or None."""

    def __init__(self) -> None:
        self.cause: BaseException | None = None

    def __bool__(self) -> bool:
        return self.cause is not None


def map_on_threads(
    function: Callable[[Problem, Callable[[Event], None]], Result],
    problems: Sequence[Problem],
    threads: int,
    cancellation: Cancellation,
    on_event: EventCallback | None = None,
    workers: int | None = None,
) -> list[Result]:
    """`[function(problem, tell) for problem in problems]`, on at most `workers` threads.

    Gradients are enabled in `function` whatever the caller's mode. Several workers are new threads
    that share the `threads` of torch's operations; a single worker is the caller's thread, whose
    pool of OpenMP threads already exists (a second pool would slow both down). The process's thread
    count is unchanged. `on_event` is called in the caller's thread. An exception there, or Ctrl-C,
    is stored in `cancellation`, which `function` should check; results are then returned as usual.
    An exception of `function` is raised once all workers have ended.
    """
    count = min(workers or threads, threads, len(problems))
    if count == 1:
        return _one_by_one(function, problems, threads, cancellation, on_event)
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    waiting = iter(range(len(problems)))
    results: dict[int, Result] = {}
    errors: list[BaseException] = []
    lock, ready = threading.Lock(), threading.Barrier(count + 1)

    def work() -> None:
        try:
            _use_threads(max(1, threads // count))
            ready.wait()
            while not errors:
                with lock:
                    index = next(waiting, None)
                if index is None:
                    break
                results[index] = function(problems[index], events.put)
        except BaseException as error:  # raised in the caller's thread
            errors.append(error)
        finally:
            events.put(None)

    before = torch.get_num_threads()
    pool = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    try:
        for thread in pool:
            _start(thread, count)
        ready.wait()
    except BaseException as error:  # a thread could not start, or Ctrl-C
        cancellation.cause = error
        ready.abort()  # releases the other threads
        raise
    finally:
        _use_threads(before)  # also the default of new threads
    _forward_events(events, count, cancellation, on_event)
    for thread in pool:
        thread.join()
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(problems))]


def _start(thread: threading.Thread, count: int) -> None:
    """**Raises:** `SettingError` where the system allows no further thread."""
    try:
        thread.start()
    except RuntimeError as error:
        raise SettingError(
            f"Execution expects that {count} threads can be started; got: {error}. Use fewer: "
            "threads=1 (--threads 1)."
        ) from error


def _one_by_one(
    function: Callable[[Problem, Callable[[Event], None]], Result],
    problems: Sequence[Problem],
    threads: int,
    cancellation: Cancellation,
    on_event: EventCallback | None,
) -> list[Result]:
    """`map_on_threads` in the caller's thread, where Ctrl-C is deferred to the next step."""

    def tell(event: Event) -> None:
        if on_event is None or cancellation:
            return
        try:
            on_event(event)
        except BaseException as error:
            cancellation.cause = error

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _deferred_interrupt(cancellation), torch.inference_mode(False), torch.enable_grad():
            return [function(problem, tell) for problem in problems]
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _deferred_interrupt(cancellation: Cancellation) -> Iterator[None]:
    """Stores the first Ctrl-C in `cancellation`; a second one raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in its main thread only
        return
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # ignored, or not handled by Python
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if cancellation:
            before(number, frame)
        cancellation.cause = KeyboardInterrupt()

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _use_threads(count: int) -> None:
    """Set this thread's count; torch overwrites a count set before the first query."""
    torch.get_num_threads()
    torch.set_num_threads(count)


def _forward_events(
    events: queue.SimpleQueue[Event | None],
    workers: int,
    cancellation: Cancellation,
    on_event: EventCallback | None,
) -> None:
    """Forward events until all workers have ended."""
    while workers:
        try:
            event = events.get()
            if event is None:
                workers -= 1
            elif on_event is not None and not cancellation:
                on_event(event)
        except BaseException as error:
            if cancellation:  # a second Ctrl-C is not deferred
                raise
            cancellation.cause = error
