"""The reference methods in their own processes, as users run them.

Threads that spin or memory retained by another contestant in the same process would distort them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

from benchmarks.reference import PlainLoop, deepinv_csgm
from iagan.observation import Observation
from iagan.priors import Generator


class OwnProcess:
    """A function that runs a number of steps of the plain loop's CSGM or IAGAN, or of deepinv."""

    def __init__(self, method: str, generator: Generator, observation: Observation) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.method = method
        task = (other, method, generator.to("cpu"), observation)  # a copy: it will be shared
        context.Process(target=_serve, args=task, daemon=True).start()
        other.close()  # a process that fails then ends the wait for it

    def __call__(self, steps: int) -> None:
        try:
            self.pipe.send(steps)
            self.pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"The process of {self.method} ended; see above.") from error


def _serve(pipe: Connection, method: str, generator: Generator, observation: Observation) -> None:
    work = _work(method, generator, observation)
    while True:
        try:
            steps = pipe.recv()
        except EOFError:  # the other process has ended
            return
        work(steps)
        pipe.send(None)


def _work(method: str, generator: Generator, observation: Observation) -> Callable[[int], object]:
    if method == "deepinv":
        return deepinv_csgm(generator, observation)
    loop = PlainLoop(generator, observation)
    return {"csgm": loop.csgm, "iagan": loop.iagan}[method]
