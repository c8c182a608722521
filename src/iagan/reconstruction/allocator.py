"""Freed memory kept for the next step.

By default glibc gives large pieces back to the system as soon as they are freed, and every step
then takes the same pages anew: up to a fifth of its time.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
"""What `mallopt` calls them (malloc.h)."""
_KILOBYTE, _MEGABYTE = 2**10, 2**20
_KEEP = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 * _MEGABYTE))
_AS_BEFORE = (
    (_MMAP_MAX, 65536),
    (_MMAP_THRESHOLD, 32 * _MEGABYTE),
    (_TRIM_THRESHOLD, 64 * _MEGABYTE),
    (_TOP_PAD, 128 * _KILOBYTE),
)
"""glibc's own; of the thresholds, which it moves and which cannot be asked for, the largest."""
_lock = threading.Lock()
_inside = 0
"""Blocks of all threads: the allocator is the process's."""


@contextmanager
def memory_kept() -> Iterator[None]:
    """Inside, what is freed stays with the process; afterwards it goes back to the system, but for
    up to 64 MiB of every thread that took it.

    Of blocks that overlap the last one to end gives back. glibc's options that the environment set
    are glibc's own again. Where the C library is not glibc, nothing is different.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    _count(libc, 1)
    try:
        yield
    finally:
        _count(libc, -1)


def _count(libc: ctypes.CDLL, change: int) -> None:
    """One block more, or less: the first one sets the options, the last one sets them back."""
    global _inside
    with _lock:
        before, _inside = _inside, _inside + change
        if before == 0:
            _set(libc, _KEEP)
        elif _inside == 0:
            _set(libc, _AS_BEFORE)
            libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, options: tuple[tuple[int, int], ...]) -> None:
    for option, value in options:
        libc.mallopt(option, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
