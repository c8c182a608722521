"""What became of one image of one input by one method."""

from __future__ import annotations

import dataclasses as dc
from pathlib import Path
from typing import Any, Literal

from iagan.errors import IaganError
from iagan.jobs.inputs import Input
from iagan.types import Image


@dc.dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one image of one input by one method.

    **Arguments:**
    - `path`: the input.
    - `status`: `"done"`; `"skipped"`: it was there already, made with the same settings;
      `"stopped"`: cancelled, `output` is the best so far; `"failed"`: see `error`.
    - `index`: which image of the observation.
    - `method`: its name; None where the input could not be read.
    - `output`: the PNG.
    - `image`: `(1, channels, h, w)`, where it was made now.
    - `record`: a JSON object: file, method, seconds, residual, settings, messages, and scores where
      there is a truth.
    - `input`: what was read.
    """

    path: Path
    status: Literal["done", "skipped", "stopped", "failed"]
    index: int = 0
    method: str | None = None
    output: Path | None = None
    image: Image | None = None
    record: dict[str, Any] = dc.field(default_factory=dict)
    input: Input | None = None
    error: IaganError | None = None
