"""Runs trials in a worker, which is replaced where an input hangs or kills it."""

from __future__ import annotations

import dataclasses as dc
import multiprocessing
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz.worker import PATIENCE, Outcome, Trial, saved_input, serve

START_SECONDS = 180.0
"""Most that anything but a trial may take, on a busy machine: importing, making valid files."""


@dc.dataclass
class Tally:
    """What became of the trials of one kind."""

    tried: int = 0
    refused: int = 0
    failed: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0

    def add(self, outcome: Outcome) -> None:
        self.tried += 1
        self.refused += outcome.refused
        self.failed += bool(outcome.failure)
        self.seconds += outcome.seconds
        self.slowest = max(self.slowest, outcome.seconds)
        self.memory = max(self.memory, outcome.memory)


def run(
    seed: int,
    trials: Sequence[Trial],
    folder: Path,
    failures: Path,
    tell: Callable[[Outcome], object],
    patience: float = PATIENCE,
) -> None:
    """Try them all; `tell` hears each outcome, in order.

    **Arguments:**
    - `folder`: for the input at hand.
    - `failures`: for copies of those that fail.
    - `patience`: seconds by the clock after which an input has hung.
    """
    left = list(trials)
    while left:
        done = _one_worker(seed, left, folder, failures, tell, patience)
        left = left[done:]


def _one_worker(
    seed: int,
    trials: Sequence[Trial],
    folder: Path,
    failures: Path,
    tell: Callable[[Outcome], object],
    patience: float,
) -> int:
    """How many it has tried, the one that ended it among them."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(False)
    process = context.Process(target=serve, args=(theirs, seed, trials, folder, failures, patience))
    process.start()
    theirs.close()
    done = 0
    at: Trial | None = None
    try:
        while True:
            if not ours.poll(START_SECONDS if at is None else 2 * patience):
                break
            said = ours.recv()
            if said is None:
                return done
            if isinstance(said, str):
                raise RuntimeError(said)
            if isinstance(said, Outcome):
                tell(said)
                done, at = done + 1, None
            else:
                at = said
    except EOFError:
        pass
    finally:
        process.kill()
        process.join()
    if at is None:
        raise RuntimeError(f"the worker ended before {trials[done]} of seed {seed} began")
    index, kind = at
    saved_input(folder / "input", failures, kind, seed, index)
    tell(Outcome(index, kind, False, _end(process.exitcode, folder / "trace"), patience, 0))
    return done + 1


def _end(code: int | None, trace: Path) -> str:
    text = trace.read_text(errors="replace")
    how = "hung" if "Timeout" in text else f"killed the process ({code})"
    frames = re.findall(r'File ".*?([^/"]+)", line (\d+) in (\w+)', text)[:3]
    return f"{how} at {' from '.join(f'{file}:{line} ({name})' for file, line, name in frames)}"
