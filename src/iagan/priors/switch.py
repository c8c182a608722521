"""Switches that are on inside a `with` block, in its thread and those that copy its context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


@contextmanager
def switched_on(switch: ContextVar[bool]) -> Iterator[None]:
    """Inside, `switch.get()` is True."""
    token = switch.set(True)
    try:
        yield
    finally:
        switch.reset(token)
