"""Saving and loading of observations: an .npz of y and a JSON text."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iagan.archives import open_member, open_zip
from iagan.errors import IaganError, ObservationFileError, shown
from iagan.files import open_regular, write_atomically
from iagan.limits import LIMITS, Limits
from iagan.observation import Observation
from iagan.operators import from_spec
from iagan.operators.registry import loadable_spec
from iagan.parse import HEADER_BYTES, parse_json, read_array

FORMAT, VERSION = "iagan-observation", 1

MOST_MEMBERS = 16
"""Maximum number of arrays in a file; two of them are read."""

UTF32 = 4
"""Bytes per character of a NumPy string."""

DTYPES = ("float32", "float64", "complex64", "complex128")
"""Dtypes allowed for y in a file."""


def save_observation(observation: Observation, path: str | os.PathLike[str]) -> None:
    """Write an .npz atomically: `y`, and a JSON text of the operator's spec, σ and crop.

    The format, for writing it without iagan, is described in `load_observation`.

    **Raises:** `OutputError` if it cannot be written; `SettingError` for an operator that is not
    registered (also inside another), or has no spec.
    """
    about = {
        "format": FORMAT,
        "version": VERSION,
        "operator": loadable_spec(observation.operator),
        "noise_std": observation.sigma.tolist(),
        "crop": observation.crop,
    }
    y = observation.y.detach().cpu().numpy()
    buffer = io.BytesIO()
    np.savez(buffer, y=y, about=np.array(json.dumps(about)))
    write_atomically(path, lambda stream: stream.write(buffer.getvalue()))


def is_observation(path: str | os.PathLike[str]) -> bool:
    """Whether the file was written by `save_observation`, even if it exceeds the limits to load."""
    source = Path(path)
    try:
        (text,) = _read_arrays(source, {"about.npy": ("US", UTF32 * LIMITS.text_bytes)})
        _read_about(source, str(text[()]), LIMITS)
    except ObservationFileError:
        return False
    return True


def load_observation(path: str | os.PathLike[str], limits: Limits = LIMITS) -> Observation:
    """Read a file written by `save_observation`, without running any code in it.

    The file holds `y`, float32, float64, complex64 or complex128, `(batch, ...)`, and `about`, a
    JSON text with `format`, `version`, `operator`, `noise_std` and `crop`.

    **Arguments:**
    - `limits`: `array_bytes` bounds y and, like `pixels`, the operator
      (`iagan.operators.from_spec`); `text_bytes` and `nesting` bound `about`.

    **Raises:** `ObservationFileError`, one line, for any other file.
    """
    source = Path(path)
    y, text = _read_arrays(
        source,
        {
            "y.npy": ("biufc", limits.array_bytes),
            "about.npy": ("US", UTF32 * limits.text_bytes),
        },
    )
    about = _read_about(source, str(text[()]), limits)
    del text
    if y.dtype.name not in DTYPES or y.ndim < 2 or not len(y):
        raise _refusal(source, f"y is {y.dtype} {y.shape}, not float or complex (batch, …)")
    try:
        crop = about["crop"]
        return Observation(
            torch.from_numpy(y),
            from_spec(about["operator"], limits),
            np.asarray(about["noise_std"], dtype=np.float64).tolist(),
            None if crop is None else (int(crop[0]), int(crop[1]), int(crop[2])),
        )
    except IaganError as error:
        raise ObservationFileError(f"{shown(source)}: {error}") from error
    except (
        TypeError,
        ValueError,
        IndexError,
        KeyError,
        OverflowError,
        RecursionError,
    ) as error:
        raise _refusal(source, f"its description is malformed ({shown(error)})") from error


def _read_arrays(source: Path, members: Mapping[str, tuple[str, int]]) -> list[np.ndarray]:
    """Read arrays of these kinds (`numpy.dtype.kind`) and at most so many bytes."""
    try:
        open_regular(source).close()
        with open_zip(source, MOST_MEMBERS) as archive:
            missing = {"y.npy", "about.npy"} - set(archive.namelist())
            if missing:
                raise ValueError(f"it lacks {', '.join(sorted(missing)).replace('.npy', '')}")
            return [_read_member(archive, name, *bounds) for name, bounds in members.items()]
    except FileNotFoundError:
        raise ObservationFileError(f"{shown(source)}: no such file. Check the path.") from None
    except Exception as error:  # zipfile and zlib may raise anything for a damaged file
        reason = getattr(error, "strerror", None) or shown(error) or type(error).__name__
        raise _refusal(source, reason) from error


def _read_member(archive: zipfile.ZipFile, name: str, kinds: str, most: int) -> np.ndarray:
    info = archive.getinfo(name)
    if info.file_size > most + HEADER_BYTES:
        raise ValueError(f"{name} takes {info.file_size} bytes, above the limit of {most}")
    with open_member(archive, info) as stream:
        return read_array(stream, kinds, most)


def _read_about(source: Path, text: str, limits: Limits) -> dict[str, Any]:
    try:
        about = parse_json(text, limits)
    except ValueError as error:
        raise _refusal(source, f"its description is {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise _refusal(source, f"its description is not of format {FORMAT}")
    if about.get("version") != VERSION:
        version = shown(about.get("version"), 40)
        raise _refusal(source, f"expected version {VERSION}, got {version}")
    missing = {"operator", "noise_std", "crop"} - set(about)
    if missing:
        raise _refusal(source, f"its description lacks {', '.join(sorted(missing))}")
    if not isinstance(about["operator"], dict):
        raise _refusal(source, "its operator is not a JSON object")
    return about


def _refusal(source: Path, reason: str) -> ObservationFileError:
    return ObservationFileError(
        f"{shown(source)} is not an iagan observation: {reason}. Make one with iagan observe."
    )
