"""Where and how a reconstruction is computed."""

from __future__ import annotations

import dataclasses as dc
import os
import time
from pathlib import Path
from typing import Literal, get_args

import torch

from iagan.errors import SettingError

Precision = Literal["float32", "mixed", "bfloat16"]

MAX_THREADS = 1024
"""Largest number of CPU threads; with many more, the OpenMP library ends the process."""


@dc.dataclass(frozen=True)
class Execution:
    """Where and how a reconstruction is computed; results differ only by rounding.

    **Arguments:**
    - `device`: `"cpu"`, `"cuda"`, `"mps"`, …; None: the prior's device.
    - `precision`: numeric precision of the prior's network: `"float32"` (its own), `"bfloat16"`, or
      `"mixed"`, bfloat16 for CSGM only. Variables, Adam's moments and residuals keep their
      precision. L-BFGS always runs in float32: its line search fails on rounded objectives.
    - `compile`: compile the network with `torch.compile`, which takes half a minute on its first
      call and fuses operations on a GPU. Useless on a CPU.
    - `threads`: maximum number of CPU threads; None: `torch.get_num_threads()`.
    - `batch_size`: maximum number of images processed at once; None: chosen by memory and speed.
    - `checkpointing`: recompute activations in the backward pass to save memory; None: only if
      memory would not suffice otherwise.

    **Raises:** `SettingError` for a setting out of range or an unavailable device.
    """

    device: str | None = None
    precision: Precision = "float32"
    compile: bool = False
    threads: int | None = None
    batch_size: int | None = None
    checkpointing: bool | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise SettingError(
                f"Execution expects precision as one of {', '.join(get_args(Precision))}; got "
                f"{self.precision!r}."
            )
        for name, kinds in (("compile", bool), ("checkpointing", bool | None)):
            value = getattr(self, name)
            if not isinstance(value, kinds):
                raise SettingError(f"Execution expects {name} as True or False; got {value!r}.")
        for name in ("threads", "batch_size"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise SettingError(
                    f"Execution expects {name} as an integer of at least 1, or None; got {value!r}."
                )
        if self.threads is not None and self.threads > MAX_THREADS:
            raise SettingError(
                f"Execution expects at most {MAX_THREADS} threads; got {self.threads}. More than "
                "the cores of a machine gain nothing."
            )
        if self.device is not None:
            self._check_device(self.device)

    @staticmethod
    def _check_device(name: str) -> None:
        try:
            kind = torch.device(name).type
        except RuntimeError as error:
            raise SettingError(
                f"Execution expects device as 'cpu', 'cuda' or 'mps'; got {name!r}."
            ) from error
        missing = (kind == "cuda" and not torch.cuda.is_available()) or (
            kind == "mps" and not torch.backends.mps.is_available()
        )
        if missing:
            raise SettingError(f"Execution: device {name} is not available here; use 'cpu'.")


def idle_threads(seconds: float = 0.1) -> int:
    """Number of CPU cores that are idle during the next `seconds`, from 1 to torch's thread count.

    The threads of a computation wait for each other at every step: while another program occupies
    one of two cores, one thread is several times faster than two.
    """
    most = torch.get_num_threads()
    before = _idle_ticks()
    if before is None:
        return most
    time.sleep(seconds)
    after = _idle_ticks() or before
    ticks = seconds * os.sysconf("SC_CLK_TCK")
    free = sum(min(1.0, (b - a) / ticks) for a, b in zip(before, after, strict=False))
    return max(1, min(most, round(free)))


def _idle_ticks() -> list[int] | None:
    """Idle time of each core in clock ticks, or None if the platform does not report it."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    cores = [line.split() for line in lines if line.startswith("cpu") and line[3] != " "]
    return [int(core[4]) + int(core[5]) for core in cores]  # idle, and waiting for I/O
