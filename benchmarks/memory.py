"""Peak memory of PGGAN-1024, and of BEGAN beside the plain loop, each in its own process."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch

import iagan
from benchmarks import facts
from benchmarks.reference import PlainLoop
from iagan.observation import Observation
from iagan.operators import BicubicDownsample
from iagan.priors import Generator

STEPS = 2
"""Steps of each phase; memory does not grow with more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares no options."""


def run(args: argparse.Namespace) -> dict[str, object]:
    """Print one row per case."""
    cases: dict[str, object] = {}
    print(
        f"| CSGM and IAGAN, {STEPS} steps each, on {_device()} | peak GiB | of the process before |"
    )
    print("|" + "---|" * 3)
    for name in CASES:
        command = [sys.executable, "-m", "benchmarks.memory", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cases[name] = case = json.loads(done.stdout)
        print(f"| {name} | {case['peak'] / 2**30:.2f} | {case['before'] / 2**30:.2f} |", flush=True)
    return cases


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _case(name: str) -> dict[str, float]:
    """Peak memory in bytes; on a GPU, of its own memory."""
    generator, count, work = CASES[name]()
    x = torch.rand(count, *generator.image_shape)
    y = iagan.observe(x, BicubicDownsample(generator.image_shape, scale=16)).to(_device())
    before = _peak()
    begun = time.perf_counter()
    work(generator, y)
    return {"before": before, "peak": _peak(), "seconds": time.perf_counter() - begun}


def _peak() -> float:
    if _device() == "cuda":
        return float(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _ours(generator: Generator, y: Observation) -> None:
    preset = iagan.presets.paper("iagan", y, generator)
    method = iagan.presets.adjust(preset, csgm_steps=STEPS, steps=STEPS)
    iagan.reconstruct(y, generator, method)


def _reference(generator: Generator, y: Observation) -> None:
    loop = PlainLoop(generator, y)
    loop.csgm(STEPS)
    loop.iagan(STEPS)


def _began(
    count: int, work: Callable[[Generator, Observation], None]
) -> tuple[Generator, int, Callable[[Generator, Observation], None]]:
    return facts.random_began(128, 128).to(_device()), count, work


def _pggan() -> tuple[Generator, int, Callable[[Generator, Observation], None]]:
    return facts.random_pggan().to(_device()), 1, _ours


CASES = {
    "PGGAN-1024, 1 image": _pggan,
    "BEGAN-128, the plain loop, 1 image": partial(_began, 1, _reference),
    "BEGAN-128, 1 image": partial(_began, 1, _ours),
    "BEGAN-128, 4 images": partial(_began, 4, _ours),
}


if __name__ == "__main__":
    print(json.dumps(_case(sys.argv[1])))
