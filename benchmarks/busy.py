"""Recovery of one image by the command line, on an idle machine and beside a busy loop.

torch's threads synchronise at barriers: where one of two cores is occupied, the thread that spins
there delays the other one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import iagan
from benchmarks import facts
from iagan.images import astronaut, crop_square
from iagan.operators import BicubicDownsample

LOOP = "while True: pass"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--prior", default="faces-64", help="default: faces-64")
    parser.add_argument("--rounds", type=facts.count, default=5, help="runs of each (default: 5)")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Print the seconds and their ratio; return them."""
    prior = iagan.load_prior(args.prior)
    photo = crop_square(astronaut(), None, prior.about.crop, prior.image_shape[1:])
    with tempfile.TemporaryDirectory() as folder:
        y = Path(folder) / "y.npz"
        observation = iagan.observe(photo, BicubicDownsample(prior.image_shape, scale=4))
        iagan.save_observation(observation, y)
        command = [sys.executable, "-m", "iagan", "reconstruct", str(y), "--prior", args.prior]
        command += ["-o", str(Path(folder) / "x.png"), "--overwrite"]
        works = {"quiet": _recover(command), "beside a busy loop": _beside(_recover(command))}
        taken = facts.interleaved(works, args.rounds)
    quiet = statistics.median(taken["quiet"])
    print(f"| {args.prior}, ×4, one image | s, median | spread | × quiet |")
    print("|" + "---|" * 4)
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        print(
            f"| {name} | {middle:.1f} | {min(seconds):.1f}–{max(seconds):.1f} "
            f"| {middle / quiet:.2f} |"
        )
    return {"seconds": taken}


def _recover(command: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run(command, capture_output=True, check=True)


def _beside(work: Callable[[], object]) -> Callable[[], object]:
    def both() -> None:
        loop = subprocess.Popen([sys.executable, "-c", LOOP])
        try:
            work()
        finally:
            loop.kill()
            loop.wait()

    return both
