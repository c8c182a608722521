"""Verified, atomic downloads by pooch."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from iagan.engine.events import Event, EventCallback
from iagan.errors import CheckpointError, FileError, OutputError
from iagan.files import locked
from iagan.limits import LIMITS

CHUNK = 2**18
TIMEOUT = 30.0
"""Seconds without data after which a download fails."""


@dc.dataclass(frozen=True)
class ExpectedFile:
    """Size and hashes that a downloaded file must have; empty fields are not checked.

    - `bytes`: its size.
    - `sha256`: its SHA-256 in hexadecimal, or the first digits of it.
    - `git_blob`: SHA-1 of "blob LENGTH", NUL, contents, as in git.
    """

    bytes: int = 0
    sha256: str = ""
    git_blob: str = ""

    def mismatch(self, path: Path) -> str:
        """A description of how the file at `path` differs; empty if it matches."""
        content = path.read_bytes()
        if self.bytes and len(content) != self.bytes:
            return f"expected {self.bytes} bytes, got {len(content)}"
        blob = f"blob {len(content)}\0".encode() + content
        for name, expected, digest in (
            ("SHA-256", self.sha256, hashlib.sha256(content).hexdigest()),
            ("git blob", self.git_blob, hashlib.sha1(blob).hexdigest()),
        ):
            if not digest.startswith(expected):
                return f"expected {name} {expected[:16]}, got {digest[:16]}"
        return ""


def download(
    address: str,
    target: Path,
    expected: ExpectedFile,
    check: Callable[[Path], object],
    on_event: EventCallback | None = None,
) -> None:
    """Download `address` to `target`, which appears only once it is complete and verified.

    If another process is downloading it, wait for that process.

    **Arguments:**
    - `expected`: required size and hashes.
    - `check`: called with the complete file; an exception that it raises rejects the file.
    - `on_event`: called with an `iagan.Event` of phase `"download"` whose `step` and `total` are
      the bytes downloaded and the bytes in total (0 if unknown).

    **Raises:** `FileError` if the download fails; `CheckpointError` if the file does not match;
    `OutputError` if it cannot be written.
    """
    part = target.with_name(target.name + ".part")
    with locked(target.with_name(target.name + ".lock"), wait=True):
        if target.exists():
            return
        try:
            _fetch(address, part, expected.bytes or LIMITS.weight_bytes, on_event)
            mismatch = expected.mismatch(part)
            if mismatch:
                raise CheckpointError(
                    f"{address} is not the expected file: {mismatch}. It was deleted; try again, "
                    "or get the file elsewhere and give its path."
                )
            check(part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _fetch(address: str, part: Path, most: int, on_event: EventCallback | None) -> None:
    from pooch import HTTPDownloader  # takes 0.2 s, needed only for a download
    from requests import RequestException

    meter = _Meter(on_event) if on_event is not None else False
    file = _Bounded(part, address, most)
    try:
        with file.open():
            HTTPDownloader(meter, CHUNK, timeout=TIMEOUT)(address, file, None)
    except (RequestException, ValueError) as error:
        if file.size and not isinstance(error, RequestException):
            raise  # from on_event; before the first byte, from an invalid length
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileError(
            f"Cannot download {address}: {reason:.200}. Try again, or get the file and give its "
            "path."
        ) from error
    except OSError as error:
        raise OutputError(f"Cannot write {part}: {error.strerror}. Free disk space.") from error


class _Bounded:
    """A file of at most `most` bytes, for data from an untrusted server."""

    def __init__(self, path: Path, address: str, most: int) -> None:
        self.path, self.address, self.most = path, address, most
        self.size = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        with self.path.open("wb") as self.stream:
            yield

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.most:
            raise FileError(
                f"{self.address} sends more than the expected {self.most} bytes. Get the file "
                "elsewhere and give its path."
            )
        self.stream.write(data)

    def flush(self) -> None:
        self.stream.flush()


class _Meter:
    """The progress-bar interface that pooch expects, forwarding to a callback."""

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
