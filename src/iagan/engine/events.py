"""What long work tells while it runs: one kind of event, one kind of callback."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Mapping
from typing import TypeAlias

from iagan.types import Image, PerImage


@dc.dataclass(frozen=True)
class Event:
    """Where a long run is.

    **Arguments:**
    - `phase`: what is being done: `"csgm"`, `"iagan"`, `"dip"`, `"files"`, or a phase of training.
    - `step`, `total`: how much of the phase is done, and how much it is at most, over all images.
    - `objective`: `(problems,)`, the objective of the problems that reported, on their device:
      reading it waits for a GPU. None where nothing is minimised.
    - `residual`: computes ‖y - A x‖ of the best images so far of those problems, `(problems,)`.
    - `image`: returns these images, `(problems, channels, height, width)`.
    - `indices`: which images of the observation these are.
    - `values`: what else was measured, by name, as the losses of a step of training.
    - `message`: what else there is to say, one line.
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
"""Called in the caller's thread. An exception that it raises ends the work, which delivers the best
images so far (`iagan.errors.Cancelled`)."""
