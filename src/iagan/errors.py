"""Every error that iagan raises on purpose.

    IaganError
    ├── ShapeError              a tensor has not the shape that the operator or generator expects
    ├── SettingError            an option lies outside its range, or options contradict each other
    ├── FileError               a file cannot be used
    │   ├── ImageFileError          not an image, truncated, too large, a mask that does not fit
    │   ├── ObservationFileError    an .npz that is not an iagan observation
    │   ├── CheckpointError         unknown layout, truncated, or it would run code
    │   └── OutputError             a place that cannot be written
    ├── MissingDependencyError  an optional package or backbone is not installed
    └── Cancelled               work was ended before its end; it holds what there is so far
        └── Interrupted             by Ctrl-C: a KeyboardInterrupt too

A message is one line: who speaks, what was expected, what was got, what to do. The library raises
these; the command line alone turns them into that line and exit code 2.
"""

from __future__ import annotations

from typing import Any


class IaganError(Exception):
    """Base of every error that iagan raises on purpose."""


class ShapeError(IaganError, ValueError):
    """A tensor has not the shape that the operator or generator expects."""


class SettingError(IaganError, ValueError):
    """An option lies outside its range, or options contradict each other."""


class FileError(IaganError):
    """A file cannot be used."""


class ImageFileError(FileError):
    """Not an image, truncated, too large, or a mask that does not fit."""


class ObservationFileError(FileError):
    """An .npz file that is not an iagan observation."""


class CheckpointError(FileError):
    """A checkpoint of unknown layout, a truncated one, or one that would run code."""


class OutputError(FileError):
    """A file or folder that cannot be written."""


class MissingDependencyError(IaganError, ImportError):
    """An optional package or backbone that the requested feature needs is not installed."""


class Cancelled(IaganError):
    """Work was ended by an exception of its callback, the cause of this one.

    **Arguments:**
    - `result`: what there is so far, as the function would have returned it.
    """

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[Cancelled], tuple[str, Any]]:
        return type(self), (str(self), self.result)


class Interrupted(Cancelled, KeyboardInterrupt):
    """Work was ended by Ctrl-C."""
