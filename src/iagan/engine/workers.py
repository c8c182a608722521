"""Independent problems on the threads of a CPU, one problem a thread.

Two threads with a problem each are quicker than two threads in every convolution: small layers and
what lies between them use one thread anyway. On a GPU there is one worker.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
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

    `function` runs in new threads, where gradients are enabled whatever the caller's mode, and each
    uses its share of the `threads` inside torch's operations. The process's own number of threads
    stays as it is. What a worker tells reaches `on_event` in the caller's thread. An exception
    there, such as Ctrl-C, is put into `cancellation`, which `function` should heed; the results are
    then returned as usual. An exception of `function` is raised when all workers have ended.
    """
    count = min(workers or threads, threads, len(problems))
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
    for thread in pool:
        thread.start()
    ready.wait()
    _use_threads(before)  # also for threads that others start from now on
    _follow(told, count, cancellation, on_event)
    for thread in pool:
        thread.join()
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(problems))]


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
