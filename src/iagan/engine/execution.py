"""How something is computed, apart from what is computed."""

from __future__ import annotations

import dataclasses as dc
import os
import time
from pathlib import Path
from typing import Literal, get_args

import torch

from iagan.errors import SettingError

Precision = Literal["float32", "mixed", "bfloat16"]


@dc.dataclass(frozen=True)
class Execution:
    """Where and how a reconstruction is computed; the results differ by rounding alone.

    **Arguments:**
    - `device`: `"cpu"`, `"cuda"`, `"mps"`, …; None: where the prior is.
    - `precision`: of the prior's network: `"float32"` (its own), `"bfloat16"`, or `"mixed"`,
      bfloat16 for CSGM alone. Variables, their Adam moments and residuals keep their precision.
      L-BFGS always gets the exact network: a line search is at a loss with rounded objectives.
    - `compile`: let `torch.compile` translate the network, half a minute at its first call: fewer
      and larger steps on a GPU. No use on a CPU.
    - `threads`: CPU threads at most; None: `torch.get_num_threads()`.
    - `batch_size`: images worked on at once, at most; None: what fits and pays.
    - `checkpointing`: compute layers again in the backward pass instead of keeping them, for less
      memory; None: where the memory does not suffice otherwise.

    **Raises:** `SettingError`.
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
        for name in ("threads", "batch_size"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise SettingError(
                    f"Execution expects {name} as an integer of at least 1, or None; got {value!r}."
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
    """CPU threads that other programs leave free, watched for so long; at least 1, at most torch's.

    Two threads of one computation wait for each other at every step: beside a program that keeps
    one of two cores busy, one thread is several times as quick as two.
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
    """What each core has been idle for, in ticks of the clock; None where nobody counts them."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    cores = [line.split() for line in lines if line.startswith("cpu") and line[3] != " "]
    return [int(core[4]) + int(core[5]) for core in cores]  # idle, and waiting for a disk
