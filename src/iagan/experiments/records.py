"""A folder of one run: settings that may not change, records that are appended one by one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from iagan.errors import OutputError, SettingError
from iagan.files import write_atomically, write_text

SETTINGS, RECORDS = "settings.json", "records.jsonl"


class RunFolder:
    """Records of a run that may be killed at any moment and started again.

    **Arguments:**
    - `path`: the folder; made if missing.
    - `settings`: a JSON object. What `compared` names must be as it was when the run began.

    **Raises:** `SettingError` when the folder holds a run of other settings; `OutputError` when it
    cannot be written.
    """

    def __init__(self, path: Path, settings: dict[str, Any], compared: tuple[str, ...]) -> None:
        self.path = path
        self._check_settings(settings, compared)
        self._mend()

    def _check_settings(self, settings: dict[str, Any], compared: tuple[str, ...]) -> None:
        file = self.path / SETTINGS
        if not file.exists():
            write_text(file, _dump(settings))
            return
        known = json.loads(file.read_text())
        for name in compared:
            if known.get(name) != settings[name]:
                raise SettingError(
                    f"{self.path} holds a run with {name} {known.get(name)!r}; this one has "
                    f"{settings[name]!r}. Repeat those settings or name another folder."
                )

    def _mend(self) -> None:
        """Drop a last line that was cut off while it was written."""
        file = self.path / RECORDS
        if not file.exists():
            return
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_atomically(file, lambda stream: stream.write(whole))

    def append(self, record: dict[str, Any]) -> None:
        """One line, on the disk when this returns."""
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        try:
            with (self.path / RECORDS).open("ab", buffering=0) as stream:
                stream.write(line)
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(
                f"Cannot append to {self.path / RECORDS}: {error.strerror}. Make room there."
            ) from error

    def records(self) -> list[dict[str, Any]]:
        """All records so far."""
        file = self.path / RECORDS
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text().splitlines()]


def _dump(settings: dict[str, Any]) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
