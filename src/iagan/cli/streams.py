"""The command's standard streams, whatever they are: closed, full, of any encoding, left unread."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO


class _Outlet(io.FileIO):
    """Bytes to a descriptor. After the first failure the rest is dropped; `failure` says why."""

    failure: OSError | None = None

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)

    def write(self, data, /):  # type: ignore[no-untyped-def]  # any buffer
        """All or part of `data`, as a raw stream does."""
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return len(data)


class Streams:
    """What became of standard output."""

    def __init__(self, outlet: _Outlet | None) -> None:
        self._outlet = outlet

    def lost(self) -> str:
        """Why lines were lost, in words; empty where none were, or where their reader had enough.

        A reader that leaves, as `head -1` does, is no failure.
        """
        sys.stdout.flush()
        failure = self._outlet.failure if self._outlet is not None else None
        if failure is None or failure.errno == errno.EPIPE:
            return ""
        return failure.strerror or type(failure).__name__


@contextlib.contextmanager
def lasting_streams() -> Iterator[Streams]:
    """A block in which nothing that is printed can end the work.

    A closed stream leads nowhere, and no file that is opened later can take its place. A character
    that an encoding lacks is escaped. Lines that cannot be written are dropped.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, outlet = _lasting(sys.stdout, 1)
    sys.stderr, _ = _lasting(sys.stderr, 2)
    try:
        yield Streams(outlet)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free


def _lasting(stream: TextIO | None, descriptor: int) -> tuple[TextIO, _Outlet | None]:
    """The stream as one that never raises. Those of a notebook, a test or Windows's console do not
    need it.
    """
    encoding, buffering = "utf-8", False
    if stream is not None:
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)  # python -u has no buffer between them
        if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO:
            return stream, None
        stream.flush()
        encoding, buffering = stream.encoding, stream.line_buffering or raw is buffer
        descriptor = stream.fileno()
    outlet = _Outlet(descriptor)
    text = io.TextIOWrapper(
        io.BufferedWriter(outlet), encoding, "backslashreplace", line_buffering=buffering
    )
    return text, outlet
