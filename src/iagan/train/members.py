"""The image files in a folder, .tar or .zip, read one at a time and within limits."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image as Pillow

from iagan.archives import open_zip, read_member
from iagan.decode import FORMATS
from iagan.errors import ImageFileError, shown
from iagan.images import SUFFIXES
from iagan.limits import LIMITS, MIB, Limits

HEADER_BYTES = MIB
"""Maximum size of one header of a .tar; a long name takes a few hundred bytes."""
_COMPRESSED: dict[bytes, type[gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


class Member(NamedTuple):
    """One image file: its name, and its bytes or the reason why it could not be read.

    - `pixels`: number of pixels declared by its header; 0 if unreadable.
    """

    name: str
    data: bytes = b""
    pixels: int = 0
    problem: str = ""


def members(source: Path, limits: Limits = LIMITS) -> Iterator[Member]:
    """The image files of `source`, sorted by name in a folder and otherwise in archive order.

    Folders, links, devices, hidden files and other suffixes are skipped. A folder or file that
    cannot be read, or exceeds `member_bytes` or `pixels`, is returned with its `problem`.

    **Raises:** `ImageFileError` if `source` is missing, damaged, not a folder, .tar or .zip, or
    holds more than `entries` files.
    """
    try:
        if source.is_dir():
            yield from _in_folder(source, limits)
        elif source.is_file() and zipfile.is_zipfile(source):
            yield from _in_zip(source, limits)
        elif source.is_file() and _is_tar(source):
            yield from _in_tar(source, limits)
        else:
            what = "is something else" if source.exists() else "does not exist"
            raise ImageFileError(
                f"Training expects a folder, .tar or .zip of images; {source} {what}. "
                "Check the path."
            )
    except ImageFileError:
        raise
    except Exception as error:  # archive readers may raise anything
        reason = shown(error) or type(error).__name__
        raise ImageFileError(f"Cannot read {source}: {reason}. Copy or pack it again.") from error


def _member(name: str, size: int, read: Callable[[], bytes], limits: Limits) -> Member:
    """A member with the bytes returned by `read`, called only if `size` is within limits."""
    name = shown(name)
    if size > limits.member_bytes:
        return Member(name, problem=f"{size} bytes, above the limit of {limits.member_bytes}")
    try:
        data = read()
    except Exception as error:  # as above; the others can still be read
        return Member(name, problem=shown(error) or type(error).__name__)
    pixels = _declared_pixels(data)
    if pixels > limits.pixels:
        return Member(name, problem=f"{pixels} pixels, above the limit of {limits.pixels}")
    return Member(name, data, pixels)


def _declared_pixels(data: bytes) -> int:
    """Number of pixels that an image file declares, without decoding it; 0 if unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(io.BytesIO(data), formats=FORMATS) as picture:
                return picture.size[0] * picture.size[1]
    except Pillow.DecompressionBombError:
        return sys.maxsize
    except Exception:  # Pillow may raise anything for a damaged file; decoding reports why
        return 0


def _wanted(name: str) -> bool:
    file = Path(name)
    hidden = file.name.startswith(".")  # such as ._x.jpg, created by macOS
    return file.suffix.lower() in SUFFIXES and not hidden


def _check_entries(count: int, limits: Limits) -> None:
    if count > limits.entries:
        raise ImageFileError(
            f"Training expects at most {limits.entries} files in a folder or archive; got more. "
            "Split it, or raise Limits.entries."
        )


def _in_folder(folder: Path, limits: Limits) -> Iterator[Member]:
    unreadable: list[OSError] = []
    paths: list[Path] = []
    for parent, _, names in os.walk(folder, onerror=unreadable.append):
        paths += [Path(parent, name) for name in names if _wanted(name)]
        _check_entries(len(paths), limits)
    for error in unreadable:
        place = os.path.relpath(error.filename, folder)
        yield Member(shown(place), problem=f"the folder cannot be read: {error.strerror}")
    for path in sorted(paths):
        if path.is_file() and not path.is_symlink() and path.stat().st_size > 0:
            name = str(path.relative_to(folder))
            yield _member(name, path.stat().st_size, path.read_bytes, limits)


def _in_zip(path: Path, limits: Limits) -> Iterator[Member]:
    with open_zip(path, limits.entries) as archive:
        for info in archive.infolist():
            if _wanted(info.filename) and not info.is_dir() and info.file_size > 0:
                yield _member(
                    info.filename,
                    info.file_size,
                    lambda info=info: read_member(archive, info),  # type: ignore[misc]
                    limits,
                )


class _Bounded(io.BufferedIOBase):
    """A file with at most `most` bytes per read.

    `tarfile` reads a header as large as the archive says it is.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self.file, self.most = file, HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.most:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def _open_tar(path: Path) -> io.BufferedIOBase:
    """The bytes of a .tar, decompressed if need be."""
    with path.open("rb") as file:
        head = file.read(6)
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            return kind(path)
    return path.open("rb")


def _is_tar(path: Path) -> bool:
    """Whether it begins as one; a compressed file is taken for one."""
    with _open_tar(path) as file:
        try:
            if isinstance(file, io.BufferedReader):
                tarfile.open(fileobj=_Bounded(file), mode="r:").close()
        except tarfile.TarError:
            return False
    return True


def _in_tar(path: Path, limits: Limits) -> Iterator[Member]:
    with _open_tar(path) as file:
        bounded = _Bounded(file)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            count, end = 0, -1
            while (info := archive.next()) is not None:
                count += 1
                _check_entries(count, limits)
                if archive.offset <= end:  # a negative size leads back, for ever
                    raise tarfile.ReadError("a member of negative size")
                end = archive.offset
                archive.members.clear()  # type: ignore[attr-defined]  # it would grow
                if info.isreg() and _wanted(info.name) and info.size > 0:
                    bounded.most = limits.member_bytes
                    yield _member(info.name, info.size, lambda i=info: _read(archive, i), limits)  # type: ignore[misc]
                    bounded.most = HEADER_BYTES


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    assert file is not None  # a regular member
    data = file.read(info.size)
    if len(data) < info.size:
        raise tarfile.ReadError("unexpected end of data")
    return data
