"""One process a run: two that write the same checkpoints would undo each other's steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from iagan.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows has no flock; there the user sees to it
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if need be, until the block or the process ends, however it ends.

    **Raises:** `OutputError` when another process holds it or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise OutputError(
            f"Cannot write {folder}: {error.strerror}. Name a place that can be written."
        ) from error
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(
                f"Another process is training in {folder}. Wait for it, stop it, or name another "
                "output."
            ) from None
        yield
