"""Atomic writes of files and lines, locks of folders, and reading that waits for nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from iagan.errors import OutputError, shown

LOCK = ".lock"
PART_PREFIX, PART_SUFFIX = ".iagan-", ".part"
PARTS = f"{PART_PREFIX}*{PART_SUFFIX}"
"""Names of files that are being written."""
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
OLD_SECONDS = 3600
"""A part that was last written to so long ago is a dead process's."""


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write a temporary file beside `path` by `write`, then rename it to `path`.

    A crash, a full disk, a power cut or Ctrl-C leaves the previous file. Missing parent folders are
    created. A replaced file keeps its mode.

    **Raises:** `OutputError` when the folder or file cannot be written, or `path` exists and is
    not a regular file (a device, a link, a folder).
    """
    target = Path(path)
    try:
        mode = _mode_of(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own length at most: that of the target may be the longest there can be.
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=PART_PREFIX, suffix=PART_SUFFIX)
    except (OSError, ValueError) as error:
        raise _refusal(target, error) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(mode)
        Path(name).replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise _refusal(target, error) from error
    finally:
        Path(name).unlink(missing_ok=True)


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """A regular file, opened to be read.

    **Raises:** `OSError` for a pipe, device, socket or folder, none of which is opened: reading
    could wait for ever; and for a name that no file can have.
    """
    try:
        mode = Path(path).stat().st_mode
    except ValueError as error:  # a null character in the name
        raise OSError(errno.EINVAL, f"no file can have this name ({error})") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, and a regular file was expected")
    if not stat.S_ISREG(mode):
        raise OSError(
            errno.EINVAL, "it is a pipe, device or the like, and a regular file was expected"
        )
    # Not waiting, in case that a pipe has taken its place since.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NO_WAIT))


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is there; False also where nobody may look, or for an impossible name."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def append_line(path: Path, line: str) -> None:
    """Add `line` to a file, made if need be: all of it is on the disk when this returns, or none.

    **Raises:** `OutputError`.
    """
    content = (line + "\n").encode(errors="backslashreplace")
    try:
        with path.open("ab", buffering=0) as stream:
            before = stream.tell()
            written = 0
            try:
                while written < len(content):  # on a full disk a write may be short
                    written += stream.write(content[written:])
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(before)
                raise
    except OSError as error:
        raise _refusal(path, error) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """`write_atomically` for text, in UTF-8; what it cannot write is escaped, as in JSON."""
    write_atomically(path, lambda stream: stream.write(text.encode(errors="backslashreplace")))


def check_suffix(target: Path, suffix: str) -> None:
    """**Raises:** `OutputError` unless the name ends in `suffix`."""
    if suffix and target.suffix.lower() != suffix:
        raise OutputError(
            f"A file named {suffix} was expected; got {shown(target)}. Name it *{suffix}."
        )


def check_writable(path: str | os.PathLike[str], suffix: str = "") -> None:
    """Check in advance that `path` can be written and ends in `suffix`.

    Missing parent folders are created; temporary files that other processes left there more than an
    hour ago are removed.

    **Raises:** `OutputError`.
    """
    target = Path(path)
    check_suffix(target, suffix)
    try:
        _mode_of(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
        _remove_parts(target.parent.glob(PARTS), OLD_SECONDS)
    except (OSError, ValueError) as error:
        raise _refusal(target, error) from error


def check_replaceable(path: str | os.PathLike[str]) -> bool:
    """Check in advance that a file can take the place of `path`; whether there is one already.

    **Raises:** `OutputError` for a folder, device or link, and a name that no file can have.
    """
    target = Path(path)
    try:
        _mode_of(target)
        return target.exists()
    except (OSError, ValueError) as error:
        raise _refusal(target, error) from error


@contextlib.contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file `path` until the block or the process ends.

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
    """Hold the lock of `folder`, created if missing, until the block or the process ends.

    Temporary files in it are those of a dead process, then, and are removed.

    **Raises:** `OutputError` when another process holds it or it cannot be written.
    """
    with locked(folder / LOCK) as held:
        if not held:
            raise OutputError(
                f"Another process is at work in {shown(folder)}. Wait for it, stop it, or name "
                "another output."
            )
        _remove_parts(folder.rglob(PARTS))
        yield


def _refusal(target: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, NotADirectoryError | FileExistsError) and target.parent.is_file():
        reason = f"{shown(target.parent)} is a file, and a folder was expected"
    return OutputError(f"Cannot write {shown(target)}: {reason}. Choose a writable location.")


def _mode_of(target: Path) -> int:
    """The permissions that `target` has, or a new file would get.

    **Raises:** `OSError` where it is there and no regular file.
    """
    try:
        status = target.lstat()
    except FileNotFoundError:
        return 0o666 & ~_umask()
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "link, device or the like"
        raise OSError(0, f"it is a {kind}, and a regular file was expected")
    return stat.S_IMODE(status.st_mode)


def _umask() -> int:
    """Read without setting it, where the system tells: other threads make files meanwhile."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    return _UMASK


def _umask_by_setting_it() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _umask_by_setting_it()


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be flushed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_parts(parts: Iterable[Path], seconds: float = 0.0) -> None:
    """Remove those that were last written to longer ago."""
    with contextlib.suppress(OSError):
        for part in parts:
            if time.time() - part.lstat().st_mtime >= seconds:
                part.unlink()
