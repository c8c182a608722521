"""Records: what a reconstruction is worth a line of JSON; the folder of a resumable run."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from iagan.errors import FileError, SettingError
from iagan.files import append_line, write_atomically, write_text
from iagan.methods import Reconstruction

SETTINGS, RECORDS = "settings.json", "records.jsonl"
TABLES = ("table.md", "table.tex", "table.csv")


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
    """One line of strict JSON; what is not finite (the PSNR of equal images) becomes null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(finite, ensure_ascii=False, allow_nan=False)


class RunFolder:
    """Records of a run that may be killed at any moment and started again.

    **Arguments:**
    - `path`: the folder; made if missing.
    - `settings`: a JSON object. What `compared` names must be as it was when the run began.
    - `keys`: what every record has.

    **Raises:** `SettingError` when the folder holds a run of other settings; `FileError` when its
    files are damaged; `OutputError` when it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        settings: dict[str, Any],
        compared: tuple[str, ...],
        keys: tuple[str, ...],
    ) -> None:
        self.path = path
        self.keys = keys
        strange = [name for name in (RECORDS, *TABLES) if (path / name).exists()]
        if strange and not (path / SETTINGS).exists():
            raise FileError(
                f"{path} holds {strange[0]} without the {SETTINGS} of its run: nobody knows what "
                "was run. Put it back, or name another folder."
            )
        keep_settings(path / SETTINGS, settings, compared)
        self._mend()
        self.records()

    def _mend(self) -> None:
        """Drop a last line that was cut off while it was written."""
        file = self.path / RECORDS
        if not file.exists():
            return
        content = _read(file)
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
        return [
            _object(line, f"{file}, line {number}", "Delete that line: it is run again.", self.keys)
            for number, line in enumerate(_read(file).splitlines(), 1)
        ]


def keep_settings(file: Path, settings: dict[str, Any], compared: tuple[str, ...]) -> None:
    """Write them; if they are there, see that what `compared` names is as it was.

    **Raises:** `SettingError` when it is not; `FileError` when the file is damaged; `OutputError`.
    """
    if not file.exists():
        write_text(file, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        return
    known = _object(_read(file), f"{file}", "Name another folder.", compared)
    for name in compared:
        if known[name] != settings[name]:
            raise SettingError(
                f"{file.parent} holds a run with {name} {known[name]!r}; this one has "
                f"{settings[name]!r}. Repeat those settings or name another folder."
            )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise FileError(f"{file} cannot be read: {error.strerror}. Name another folder.") from error


def _object(text: bytes, place: str, advice: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """A JSON object that has `keys`."""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict) or not set(keys) <= content.keys():
        expected = f" with {', '.join(keys)}" if keys else ""
        raise FileError(
            f"{place}: a JSON object{expected} was expected; got {text[:40]!r}. {advice}"
        )
    return content
