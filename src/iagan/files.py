"""Atomic writes: a file is there whole or not at all. Locks: one process a folder."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from iagan.errors import OutputError

LOCK = ".lock"


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    A crash, a full disk or Ctrl-C leaves what was there before. Missing parent folders are made.

    **Raises:** `OutputError` when the folder or file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name}.", suffix=".part"
        )
    except OSError as error:
        raise _refusal(target, error) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        mode = 0o666 & ~_umask()
        Path(name).chmod(mode)
        Path(name).replace(target)
    except OSError as error:
        raise _refusal(target, error) from error
    finally:
        Path(name).unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """`write_atomically` for text, in UTF-8."""
    write_atomically(path, lambda stream: stream.write(text.encode()))


def check_writable(path: str | os.PathLike[str], suffix: str = "") -> None:
    """Refuse a file that could not be written, or is not named `suffix`, before any work.

    Missing parent folders are made.

    **Raises:** `OutputError`.
    """
    target = Path(path)
    if suffix and target.suffix.lower() != suffix:
        raise OutputError(f"A file named {suffix} was expected; got {target}. Name it *{suffix}.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise _refusal(target, error) from error
    if target.is_dir():
        raise OutputError(f"Cannot write {target}: it is a folder. Name a file in it.")


@contextlib.contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file `path` until the block or the process ends, however it ends.

    Yields whether it is held: False if another process, or another block here, holds it, for which
    `wait` waits.

    **Raises:** `OutputError` when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=-1 if wait else 0)
        lock.acquire()
    except Timeout:
        yield False
        return
    except OSError as error:
        raise _refusal(path, error) from error
    try:
        yield True
    finally:
        lock.release()


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if need be, until the block or the process ends, however it ends.

    **Raises:** `OutputError` when another process holds it or it cannot be written.
    """
    with locked(folder / LOCK) as held:
        if not held:
            raise OutputError(
                f"Another process is at work in {folder}. Wait for it, stop it, or name another "
                "output."
            )
        yield


def _refusal(target: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    if target.parent.is_file():
        reason = f"{target.parent} is a file, and a folder was expected"
    return OutputError(f"Cannot write {target}: {reason}. Name a place that can be written.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
