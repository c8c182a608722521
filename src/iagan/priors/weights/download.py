"""Fetching a file: resumed where it broke off, checked, and never half there."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from iagan.errors import CheckpointError, FileError, OutputError
from iagan.files import locked

CHUNK = 2**18
TIMEOUT = 30.0
"""Seconds without a byte after which a server counts as gone."""

ByteCallback = Callable[[int, int], None]
"""Called with the bytes that are here and those in all (0 when the server does not say)."""


@dc.dataclass(frozen=True)
class Facts:
    """What is known of a file before it is fetched; an empty field is not known.

    - `bytes`: its length.
    - `sha256`: its SHA-256 in hexadecimal, or how that begins.
    - `git_blob`: the SHA-1 of "blob LENGTH", NUL, contents, as git names it.
    """

    bytes: int = 0
    sha256: str = ""
    git_blob: str = ""

    def disagreement(self, path: Path) -> str:
        """What of `path` is not as known, in words; empty when all of it is."""
        length = path.stat().st_size
        if self.bytes and length != self.bytes:
            return f"{self.bytes} bytes were expected; got {length}"
        checks = (
            ("SHA-256", self.sha256, hashlib.sha256()),
            ("git blob", self.git_blob, hashlib.sha1(f"blob {length}\0".encode())),
        )
        for name, expected, digest in checks:
            if not expected:
                continue
            with path.open("rb") as stream:
                while block := stream.read(CHUNK):
                    digest.update(block)
            if not digest.hexdigest().startswith(expected):
                return f"{name} {expected[:16]} was expected; got {digest.hexdigest()[:16]}"
        return ""


def download(
    address: str,
    target: Path,
    facts: Facts,
    check: Callable[[Path], object],
    on_progress: ByteCallback | None = None,
) -> None:
    """Fetch `address` to `target`, which appears only when whole and found right.

    Until then the bytes are in `target` + ".part", from whose end a second call goes on, if the
    server can. A file that is not what was expected is deleted.

    **Arguments:**
    - `facts`: what the file must be.
    - `check`: called with the whole file; what it raises refuses the file, too.

    **Raises:** `FileError` when it cannot be fetched; `CheckpointError` when it is another file;
    `OutputError` when it cannot be written.
    """
    part = target.with_name(target.name + ".part")
    with _open_alone(part) as stream:
        _fetch(address, stream, on_progress)
        wrong = facts.disagreement(part)
        if wrong:
            part.unlink()
            raise CheckpointError(
                f"{address} is not the file that is known: {wrong}. It was deleted; try again, or "
                "get the file elsewhere and give its path."
            )
        try:
            check(part)
        except FileError:
            part.unlink()
            raise
        part.replace(target)


@contextlib.contextmanager
def _open_alone(part: Path) -> Iterator[BinaryIO]:
    """`part` for appending, while no other process fetches it."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        stream = part.open("ab")
    except OSError as error:
        raise OutputError(
            f"Cannot write {part}: {error.strerror}. Set IAGAN_HOME to another folder."
        ) from error
    with stream, locked(part.with_suffix(".lock")) as held:
        if not held:
            raise FileError(
                f"Another process is fetching {part.name}. Wait for it, then try again."
            )
        yield stream


def _fetch(address: str, stream: BinaryIO, on_progress: ByteCallback | None) -> None:
    begun = stream.tell()
    try:
        with _answer(address, begun) as answer:
            total = _place(answer, stream)
            while block := answer.read(CHUNK):
                _write(stream, block)
                if on_progress is not None:
                    on_progress(stream.tell(), total)
        stream.flush()
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing
            return
        raise _unfetched(address, stream, f"{error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _unfetched(address, stream, str(reason) or type(error).__name__) from error
    if total and stream.tell() < total:
        raise _unfetched(address, stream, f"it broke off at {stream.tell()} of {total} bytes")


def _answer(address: str, begun: int) -> http.client.HTTPResponse:
    request = urllib.request.Request(address, headers={"User-Agent": "iagan"})
    if begun:
        request.add_header("Range", f"bytes={begun}-")
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def _place(answer: http.client.HTTPResponse, stream: BinaryIO) -> int:
    """Put `stream` where the answer begins; the file's length, 0 when unknown."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if answer.status == 206 and found and int(found[1]) == stream.tell():
        return int(found[2])
    stream.truncate(0)
    return int(answer.headers.get("Content-Length") or 0)


def _write(stream: BinaryIO, block: bytes) -> None:
    try:
        stream.write(block)
        stream.flush()
    except OSError as error:
        raise OutputError(
            f"Cannot write {stream.name}: {error.strerror}. Make room, or set IAGAN_HOME to "
            "another folder."
        ) from error


def _unfetched(address: str, stream: BinaryIO, reason: str) -> FileError:
    kept = f" The {stream.tell()} bytes that are here are kept." if stream.tell() else ""
    return FileError(
        f"Cannot fetch {address}: {reason}.{kept} Try again, or get the file and give its path."
    )
