"""Damage to valid files: of any bytes, and of formats whose checks bytes alone never pass."""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any

NUMBERS = (0, 1, 2**7, 2**15, 2**16 - 1, 2**20, 2**30, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (
    *(struct.pack(order + "I", number) for order in "<>" for number in NUMBERS),
    *(struct.pack("<Q", number) for number in (2**40, 2**62, 2**63, 2**64 - 1)),
    *(struct.pack("<f", number) for number in (float("nan"), float("inf"), -1, 1e-40, 3e38)),
    *(struct.pack("<H", number) for number in (0, 1, 2**15, 2**16 - 1)),
)


def damaged(rng: Random, data: bytes, others: Sequence[bytes] = (), head: int = 0) -> bytes:
    """Bits flipped, bytes replaced, cut, spliced, inserted, repeated, or lengths made absurd.

    **Arguments:**
    - `others`: whose ends may replace this one's.
    - `head`: number of first bytes that are damaged more often than others; 0: all alike.
    """
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        length = len(changed)
        if length < 2:
            break
        at = rng.randrange(min(length, head) if head and rng.random() < 0.7 else length)
        kind = rng.randrange(8)
        if kind == 0:
            for _ in range(rng.choice([1, 2, 4, 16])):
                changed[rng.randrange(at, length)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            some = changed[at : at + rng.choice([1, 2, 8, 32])]
            changed[at : at + len(some)] = rng.randbytes(len(some))
        elif kind == 2:
            del changed[at:]
        elif kind == 3 and others:
            other = rng.choice(others)
            changed[at:] = other[rng.randrange(len(other) + 1) :]
        elif kind == 4:
            changed[at:at] = rng.randbytes(rng.choice([1, 2, 4, 64]))
        elif kind == 5:
            del changed[at : at + rng.choice([1, 2, 4, 64, 1000])]
        elif kind == 6:
            changed[at:at] = changed[at : at + rng.choice([4, 64, 500])] * rng.choice([1, 2, 10])
        else:
            word = rng.choice(WORDS)
            changed[at : at + len(word)] = word
    return bytes(changed)


# -- JSON -------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 8, 64, 255, 1e-320, 1e-12, 0.5, -0.0, 1e12, 1e300),
    *(float("nan"), float("inf"), -float("inf"), 2**31, 2**53, 2**63, 2**64, 10**400, -(10**400)),
    *("", "a", "0", "1e400", "\x1b]0;x\x07", "a\nb", "\x00", "\ud800", "é" * 500, "../x", "random"),
    *([], {}, [0], [[]], [None], [1, 2], [1, 2, 3], [3, 8, 8], [[1.0, 2.0]] * 2, ["1", 2], [0] * 9),
    *({"a": 1}, {"shape": [2, 2], "bits": "8A=="}, {"shape": [8192, 8192], "float64": ""}),
    *([10**9, 10**9], {"operator": "denoise", "image_shape": [3, 8, 8]}, {"method": "csgm"}),
)
TEXTS = ("", "null", "[]", "{", "[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, "1e999", "NaN")


def odd_json(rng: Random, value: Any) -> Any:
    """The value with some of its parts replaced, left out, repeated, nested or exchanged."""
    root = [copy.deepcopy(value)]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(_places(root))
        holder, key = rng.choice(places)
        kind = rng.randrange(9)
        if kind <= 2:
            holder[key] = copy.deepcopy(rng.choice(ODD))
        elif kind == 3 and holder is not root:
            del holder[key]
        elif kind == 4 and isinstance(holder, dict):
            holder[rng.choice(["x", "", "operator", "shape", "\x1b[0m\n"])] = holder[key]
        elif kind == 5:
            other, name = rng.choice(places)
            holder[key] = copy.deepcopy(other[name])
        else:
            holder[key] = _changed_number(rng, holder[key])
    return root[0]


def odd_text(rng: Random, value: Any) -> str:
    """JSON of `odd_json`; now and then of something else, or damaged as text."""
    chance = rng.random()
    if chance < 0.03:
        return rng.choice(TEXTS)
    if chance < 0.15:
        return damaged(rng, json.dumps(value).encode()).decode("latin1")
    return json.dumps(odd_json(rng, value))


def _places(holder: Any) -> Any:
    keys = holder if isinstance(holder, dict) else range(len(holder))
    for key in list(keys):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])


def _changed_number(rng: Random, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [value]
    return rng.choice(
        [
            value + 1,
            value - 1,
            2 * value,
            -value,
            value * 1000,
            value * 10**9,
            value // 3 if isinstance(value, int) else value / 3,
            str(value),
        ]
    )


# -- containers -------------------------------------------------------------------------------

SHAPES = ("()", "(0,)", "(-1,)", "(4, True)", "(99999999999999999999,)", "(65536, 65536)", "(2.5,)")
DTYPES = (
    "<f2",
    ">f8",
    "|b1",
    "|O",
    "<U1",
    "<c8",
    "<c16",
    "|S0",
    "<m8[s]",
    "<f16",
    "|V8",
    "x",
    "<i8",
)


def odd_npy(rng: Random, data: bytes) -> bytes:
    """A .npy with another header over its values, or damaged as bytes."""
    if rng.random() < 0.4:
        return damaged(rng, data, head=128)
    length = struct.unpack("<H", data[8:10])[0]
    header, values = data[10 : 10 + length].decode("latin1"), data[10 + length :]
    kind = rng.randrange(6)
    if kind == 0:
        header = header.replace("(", rng.choice(["(" * 50, "-" * 50 + "(", "[(", "  ("]), 1)
    elif kind == 1:
        first, last = header.index("("), header.index(")")
        header = header[:first] + rng.choice(SHAPES) + header[last + 1 :]
    elif kind == 2:
        first = header.index("'descr': '") + 10
        header = header[:first] + rng.choice(DTYPES) + header[header.index("'", first) :]
    elif kind == 3:
        header = header.replace("False", rng.choice(["True", "None", "3", "[]"]))
    elif kind == 4:
        header = rng.choice(["{}", "-" * 3000 + "1", "[" * 3000, "  x\n y\n", "(" * 50, "{" * 9])
    else:
        header = damaged(rng, header.encode()).decode("latin1")
    head = header.encode("latin1", "replace")[:65000]
    version = rng.choice([1, 1, 1, 2, 3])
    size = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes((version, 0)) + size + head + values


METHODS = (zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED,) * 3 + (zipfile.ZIP_BZIP2, 14)


def zipped(rng: Random, members: Sequence[tuple[str, bytes]], damage: float = 0.3) -> bytes:
    """An archive of these members, often with a lie in its directory, or damaged as bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice(METHODS)) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = archive.compression
            archive.writestr(info, data)
    data = bytearray(stream.getvalue())
    if rng.random() >= damage:
        return bytes(data)
    entry = data.rfind(b"PK\1\2")
    if entry >= 0 and rng.random() < 0.5:  # compression, sizes, length of the name, place
        at = entry + rng.choice([10, 20, 24, 28, 30, 42])
        data[at : at + 4] = struct.pack("<I", rng.choice(NUMBERS))
        return bytes(data)
    return damaged(rng, bytes(data))


def unzipped(data: bytes) -> list[tuple[str, bytes]]:
    """The members of a valid archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def odd_png(rng: Random, data: bytes) -> bytes:
    """A PNG with a chunk changed, left out, repeated or moved, and its checksums right."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    index = rng.randrange(len(chunks))
    kind, body = chunks[index]
    choice = rng.randrange(5)
    if choice == 0:
        chunks[index] = (kind, damaged(rng, body))
    elif choice == 1:
        del chunks[index]
    elif choice == 2:
        chunks.insert(rng.randrange(len(chunks)), (kind, body))
    elif choice == 3:
        extra = rng.choice([b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"eXIf", b"zTXt", b"iTXt", b"acTL"])
        chunks.insert(1, (extra, rng.randbytes(rng.choice([0, 1, 6, 300, 768]))))
    else:
        head = bytearray(chunks[0][1])
        field = rng.randrange(len(head) - 3)
        head[field : field + 4] = struct.pack(">I", rng.choice([0, 1, 8, 10**4, 7000, 2**31 - 1]))
        chunks[0] = (b"IHDR", bytes(head))
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def safetensors_parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and values of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def safetensors_of(header: str, values: bytes) -> bytes:
    """The inverse, of a header that need not be one."""
    text = header.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + values
