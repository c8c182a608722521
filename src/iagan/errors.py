"""The exceptions of iagan.

    IaganError
    ├── ShapeError              a tensor of a shape that the operator or generator does not accept
    ├── SettingError            an option out of range, or options that contradict each other
    ├── FileError               a file cannot be used
    │   ├── ImageFileError          not an image, truncated, too large, a mask that does not fit
    │   ├── ObservationFileError    an .npz that is not an iagan observation
    │   ├── CheckpointError         unknown layout, truncated, or unsafe to load
    │   └── OutputError             a path that cannot be written
    ├── LimitError              a function run by `isolated` exceeded its memory or time
    ├── MissingDependencyError  an optional package or backbone is not installed
    └── Cancelled               work was stopped early; holds partial results
        └── Interrupted             by Ctrl-C; also a KeyboardInterrupt

A message is one line: the function, the expectation, the actual value, and a remedy. The command
line prints that line and exits with code 2.
"""

from __future__ import annotations

from typing import Any


class IaganError(Exception):
    """Base class of the exceptions of iagan.

    A message is one line without control characters, whatever file, name or value it quotes.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(_on_one_line(str(message)))


class ShapeError(IaganError, ValueError):
    """A tensor has a shape that the operator or generator does not accept."""


class SettingError(IaganError, ValueError):
    """An option is out of range, or options contradict each other."""


class FileError(IaganError):
    """A file cannot be used."""


class ImageFileError(FileError):
    """Not an image, truncated, too large, or a mask that does not fit."""


class ObservationFileError(FileError):
    """An .npz file that is not an iagan observation."""


class CheckpointError(FileError):
    """A checkpoint is of unknown layout, truncated, or unsafe to load."""


class OutputError(FileError):
    """A file or folder that cannot be written."""


class LimitError(IaganError):
    """A function run by `iagan.isolated` exceeded its memory or time."""


class MissingDependencyError(IaganError, ImportError):
    """An optional package or backbone that the requested feature needs is not installed."""


class Cancelled(IaganError):
    """Work was stopped by an exception raised in its callback, which is this one's cause.

    **Arguments:**
    - `result`: the partial result, of the function's return type.
    """

    def __init__(self, message: str = "Cancelled.", result: Any = None) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[Cancelled], tuple[str, Any]]:
        return type(self), (str(self), self.result)


class Interrupted(Cancelled, KeyboardInterrupt):
    """Work was stopped by Ctrl-C."""


def shown(text: object, most: int = 200) -> str:
    """Quote untrusted text for a message: on one line, control characters escaped, at most `most`
    characters.

    Contents and names of files may include line breaks, terminal escape sequences, or characters
    that cannot be encoded.
    """
    line = _on_one_line(str(text)[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"


def shown_value(value: object) -> str:
    """Quote an untrusted value for a message: `repr` of a text, number or None, else its type.

    The `repr` of a container may be long, or fail because it is nested too deeply.
    """
    simple = value is None or isinstance(value, str | int | float)
    return shown(repr(value), 80) if simple else f"a {type(value).__name__}"


def _on_one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text.replace("\n", " ")
    )
