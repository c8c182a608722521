"""Records of reconstructions, one JSON object per line, and the folder of a resumable run."""

from __future__ import annotations

import io
import json
import math
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from iagan.errors import FileError, SettingError, shown
from iagan.files import append_line, open_regular, write_atomically, write_text
from iagan.limits import LIMITS, Limits
from iagan.methods import Reconstruction
from iagan.parse import parse_json

SETTINGS, RECORDS = "settings.json", "records.jsonl"
TABLES = ("table.md", "table.tex", "table.csv")
DELETE = "Delete that line; it will be run again."
LARGEST = 1e100
"""Maximum magnitude of values that are averaged; its square is finite."""


def measured(result: Reconstruction, index: int) -> dict[str, Any]:
    """Time, iterations and residuals of one image of a result, for its record."""
    return {
        "seconds": round(result.seconds / len(result.image), 3),
        "steps": int(result.iterations[index]),
        "residual": float(result.residual[index]),
        "relative_residual": float(result.relative_residual[index]),
        "noise_floor": float(result.noise_floor[index]),
    }


def software() -> dict[str, Any]:
    """Versions of Python and of the packages that results depend on, and the machine type."""
    packages = ("iagan", "torch", "torchvision", "torchmetrics", "numpy", "pillow")
    return {
        "versions": {package: version(package) for package in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def to_json(record: Mapping[str, Any]) -> str:
    """One line of strict ASCII JSON; non-finite numbers (the PSNR of equal images) become null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(finite, allow_nan=False)


class RunFolder:
    """The folder of a run, with its records, which can be killed and resumed at any time.

    **Arguments:**
    - `path`: the folder; created if missing.
    - `settings`: a JSON object. The entries in `compared` must be the same as when the run started.
    - `keys`: fields of every record with their kinds, out of `KINDS`.
    - `limits`: `text_bytes` bounds each file, `nesting` each line.

    **Raises:** `SettingError` if the folder has a run with other settings; `FileError` if its files
    are damaged; `OutputError` if it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        settings: dict[str, Any],
        compared: tuple[str, ...],
        keys: Mapping[str, str],
        limits: Limits = LIMITS,
    ) -> None:
        self.path = path
        self.keys = keys
        self.limits = limits
        orphans = [name for name in (RECORDS, *TABLES) if (path / name).exists()]
        if orphans and not (path / SETTINGS).exists():
            raise FileError(
                f"{shown(path)} has {orphans[0]} without the {SETTINGS} of its run, so its "
                "settings are unknown. Restore it, or use another folder."
            )
        keep_settings(path / SETTINGS, settings, compared, limits)
        self._mend()
        self.records()

    def _mend(self) -> None:
        """Remove an incomplete last line, from a run killed while writing it."""
        file = self.path / RECORDS
        if not file.exists():
            return
        content = _read(file, self.limits)
        complete = content[: content.rfind(b"\n") + 1]
        if complete != content:
            write_atomically(file, lambda stream: stream.write(complete))

    def append(self, record: dict[str, Any]) -> None:
        """Append one line; it is on disk when this returns."""
        append_line(self.path / RECORDS, json.dumps(record, ensure_ascii=False))

    def records(self) -> list[dict[str, Any]]:
        """All records so far."""
        file = self.path / RECORDS
        if not file.exists():
            return []
        lines = io.BytesIO(_read(file, self.limits))
        return [self._record(line, f"{shown(file)}, line {i}") for i, line in enumerate(lines, 1)]

    def _record(self, line: bytes, place: str) -> dict[str, Any]:
        record = _object(line, place, DELETE, self.keys, self.limits)
        for name, kind in self.keys.items():
            if not KINDS[kind](record[name]):
                got = shown(json.dumps(record[name]), 40)
                raise FileError(f"{place}: {name} is {got}, not {kind}. {DELETE}")
        return record


def keep_settings(
    file: Path, settings: dict[str, Any], compared: tuple[str, ...], limits: Limits = LIMITS
) -> None:
    """Write the settings; if the file exists, check that the entries in `compared` are unchanged.

    **Raises:** `SettingError` if they differ; `FileError` if the file is damaged; `OutputError`.
    """
    if not file.exists():
        write_text(file, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        return
    known = _object(_read(file, limits), shown(file), "Use another folder.", compared, limits)
    for name in compared:
        if known[name] != settings[name]:
            raise SettingError(
                f"{shown(file.parent)} has a run with {name} {shown(repr(known[name]))}; got "
                f"{shown(repr(settings[name]))}. Use the same settings or another folder."
            )


def _read(file: Path, limits: Limits) -> bytes:
    try:
        with open_regular(file) as stream:
            content = stream.read(limits.text_bytes + 1)
    except OSError as error:
        raise FileError(
            f"{shown(file)} cannot be read: {error.strerror}. Use another folder."
        ) from error
    if len(content) > limits.text_bytes:
        raise FileError(
            f"{shown(file)} is above the limit of {limits.text_bytes} bytes. Use another folder, "
            "or raise Limits.text_bytes."
        )
    return content


def _object(
    text: bytes, place: str, advice: str, keys: Iterable[str], limits: Limits
) -> dict[str, Any]:
    """Parse a JSON object that must have `keys`."""
    try:
        content = parse_json(text, limits)
    except ValueError:
        content = None
    if not isinstance(content, dict) or not set(keys) <= content.keys():
        expected = f" with {', '.join(keys)}" if keys else ""
        raise FileError(
            f"{place}: expected a JSON object{expected}; got {shown(repr(text[:40]))}. {advice}"
        )
    return content


def _is_number(value: Any, most: float) -> bool:
    return type(value) in (int, float) and abs(value) <= most  # false for NaN


KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "an integer": lambda value: type(value) is int and abs(value) < 2**63,
    "a number": lambda value: _is_number(value, LARGEST),
    "a number or null": lambda value: value is None or _is_number(value, LARGEST),
    "a finite number": lambda value: _is_number(value, sys.float_info.max),
}
"""Kinds of values in a record, by their names in messages."""
