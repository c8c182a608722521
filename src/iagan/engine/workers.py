"""Independent problems on the threads of a CPU, a problem a thread.

Two threads with a problem each are quicker than two threads in every convolution: small layers and
what lies between them use one thread anyway. On a GPU there is one worker.
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

Problem = TypeVar("Problem")
Result = TypeVar("Result")


class Cancellation:
    """Asks running work to end soon, with what it has; `cause` is why, None while it may go on."""

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

    Gradients are enabled in `function` whatever the caller's mode. Several workers are new threads,
    each with its share of the `threads` inside torch's operations; one is the caller's own thread,
    whose pool of OpenMP threads is there already (a second pool beside it makes both wait longer).
    The process's own number of threads stays as it is. What a worker tells reaches `on_event` in
    the caller's thread. An exception there, and Ctrl-C, is put into `cancellation`, which
    `function` should heed; the results are then returned as usual. An exception of `function` is
    raised when all workers have ended.
    """
    count = min(workers or threads, threads, len(problems))
    if count == 1:
        return _one_by_one(function, problems, threads, cancellation, on_event)
    told: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
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
                results[index] = function(problems[index], told.put)
        except BaseException as error:  # raised in the caller's thread
            errors.append(error)
        finally:
            told.put(None)

    before = torch.get_num_threads()
    pool = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    try:
        for thread in pool:
            thread.start()
        ready.wait()
    except BaseException as error:  # a thread that cannot start, or Ctrl-C
        cancellation.cause = error
        ready.abort()  # the others wait for it
        raise
    finally:
        _use_threads(before)  # also for threads that others start from now on
    _follow(told, count, cancellation, on_event)
    for thread in pool:
        thread.join()
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(problems))]


def _one_by_one(
    function: Callable[[Problem, Callable[[Event], None]], Result],
    problems: Sequence[Problem],
    threads: int,
    cancellation: Cancellation,
    on_event: EventCallback | None,
) -> list[Result]:
    """In the caller's thread, where Ctrl-C waits for the next step."""

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
    """Inside, the first Ctrl-C is put into `cancellation`; the second is raised as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in its main thread alone
        return
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # ignored, or not Python's to handle
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
    """In this thread. Before a thread has asked once, torch overwrites what it sets."""
    torch.get_num_threads()
    torch.set_num_threads(count)


def _follow(
    told: queue.SimpleQueue[Event | None],
    workers: int,
    cancellation: Cancellation,
    on_event: EventCallback | None,
) -> None:
    """Pass events on until all workers have ended."""
    while workers:
        try:
            event = told.get()
            if event is None:
                workers -= 1
            elif on_event is not None and not cancellation:
                on_event(event)
        except BaseException as error:
            if cancellation:  # a second Ctrl-C does not wait
                raise
            cancellation.cause = error
