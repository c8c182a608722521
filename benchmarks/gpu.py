"""One GPU: seconds per image at the paper's iterations, amortised over many images.

A few steps of each phase are timed and multiplied by the paper's iterations. Without a GPU it runs
on the CPU, only as a check: use `--toy`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch

import iagan
from benchmarks import facts
from iagan.operators import BicubicDownsample
from iagan.priors import Generator

STARTS = (1, 5)
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--images", type=facts.count, default=100, help="of BEGAN-128 (default: 100)"
    )
    parser.add_argument(
        "--large-images", type=facts.count, default=4, help="of PGGAN-1024 (default: 4)"
    )
    parser.add_argument("--steps", type=facts.count, default=20, help="steps per run (default: 20)")
    parser.add_argument("--rounds", type=facts.count, default=3, help="runs of each (default: 3)")
    parser.add_argument("--toy", action="store_true", help="small networks")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Print one table per network: float32, bfloat16, and compiled bfloat16."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 256 if args.toy else 8192
    rates = {name: facts.matrix_rate(device, dtype, side) for name, dtype in _TYPES.items()}
    for name, rate in rates.items():
        print(f"{device}: {rate / 1e12:.3g} Top/s of a matrix product in {name}")
    began = facts.random_began(8, 32) if args.toy else facts.random_began(128, 128)
    pggan = facts.random_pggan((8, 8, 4, 4, 4, 4)) if args.toy else facts.random_pggan()
    return {
        "rates": rates,
        "began": _network(args, "BEGAN", began.to(device), args.images, rates),
        "pggan": _network(args, "PGGAN", pggan.to(device), args.large_images, rates),
    }


def _network(
    args: argparse.Namespace, name: str, exact: Generator, count: int, rates: dict[str, float]
) -> dict[str, object]:
    operator = BicubicDownsample(exact.image_shape, scale=4)
    device = next(exact.module.parameters()).device
    y = iagan.observe(torch.rand(count, *exact.image_shape), operator).to(device)
    iterations = iagan.presets.paper("iagan", y, exact).iterations()
    work = facts.operations(exact, weights=False) * count
    print(
        f"\n| {name}, {count} images | s a CSGM step | share of the rate | s an IAGAN step |",
        end="",
    )
    print("".join(f" s per image, starts: {starts} |" for starts in STARTS))
    print("|" + "---|" * (4 + len(STARTS)))
    results: dict[str, object] = {}
    ways = {
        "float32": iagan.Execution(),
        "bfloat16": iagan.Execution(precision="bfloat16"),
        "bfloat16, compiled": iagan.Execution(precision="bfloat16", compile=True),
    }
    for way, execution in ways.items():
        csgm = _step(args, facts.phase(y, exact, "csgm", execution))
        adapt = _step(args, facts.phase(y, exact, "iagan", execution))
        whole = {
            starts: (starts * iterations["csgm"] * csgm + iterations["iagan"] * adapt) / count
            for starts in STARTS
        }
        share = work / csgm / rates[way.split(",")[0]]
        print(f"| {way} | {csgm:.4f} | {share:.0%} | {adapt:.4f} |", end="")
        print("".join(f" {seconds:.2f} |" for seconds in whole.values()))
        results[way] = {"csgm": csgm, "iagan": adapt, "share": share, "an_image": whole}
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"\npeak so far {peak:.2f} GiB")
        results["peak_gib"] = peak
    return results


def _step(args: argparse.Namespace, work: Callable[[int], object]) -> float:
    """Seconds of one step of all images."""
    return statistics.median(facts.step_seconds({"step": work}, args.steps, args.rounds)["step"])
