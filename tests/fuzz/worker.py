"""Trials, one after another, in a process that its parent may have to end."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import re
import resource
import shutil
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch

from fuzz.kinds import KINDS
from iagan.errors import IaganError
from iagan.limits import GIB, MIB

SECONDS = 5.0
"""Most processor time that an input may take."""
PATIENCE = 4 * SECONDS
"""Most time by the clock, on a machine that others use too."""
MEMORY = GIB
"""Most that it may add to the process, in bytes."""
CEILING = 3 * GIB
"""What an allocation may add before it fails, so that the machine survives."""
LONGEST = 2000
"""Characters of a message."""
_TRIM = ctypes.CDLL(None).malloc_trim


Trial = tuple[int, str]
"""Its number and kind, which with the seed tell all of it."""


class Outcome(NamedTuple):
    """`failure` is empty where the input was read or refused as it should be."""

    index: int
    kind: str
    refused: bool
    failure: str
    seconds: float
    memory: int


def kind_of(seed: int, index: int) -> str:
    """The kind of a trial, where none is asked for."""
    rng = Random(f"{seed}/{index}")
    return rng.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]


def input_of(seed: int, index: int, kind: str, folder: Path) -> Path:
    """Make the input of a trial in `folder`, which is emptied; the path that is read."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return KINDS[kind].make(Random(f"{seed}/{index}/{kind}"), folder)


def saved_input(folder: Path, failures: Path, kind: str, seed: int, index: int) -> Path:
    """A copy of the input, to be looked at."""
    target = failures / f"{kind.replace(' ', '-')}-{seed}-{index}"
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target


def serve(
    connection: Connection,
    seed: int,
    trials: Iterable[Trial],
    folder: Path,
    failures: Path,
    patience: float,
) -> None:
    """Run the trials; send each before its input is read, its `Outcome` after it, None at last.

    An input that cannot be made is a fault of the fuzzer: its traceback is sent.
    """
    with (folder / "trace").open("w") as trace, _quiet():
        faulthandler.enable(trace)
        for index, kind in trials:
            try:
                path = input_of(seed, index, kind, folder / "input")
            except Exception:
                connection.send(f"trial {index} of {kind}: {traceback.format_exc()}")
                return
            connection.send((index, kind))
            faulthandler.dump_traceback_later(patience, exit=True, file=trace)
            outcome = _tried(index, kind, path)
            faulthandler.cancel_dump_traceback_later()
            if outcome.failure:
                saved_input(folder / "input", failures, kind, seed, index)
            connection.send(outcome)
    connection.send(None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Bounded, and without what decoders in C and warnings print."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable()
    resource.setrlimit(resource.RLIMIT_DATA, (_status("VmData") + CEILING,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    yield


def _tried(index: int, kind: str, path: Path) -> Outcome:
    before, begun = _settled(), time.process_time()
    failures, refused = [], False
    for read in KINDS[kind].reads:
        try:
            read(path)
        except IaganError as error:
            refused = True
            failures.append(_fault_of(error))
        except BaseException as error:
            failures.append(f"{type(error).__name__} {_place(error)}: {str(error)[:200]!r}")
    seconds, memory = time.process_time() - begun, _status("VmHWM") - before
    if memory > MEMORY:
        failures.append(f"{memory // MIB} MiB of memory")
    if seconds > SECONDS:
        failures.append(f"{seconds:.1f} seconds")
    return Outcome(index, kind, refused, "; ".join(filter(None, failures)), seconds, memory)


def _fault_of(error: BaseException) -> str:
    """What is wrong with a refusal: its words, or that memory ran out before the limits spoke."""
    words = str(error)
    if not words.isprintable() or not 0 < len(words) < LONGEST:
        return f"a message of other than one plain line {_place(error)}: {words[:300]!r}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "can't allocate memory" in str(cause):
            return f"memory ran out {_place(cause)}"
        cause = cause.__cause__ or cause.__context__
    return ""


def _place(error: BaseException) -> str:
    """Where in iagan it was raised, and where at last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/iagan/" in frame.filename] or frames
    names = [f"{Path(f.filename).name}:{f.lineno} ({f.name})" for f in (ours[-1], frames[-1])]
    return f"at {' from '.join(dict.fromkeys(names))}"


def _settled() -> int:
    """Bytes in use, after free memory is given back and the peak so far is forgotten."""
    _TRIM(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmHWM")


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{name}:\s*(\d+)", text)
    assert found is not None
    return int(found.group(1)) * 1024
