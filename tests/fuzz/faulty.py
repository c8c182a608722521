"""A reader with every fault that the fuzzer is to find: a test of the fuzzer itself."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

import numpy as np

from iagan.errors import IaganError

FAULTS = ("none", "refuses", "raises", "hangs", "dies", "two lines", "short of memory")


class _TwoLines(IaganError):
    def __str__(self) -> str:
        return "a\nb"


def make(rng: Random, folder: Path) -> Path:
    path = folder / "fault.txt"
    path.write_text(rng.choice(FAULTS))
    return path


def read(path: Path) -> None:
    fault = path.read_text()
    if fault == "refuses":
        raise IaganError("a\nb")
    if fault == "raises":
        raise ValueError("a fault")
    if fault == "hangs":
        time.sleep(1000)
    if fault == "dies":
        os.abort()
    if fault == "two lines":
        raise _TwoLines
    if fault == "short of memory":
        try:
            np.ones(2**37)
        except MemoryError as error:
            raise IaganError("not a picture that can be read") from error
