"""Zip archives of strangers, read within limits; .npz and torch files are such archives too."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

ENTRY_BYTES = 256
"""Bytes of a directory's entry, with a name of usual length."""


@contextlib.contextmanager
def open_zip(path: Path, entries: int) -> Iterator[zipfile.ZipFile]:
    """The archive, if it has at most `entries` entries, which do not overlap.

    **Raises:** `zipfile.BadZipFile` for others, and whatever `zipfile` raises for a broken one.
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
    """Refuse an archive in which another reader might find other entries than `zipfile` does.

    It must end with its directory's record, without a comment, and begin with the file.

    **Raises:** `zipfile.BadZipFile`.
    """
    file = archive.fp
    assert file is not None  # it is open
    length = file.seek(0, io.SEEK_END)
    file.seek(max(length - 98, 0))
    tail = file.read().rjust(98)
    record, locator, end = tail[:56], tail[56:76], tail[76:]
    whole = end.startswith(b"PK\5\6")
    count, _, offset = struct.unpack("<HII", end[10:20])
    if locator.startswith(b"PK\6\7"):  # of a zip64, whose numbers may be larger
        whole = whole and struct.unpack("<Q", locator[8:16])[0] == length - 98
        count, _, offset = struct.unpack("<QQQ", record[32:56])
    if not whole or count != len(archive.infolist()) or offset != archive.start_dir:
        raise zipfile.BadZipFile("its directory is not where it should be")


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """A member, to be read piece by piece.

    **Raises:** `zipfile.BadZipFile` for another compression than deflate, whose output can be
    bounded, and whatever `zipfile` raises for a broken one.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile("compressed by another method than deflate")
    return archive.open(info)


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The bytes of a member: as many as the archive declares, whatever it holds.

    **Raises:** `zipfile.BadZipFile` for another number, and what `open_member` raises.
    """
    with open_member(archive, info) as file:
        data = file.read(info.file_size)
    if len(data) != info.file_size:
        raise zipfile.BadZipFile(f"{len(data)} bytes, though it declares {info.file_size}")
    return data


class _Bounded(io.BufferedReader):
    """A file of which a single read takes at most `most` bytes: `zipfile` reads a directory whole,
    before anybody can count its entries.
    """

    most: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and self.most is not None and size > self.most:
            raise zipfile.BadZipFile(f"a directory of {size} bytes, above the limit of {self.most}")
        return super().read(size)
