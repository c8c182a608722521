"""Fetching a file by pooch: checked, and there whole or not at all."""

from __future__ import annotations

import dataclasses as dc
import hashlib
from collections.abc import Callable
from pathlib import Path

from iagan.engine.events import Event, EventCallback
from iagan.errors import CheckpointError, FileError, OutputError
from iagan.files import locked

CHUNK = 2**18
TIMEOUT = 30.0
"""Seconds without a byte after which a server counts as gone."""


@dc.dataclass(frozen=True)
class ExpectedFile:
    """What is known of a file before it is fetched; an empty field is not known.

    - `bytes`: its length.
    - `sha256`: its SHA-256 in hexadecimal, or how that begins.
    - `git_blob`: the SHA-1 of "blob LENGTH", NUL, contents, as git names it.
    """

    bytes: int = 0
    sha256: str = ""
    git_blob: str = ""

    def mismatch(self, path: Path) -> str:
        """How the file at `path` differs, in words; empty where it does not."""
        content = path.read_bytes()
        if self.bytes and len(content) != self.bytes:
            return f"{self.bytes} bytes were expected; got {len(content)}"
        blob = f"blob {len(content)}\0".encode() + content
        for name, expected, digest in (
            ("SHA-256", self.sha256, hashlib.sha256(content).hexdigest()),
            ("git blob", self.git_blob, hashlib.sha1(blob).hexdigest()),
        ):
            if not digest.startswith(expected):
                return f"{name} {expected[:16]} was expected; got {digest[:16]}"
        return ""


def download(
    address: str,
    target: Path,
    expected: ExpectedFile,
    check: Callable[[Path], object],
    on_event: EventCallback | None = None,
) -> None:
    """Fetch `address` to `target`, which appears only when it is whole and right.

    Where another process fetches it, wait for that one.

    **Arguments:**
    - `expected`: what the file must be.
    - `check`: called with the whole file; what it raises refuses the file, too.
    - `on_event`: called with the bytes that are here and those in all (0: unknown) as the `step`
      and `total` of an `iagan.Event` whose phase is `"download"`.

    **Raises:** `FileError` when it cannot be fetched; `CheckpointError` when it is another file;
    `OutputError` when it cannot be written.
    """
    part = target.with_name(target.name + ".part")
    with locked(target.with_name(target.name + ".lock"), wait=True):
        if target.exists():
            return
        try:
            _fetch(address, part, on_event)
            mismatch = expected.mismatch(part)
            if mismatch:
                raise CheckpointError(
                    f"{address} is not the file that is known: {mismatch}. It was deleted; try "
                    "again, or get the file elsewhere and give its path."
                )
            check(part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _fetch(address: str, part: Path, on_event: EventCallback | None) -> None:
    from pooch import HTTPDownloader  # 0.2 s, which only a download needs
    from requests import RequestException

    meter = _Meter(on_event) if on_event is not None else False
    try:
        HTTPDownloader(meter, CHUNK, timeout=TIMEOUT)(address, part, None)
    except RequestException as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileError(
            f"Cannot fetch {address}: {reason:.200}. Try again, or get the file and give its path."
        ) from error
    except OSError as error:
        raise OutputError(f"Cannot write {part}: {error.strerror}. Make room.") from error


class _Meter:
    """The part of a progress bar that pooch uses, for a callback."""

    total = 0

    def __init__(self, on_event: EventCallback) -> None:
        self.on_event, self.done = on_event, 0

    def update(self, count: int) -> None:
        self.done += count
        if self.done:
            step = min(self.done, self.total or self.done)
            self.on_event(Event("download", step, self.total))

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass
