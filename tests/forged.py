"""Files as a stranger would write them: right in form, wrong in what they say."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path


def put(name, data):
    """Write a file; its whole path."""
    Path(name).write_bytes(data)
    return Path(name).resolve()


def png(ihdr, *chunks):
    """A PNG of any header and chunks, with right checksums."""

    def chunk(kind, body):
        size, check = struct.pack(">I", len(body)), struct.pack(">I", zlib.crc32(kind + body))
        return size + kind + body + check

    parts = (b"IHDR", struct.pack(">IIBBBBB", *ihdr)), *chunks, (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def npy(header, version=1):
    """The head of a .npy, with any text."""
    body = header.encode().ljust(117) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(body))
    return b"\x93NUMPY" + bytes((version, 0)) + length + body


def zipped(members, method=zipfile.ZIP_STORED, damage=()):
    """A zip archive of members, by name or in pairs, with zeros at the damaged places."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in dict(members).items():
            archive.writestr(name, data)
    data = bytearray(stream.getvalue())
    for place in damage:
        data[place] = 0
    return bytes(data)


def tarred(files, mode="w"):
    """A .tar of (name, content), compressed as `mode` says."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()
