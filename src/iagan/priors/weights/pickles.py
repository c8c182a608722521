"""Static checks of pickles, without running them.

A pickle is a program. Before it is passed to an unpickler, its instructions are counted and traced
here with stand-ins for values: a few bytes can request gigabytes of memory, or the hash of a key
whose shared parts make hashing take forever.
"""

from __future__ import annotations

import pickletools
from typing import IO, Protocol, cast, runtime_checkable

from iagan.errors import CheckpointError
from iagan.limits import Limits

OPCODES_PER_TENSOR = 50
"""Maximum instructions per tensor; torch writes about 30, NVIDIA's networks about 40."""
MOST_PARTS = 200
"""Maximum parts of a tuple, including nested ones; a tensor's arguments have about 20."""
_KEY, _OTHER = 0, 1
"""Stand-ins for values, as numbers of parts: `_KEY` for those allowed as keys (text, bytes, small
integers), `_OTHER` for all others."""
_MARK = -1

_PLAIN = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2"}
_INTEGERS = {"INT", "LONG", "LONG1", "LONG4"}
_TEXTS = ("STRING", "UNICODE", "BYTES")
_PUT, _GET = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@runtime_checkable
class Readable(Protocol):
    """The interface of files required by `pickletools`."""

    def read(self, size: int = ..., /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


def check_pickle(stream: Readable, limits: Limits) -> None:
    """Refuse a pickle that would hang or exhaust the memory; leaves `stream` at its end.

    Instructions and memo are limited to 50 entries for each of `limits.tensors`, keys must be text
    or small integers, and tuples may have at most 200 parts.

    **Raises:** `CheckpointError`, and any exception of `pickletools` for a damaged pickle.
    """
    _Program(OPCODES_PER_TENSOR * limits.tensors).follow(stream)


class _Program:
    def __init__(self, most: int) -> None:
        self.most = most
        self.stack: list[int] = []
        self.memo: dict[int, int] = {}

    def follow(self, stream: Readable) -> None:
        for count, (opcode, argument, _) in enumerate(
            pickletools.genops(cast("IO[bytes]", stream))
        ):
            if count >= self.most:
                raise CheckpointError(f"its pickle has more than {self.most} instructions")
            self.step(opcode, argument)

    def step(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        name, stack = opcode.name, self.stack
        if name in _PUT or name == "MEMOIZE":
            index = argument if isinstance(argument, int) else len(self.memo)
            if index >= self.most:
                raise CheckpointError(f"its pickle has a memo index of {index}")
            self.memo[index] = stack[-1]
        elif name in _GET:
            assert isinstance(argument, int)
            stack.append(self.memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in _INTEGERS:
            assert isinstance(argument, int)
            if abs(argument) >= 2**80:  # torch's magic number has 77 bits
                raise CheckpointError("its pickle has an integer of more than 80 bits")
            stack.append(_KEY if abs(argument) < 2**31 else _OTHER)
        elif name in _PLAIN or any(text in name for text in _TEXTS):
            stack.append(_KEY)
        elif name in _TUPLES or name in ("TUPLE", "FROZENSET"):
            parts = self.pop(_TUPLES[name]) if name in _TUPLES else self.pop_to_mark()
            stack.append(_tuple_parts(parts))
        else:
            self.container(opcode)

    def container(self, opcode: pickletools.OpcodeInfo) -> None:
        """Trace an instruction that fills a dict or set, or any other, by its stack effect."""
        to_mark = pickletools.markobject in opcode.stack_before
        if to_mark:
            parts = self.pop_to_mark()
            self.pop(opcode.stack_before.index(pickletools.markobject))
        else:
            parts = self.pop(len(opcode.stack_before))
        keys = {
            "SETITEM": parts[1:2],
            "SETITEMS": parts[::2],
            "DICT": parts[::2],
            "ADDITEMS": parts,
        }.get(opcode.name, [])
        if any(key != _KEY for key in keys):
            raise CheckpointError("its pickle has a key that is not text")
        marks = [kind is pickletools.markobject for kind in opcode.stack_after]
        self.stack += [_MARK if mark else _OTHER for mark in marks]

    def pop(self, count: int) -> list[int]:
        if count > len(self.stack):
            raise CheckpointError("its pickle takes more values than there are")
        parts = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return parts

    def pop_to_mark(self) -> list[int]:
        parts: list[int] = []
        while self.stack:
            part = self.stack.pop()
            if part == _MARK:
                return parts[::-1]
            parts.append(part)
        raise CheckpointError("its pickle takes more values than there are")


def _tuple_parts(parts: list[int]) -> int:
    """Number of parts of a tuple, given those of its items."""
    total = 1 + sum(max(part, 1) for part in parts)
    if total > MOST_PARTS:
        raise CheckpointError(f"its pickle has a tuple of more than {MOST_PARTS} parts")
    return total
