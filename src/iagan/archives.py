"""Reading of untrusted zip archives within limits; .npz and torch files are zip archives too."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

ENTRY_BYTES = 256
"""Bytes of a directory entry with a name of typical length."""


@contextlib.contextmanager
def open_zip(path: Path, entries: int) -> Iterator[zipfile.ZipFile]:
    """Open an archive of at most `entries` entries that do not overlap.

    **Raises:** `zipfile.BadZipFile` for any other, and the exceptions of `zipfile` for a damaged
    one.
    """
    with _Bounded(io.FileIO(path)) as file:
        file.most = ENTRY_BYTES * (entries + 256)
        with zipfile.ZipFile(file) as archive:
            file.most = None
            infos = archive.infolist()
            if len(infos) > entries:
                raise zipfile.BadZipFile(f"{len(infos)} entries, above the limit of {entries}")
            if sum(info.compress_size for info in infos) > path.stat().st_size:
                raise zipfile.BadZipFile("its entries overlap")
            yield archive


def check_directory(archive: zipfile.ZipFile) -> None:
    """Refuse an archive in which another reader might find other entries than `zipfile`.

    The file must begin with the archive and end with its end-of-directory record, without comment.

    **Raises:** `zipfile.BadZipFile`.
    """
    file = archive.fp
    assert file is not None  # it is open
    length = file.seek(0, io.SEEK_END)
    file.seek(max(length - 98, 0))
    tail = file.read().rjust(98)
    record, locator, end = tail[:56], tail[56:76], tail[76:]
    valid = end.startswith(b"PK\5\6")
    count, _, offset = struct.unpack("<HII", end[10:20])
    if locator.startswith(b"PK\6\7"):  # zip64, with larger numbers
        valid = valid and struct.unpack("<Q", locator[8:16])[0] == length - 98
        count, _, offset = struct.unpack("<QQQ", record[32:56])
    if not valid or count != len(archive.infolist()) or offset != archive.start_dir:
        raise zipfile.BadZipFile("its directory is not at the end")


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """Open a member for reading in pieces.

    **Raises:** `zipfile.BadZipFile` for compression other than deflate, whose output can be
    bounded, and the exceptions of `zipfile` for a damaged member.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile("compressed by a method other than deflate")
    return archive.open(info)


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of a member; no more are read than the archive declares.

    **Raises:** `zipfile.BadZipFile` if there are fewer or more, and the errors of `open_member`.
    """
    with open_member(archive, info) as file:
        data = file.read(info.file_size)
    if len(data) != info.file_size:
        raise zipfile.BadZipFile(f"{len(data)} bytes instead of the declared {info.file_size}")
    return data


class _Bounded(io.BufferedReader):
    """A file with at most `most` bytes per read, because `zipfile` reads the whole directory before
    its entries can be counted.
    """

    most: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and self.most is not None and size > self.most:
            raise zipfile.BadZipFile(f"a directory of {size} bytes, above the limit of {self.most}")
        return super().read(size)
