"""Progress events of long-running work, and their callback type."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Mapping
from typing import TypeAlias

from iagan.types import Image, PerImage


@dc.dataclass(frozen=True)
class Event:
    """Progress of a long run.

    **Arguments:**
    - `phase`: current phase: `"csgm"`, `"iagan"`, `"dip"`, `"files"`, or a phase of training.
    - `step`, `total`: number of completed steps of the phase, and its maximum, over all images. A
      minimisation counts evaluations of the objective, one more than its iterations: the last
      iterate is evaluated as well.
    - `objective`: `(problems,)`, the objective of the reported problems, on their device (reading
      it synchronises a GPU); None if nothing is minimised.
    - `residual`: computes ‖y - A x‖ of the best images so far of these problems, `(problems,)`.
    - `image`: returns these images, `(problems, channels, height, width)`.
    - `indices`: indices of these images in the observation.
    - `values`: other values by name, such as the losses of a training step.
    - `message`: a one-line message, or empty.
    """

    phase: str
    step: int
    total: int
    objective: PerImage | None = None
    residual: Callable[[], PerImage] | None = dc.field(default=None, repr=False)
    image: Callable[[], Image] | None = dc.field(default=None, repr=False)
    indices: tuple[int, ...] = ()
    values: Mapping[str, float] = dc.field(default_factory=dict)
    message: str = ""


EventCallback: TypeAlias = Callable[[Event], object]
"""A function called with every event, in the caller's thread. If it raises an exception, the work
stops with `iagan.errors.Cancelled`, which holds the best images so far."""
