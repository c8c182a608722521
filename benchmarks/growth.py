"""How the cost of a CSGM step grows with images, starts of z, resolution and measurements."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

import iagan
from benchmarks import facts
from iagan.files import write_atomically
from iagan.operators import BicubicDownsample, Gaussian

COUNTS = (1, 2, 4, 8, 16)
SIDES = (32, 64, 128, 256)
RATIOS = (0.06, 0.12, 0.24, 0.48)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--steps", type=facts.count, default=6, help="steps per run (default: 6)")
    parser.add_argument("--rounds", type=facts.count, default=5, help="runs of each (default: 5)")
    parser.add_argument("--plot", default="bench-out/growth.png", help="where the plot goes")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Print and draw one table per quantity, with its exponent."""
    measured = {
        "images": _measure(args, {n: _work(args, count=n) for n in COUNTS}),
        "starts of z": _measure(args, {n: _work(args, restarts=n) for n in COUNTS}),
        "pixels": _measure(args, {side**2: _work(args, side=side) for side in SIDES}),
        "measurements": _measure(
            args, {round(r * 3 * 64**2): _work(args, ratio=r) for r in RATIOS}
        ),
    }
    for name, seconds in measured.items():
        print(f"\n| {name} | " + " | ".join(f"{size:g}" for size in seconds) + " |")
        print("|" + "---|" * (len(seconds) + 1))
        print("| ms per step | " + " | ".join(f"{1e3 * s:.1f}" for s in seconds.values()) + " |")
        print(f"\ngrows as the power {_exponent(seconds):.2f}; 1 is linear")
    _plot(measured, Path(args.plot))
    return {name: {str(size): s for size, s in row.items()} for name, row in measured.items()}


def _work(
    args: argparse.Namespace,
    count: int = 1,
    restarts: int = 1,
    side: int = 64,
    ratio: float | None = None,
) -> Callable[[], object]:
    generator = facts.random_began(64, side)
    shape = generator.image_shape
    z = generator.latent.sample(count, torch.Generator().manual_seed(1))
    operator = Gaussian.from_ratio(shape, ratio, 0) if ratio else BicubicDownsample(shape, scale=4)
    observation = iagan.observe(generator(z), operator)
    method = iagan.CSGM(steps=args.steps, restarts=restarts)
    return lambda: iagan.reconstruct(observation, generator, method)


def _measure(args: argparse.Namespace, works: dict[int, Callable[[], object]]) -> dict[int, float]:
    taken = facts.interleaved({str(size): work for size, work in works.items()}, args.rounds)
    return {size: statistics.median(taken[str(size)]) / args.steps for size in works}


def _exponent(seconds: dict[int, float]) -> float:
    """The slope between the first and the last size, in log-log scale."""
    (low, fast), *_, (high, slow) = seconds.items()
    return math.log(slow / fast) / math.log(high / low)


def _plot(measured: dict[str, dict[int, float]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, seconds) in zip(
        figure.subplots(1, len(measured)), measured.items(), strict=True
    ):
        sizes, times = list(seconds), list(seconds.values())
        axes.loglog(sizes, times, marker="o", label="measured")
        linear = [times[0] * size / sizes[0] for size in sizes]
        axes.loglog(sizes, linear, linestyle=":", color="grey", label="linear")
        axes.set(xlabel=name, ylabel="seconds per step")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize="small")
        axes.xaxis.minorticks_off()
        axes.legend()
    write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=110))
