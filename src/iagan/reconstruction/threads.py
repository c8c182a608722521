"""The rows of a batch shared out among a CPU's threads.

Two threads with half of the rows each are quicker than two threads in every convolution: small
layers and what lies between the layers use one thread anyway.
"""

from __future__ import annotations

import dataclasses as dc
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue
from typing import TypeAlias

import torch
from torch import Tensor

from iagan.reconstruction.optimize import Minimum, Objective, Rules, StepCallback, join, minimize
from iagan.reconstruction.rows import Variables

_News: TypeAlias = "SimpleQueue[tuple[int, int, Tensor | None]]"
"""`(part, step, objective per row)` after an evaluation; the objective is None at a part's end."""


class _StoppedError(Exception):
    """Another part failed, or the caller expects no more."""


def minimize_on_threads(
    objective: Objective,
    start: Variables,
    rules: Rules,
    rows: Tensor,
    on_step: StepCallback | None = None,
) -> Minimum:
    """`minimize`, on a CPU with parts of the rows on threads of their own; of the variables only z
    is returned.

    The results are those of one batch, and `on_step` is called from the caller's thread as there:
    for a step when all parts have taken it. An error, also one that `on_step` raises, ends all
    parts before it is raised.
    """
    threads = torch.get_num_threads()
    first = next(iter(start.values()))
    places = torch.arange(len(rows)).tensor_split(min(threads, len(rows)))
    if first.device.type != "cpu" or len(places) == 1:
        return _with_z_alone(minimize(objective, start, rules, rows, on_step))
    news: _News = SimpleQueue()
    stop = threading.Event()
    ready = threading.Barrier(len(places) + 1)

    def work(part: int) -> Minimum:
        _have_cores(threads // len(places))
        ready.wait()
        begin, end = int(places[part][0]), int(places[part][-1]) + 1

        def tell(step: int, objective: Tensor) -> None:
            if stop.is_set():
                raise _StoppedError
            news.put((part, step, objective))

        try:
            mine = {name: value[begin:end] for name, value in start.items()}
            goal = None if rules.goal is None else rules.goal[begin:end]
            its_rules = dc.replace(rules, goal=goal)
            return _with_z_alone(minimize(objective, mine, its_rules, rows[begin:end], tell))
        except BaseException:
            stop.set()
            raise
        finally:
            news.put((part, 0, None))

    with ThreadPoolExecutor(len(places)) as pool:
        try:
            parts = [pool.submit(copy_context().run, work, part) for part in range(len(places))]
            ready.wait()
            torch.set_num_threads(threads)  # for threads that others begin
            _follow(news, len(places), on_step)
        finally:
            stop.set()
            ready.abort()
    return join(_results(parts))


def _have_cores(count: int) -> None:
    """What a thread sets is its own only after it has asked for once; before, torch overwrites it
    with what any thread set last.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


def _follow(news: _News, parts: int, on_step: StepCallback | None) -> None:
    """Pass on each step that the slowest part has taken, until all have ended."""
    latest: dict[int, tuple[int, Tensor]] = {}
    at_work, told = set(range(parts)), -1
    while at_work:
        part, step, objective = news.get()
        if objective is None:
            at_work.discard(part)
        else:
            latest[part] = (step, objective)
        taken = min((latest[i][0] if i in latest else -1 for i in at_work), default=told)
        if taken > told and on_step is not None:
            on_step(taken, torch.cat([latest[i][1] for i in sorted(latest)]))
        told = max(told, taken)


def _results(parts: list[Future[Minimum]]) -> list[Minimum]:
    """Of all parts, or the error that ended them."""
    for part in parts:
        error = part.exception()
        if error is not None and not isinstance(error, _StoppedError):
            raise error
    return [part.result() for part in parts]


def _with_z_alone(found: Minimum) -> Minimum:
    """Weights of all rows would take much memory, and nobody expects them."""
    kept = {name: value for name, value in found.variables.items() if name == "z"}
    return dc.replace(found, variables=kept)
