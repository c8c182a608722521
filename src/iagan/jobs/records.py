"""Records: what a reconstruction is worth a line of JSON; the folder of a resumable run."""

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
DELETE = "Delete that line: it is run again."
LARGEST = 1e100
"""Of numbers that are averaged; the square of it is finite."""


def measured(result: Reconstruction, index: int) -> dict[str, Any]:
    """What a record says of one image of a result: its time, iterations and residuals."""
    return {
        "seconds": round(result.seconds / len(result.image), 3),
        "steps": int(result.iterations[index]),
        "residual": float(result.residual[index]),
        "relative_residual": float(result.relative_residual[index]),
        "noise_floor": float(result.noise_floor[index]),
    }


def software() -> dict[str, Any]:
    """Versions of the packages that numbers depend on, of Python, and the kind of machine."""
    packages = ("iagan", "torch", "torchvision", "torchmetrics", "numpy", "pillow")
    return {
        "versions": {package: version(package) for package in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def to_json(record: Mapping[str, Any]) -> str:
    """One line of strict JSON in ASCII; what is not finite (the PSNR of equal images) is null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(finite, allow_nan=False)


class RunFolder:
    """Records of a run that may be killed at any moment and started again.

    **Arguments:**
    - `path`: the folder; made if missing.
    - `settings`: a JSON object. What `compared` names must be as it was when the run began.
    - `keys`: what every record has, and of which kind, one of `KINDS`.
    - `limits`: `text_bytes` bounds each file, `nesting` what is in a line.

    **Raises:** `SettingError` when the folder holds a run of other settings; `FileError` when its
    files are damaged; `OutputError` when it cannot be written.
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
        strange = [name for name in (RECORDS, *TABLES) if (path / name).exists()]
        if strange and not (path / SETTINGS).exists():
            raise FileError(
                f"{shown(path)} holds {strange[0]} without the {SETTINGS} of its run: nobody knows "
                "what was run. Put it back, or name another folder."
            )
        keep_settings(path / SETTINGS, settings, compared, limits)
        self._mend()
        self.records()

    def _mend(self) -> None:
        """Drop a last line that was cut off while it was written."""
        file = self.path / RECORDS
        if not file.exists():
            return
        content = _read(file, self.limits)
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_atomically(file, lambda stream: stream.write(whole))

    def append(self, record: dict[str, Any]) -> None:
        """One line, on the disk when this returns."""
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
    """Write them; if they are there, see that what `compared` names is as it was.

    **Raises:** `SettingError` when it is not; `FileError` when the file is damaged; `OutputError`.
    """
    if not file.exists():
        write_text(file, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        return
    known = _object(_read(file, limits), shown(file), "Name another folder.", compared, limits)
    for name in compared:
        if known[name] != settings[name]:
            raise SettingError(
                f"{shown(file.parent)} holds a run with {name} {shown(repr(known[name]))}; this "
                f"one has {shown(repr(settings[name]))}. Repeat those settings or name another "
                "folder."
            )


def _read(file: Path, limits: Limits) -> bytes:
    try:
        with open_regular(file) as stream:
            content = stream.read(limits.text_bytes + 1)
    except OSError as error:
        raise FileError(
            f"{shown(file)} cannot be read: {error.strerror}. Name another folder."
        ) from error
    if len(content) > limits.text_bytes:
        raise FileError(
            f"{shown(file)} is above the limit of {limits.text_bytes} bytes. Name another folder, "
            "or raise Limits.text_bytes."
        )
    return content


def _object(
    text: bytes, place: str, advice: str, keys: Iterable[str], limits: Limits
) -> dict[str, Any]:
    """A JSON object that has `keys`."""
    try:
        content = parse_json(text, limits)
    except ValueError:
        content = None
    if not isinstance(content, dict) or not set(keys) <= content.keys():
        expected = f" with {', '.join(keys)}" if keys else ""
        raise FileError(
            f"{place}: a JSON object{expected} was expected; got {shown(repr(text[:40]))}. {advice}"
        )
    return content


def _is_number(value: Any, most: float) -> bool:
    return type(value) in (int, float) and abs(value) <= most  # NaN is not


KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "an integer": lambda value: type(value) is int and abs(value) < 2**63,
    "a number": lambda value: _is_number(value, LARGEST),
    "a number or null": lambda value: value is None or _is_number(value, LARGEST),
    "a finite number": lambda value: _is_number(value, sys.float_info.max),
}
"""Kinds of values in a record, as a message names them."""
