"""Run a function in a separate process with limits on memory and time."""

from __future__ import annotations

import logging
import math
import multiprocessing
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch

from iagan.engine.memory import is_out_of_memory
from iagan.errors import IaganError, LimitError, SettingError, shown
from iagan.limits import GIB

READERS = ["iagan.isolation", "iagan.images", "iagan.observation_file", "iagan.priors"]
"""Modules that the fork server imports once, together with PyTorch."""
START_SECONDS = 120.0
"""Maximum time to start a process, including all imports."""
LIMIT_SIGNALS = ("SIGKILL", "SIGABRT", "SIGXCPU")
"""Signals that end a process short of memory or time: by the kernel, C++ or Rust."""

Result = TypeVar("Result")
Note = tuple[int, str]

logger = logging.getLogger("iagan")


def isolated(
    function: Callable[..., Result],
    *arguments: Any,
    memory: int | None = 2 * GIB,
    seconds: float = 60.0,
) -> Result:
    """Call `function(*arguments)` in a separate process with limits on memory and time.

    For untrusted files, for example in a web server: `isolated(iagan.load_image, path)`, or with
    keywords `isolated(functools.partial(iagan.load_prior, limits=limits), path)`. The first call
    takes seconds, to import PyTorch; each later one 50 ms, plus copying the result. In a script,
    call it below `if __name__ == "__main__":`.

    It protects against files that hang or exhaust the memory. It is not a sandbox: the process has
    the same permissions as this one, and its result is unpickled here. The loaders of iagan run no
    code in files; to protect against vulnerabilities of image decoders, run the whole program in a
    container.

    **Arguments:**
    - `function`: a module-level function, not a lambda; it, `arguments` and the result must be
      picklable.
    - `memory`: bytes that it may allocate in addition to those of the libraries; reading an image
      takes 15 per pixel, and returning a result three times its size. Supported on Linux only;
      None: no limit.
    - `seconds`: limit on wall-clock time and on CPU time, from the call of `function`, which has a
      single PyTorch thread.

    **Raises:** any `IaganError` of the function; `LimitError` if it exceeds a limit; `IaganError`
    for other exceptions and if the process dies; `SettingError` for arguments out of range, or
    `memory` on another system.
    """
    _check_limits(memory, seconds)
    name = getattr(function, "__qualname__", type(function).__name__)
    try:
        job = pickle.dumps((function, arguments))
    except Exception as error:
        raise SettingError(
            "isolated expects a module-level function and picklable arguments; got "
            f"{shown(function, 80)}: {shown(error)}."
        ) from error
    context = _context()
    ours, theirs = context.Pipe()
    process: BaseProcess = context.Process(target=_serve, args=(theirs, job, memory, seconds))  # type: ignore[attr-defined]
    with ours:
        try:
            with theirs:
                process.start()
        except (
            Exception
        ) as error:  # out of resources; or in a daemonic process, which cannot have children
            raise IaganError(f"isolated cannot start a process: {shown(error)}.") from error
        try:
            return _answer(process, ours, name, memory, seconds)
        finally:
            process.kill()
            process.join()
            process.close()


def _check_limits(memory: int | None, seconds: float) -> None:
    if memory is not None and (type(memory) is not int or memory < 1):
        raise SettingError(f"isolated expects memory as bytes, or None; got {memory!r:.80}.")
    if memory is not None and sys.platform != "linux":
        raise SettingError(
            f"isolated limits memory on Linux only; this is {sys.platform}. Pass memory=None, and "
            "limit it by other means."
        )
    if type(seconds) not in (int, float) or not 0 < seconds <= threading.TIMEOUT_MAX:
        raise SettingError(f"isolated expects seconds above 0; got {seconds!r:.80}.")


def _context() -> BaseContext:
    """A fork server or spawned processes, as PyTorch's threads hang in a fork of this process."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(READERS)
    return context


def _answer(
    process: BaseProcess, ours: Connection, name: str, memory: int | None, seconds: float
) -> Any:
    """The result sent by the process, which is killed after the time limit in any case."""
    if _received(process, ours, START_SECONDS) is None:
        raise IaganError(
            f"isolated could not start {name}: its process {_end(process)}. In a script, call it "
            "below if __name__ == '__main__', with an importable function."
        )
    begun = time.monotonic()
    answer = _received(process, ours, seconds)
    if answer is None:
        if time.monotonic() - begun >= seconds:
            raise LimitError(
                f"{name} took more than {seconds:g} seconds, the limit of isolated. Raise it, or "
                "use another file."
            )
        end = _end(process)
        if end.endswith(LIMIT_SIGNALS):
            raise _shortage(name, memory, f"its process {end}")
        raise IaganError(f"{name} returned no result: its process {end}. Use another file.")
    try:
        value, error, notes = pickle.loads(answer)
    except Exception as broken:
        raise IaganError(f"{name}'s result cannot be unpickled: {shown(broken)}.") from broken
    for level, message in notes:
        logger.log(level, "%s", message)
    if error is not None:
        raise error
    return value


def _received(process: BaseProcess, ours: Connection, seconds: float) -> bytes | None:
    """The next message; None if the process ends without one, at the latest after `seconds`."""
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        return ours.recv_bytes()
    except (EOFError, OSError):
        return None
    finally:
        timer.cancel()


def _end(process: BaseProcess) -> str:
    process.join(1)
    code = process.exitcode
    return f"ended with {signal.Signals(-code).name if code and code < 0 else f'code {code}'}"


def _shortage(name: str, memory: int | None, how: str) -> LimitError:
    limit = "the system's" if memory is None else f"{memory} bytes"
    return LimitError(
        f"{name} exceeded its memory, {limit}, or its CPU time ({how}). Raise the limits of "
        "isolated, or use another file."
    )


# -- in the process ---------------------------------------------------------------------------


class _Notes(logging.Handler):
    """Stores log messages to send to the calling process."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Note] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.levelno, record.getMessage()))


def _serve(theirs: Connection, job: bytes, memory: int | None, seconds: float) -> None:
    """Run a pickled function and send `(result, error, notes)`, after an empty message."""
    notes = _Notes()
    logger.addHandler(notes)
    logger.propagate = False
    name = "The function"
    try:
        function, arguments = pickle.loads(job)
        name = getattr(function, "__qualname__", type(function).__name__)
        torch.set_num_threads(1)
        _limit(memory, seconds)
        theirs.send_bytes(b"")
        answer = pickle.dumps((function(*arguments), None, notes.kept))
    except BaseException as error:
        answer = _pickled_error(error, name, memory, notes.kept)
    theirs.send_bytes(answer)


def _limit(memory: int | None, seconds: float) -> None:
    """Limit this process to this much more memory and CPU time than it has used so far."""
    if sys.platform == "win32":
        return
    import resource

    def lower(kind: int, most: int) -> None:
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, hard))

    lower(resource.RLIMIT_CORE, 0)
    used = resource.getrusage(resource.RUSAGE_SELF)
    lower(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + seconds))
    if memory is not None:
        # RLIMIT_DATA counts private writable memory, not mapped files or reserved address space.
        status = Path("/proc/self/status").read_text().split("VmData:")[1]
        lower(resource.RLIMIT_DATA, int(status.split()[0]) * 1024 + memory)


def _pickled_error(error: BaseException, name: str, memory: int | None, notes: list[Note]) -> bytes:
    if any(map(_is_shortage, _chain(error))):
        error = _shortage(name, memory, "an allocation failed")
    elif not isinstance(error, IaganError):
        error = IaganError(f"{name} raised {type(error).__name__}: {shown(error)}.")
    try:
        return pickle.dumps((None, error, notes))
    except Exception:  # for example with a partial result that is not picklable: keep the message
        return pickle.dumps((None, IaganError(str(error)), notes))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_shortage(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and is_out_of_memory(error)
    )
