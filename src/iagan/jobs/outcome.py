"""The outcome of a recovery for one image and method."""

from __future__ import annotations

import dataclasses as dc
from pathlib import Path
from typing import Any, Literal

from iagan.errors import IaganError
from iagan.jobs.inputs import Input
from iagan.types import Image


@dc.dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of a recovery for one image of one input by one method.

    **Arguments:**
    - `path`: the input file.
    - `status`: `"done"`; `"skipped"`: already recovered with the same settings; `"stopped"`:
      cancelled, `output` is the best image so far; `"failed"`: see `error`.
    - `index`: index of the image in the observation.
    - `method`: name of the method; None if the input could not be read.
    - `output`: path of the PNG.
    - `image`: `(1, channels, h, w)`; None unless it was recovered now.
    - `record`: a JSON object with file, method, seconds, residual, settings, messages, and scores
      if the truth is known.
    - `input`: the loaded input.
    - `error`: the error of a failed one.
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
