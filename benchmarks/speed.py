"""Seconds per step for the same result, interleaved with the plain loop and deepinv."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import iagan
from benchmarks import facts
from benchmarks.own_process import OwnProcess
from iagan.images import astronaut, crop_square
from iagan.operators import BicubicDownsample
from iagan.priors import Generator

PHASES = ("csgm", "iagan")
CSGM_STEPS, IAGAN_STEPS, STARTS = 1600, 500, (1, 5)
"""The paper's ×4 settings of a BEGAN; one start of z, and those of its released program."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--prior", default="faces-64", help="a BEGAN, or began-128 (random)")
    parser.add_argument("--steps", type=facts.count, default=5, help="steps per run (default: 5)")
    parser.add_argument("--rounds", type=facts.count, default=7, help="runs of each (default: 7)")
    parser.add_argument("--batch", type=facts.count, default=8, help="images of ours (default: 8)")
    parser.add_argument("--bfloat16", action="store_true", help="ours in bfloat16 too")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Print the table and return its content."""
    if args.prior == "began-128":
        generator = facts.random_began(128, 128)
    else:
        generator = facts.began(args.prior)
    photo = crop_square(astronaut(), None, generator.about.crop, generator.image_shape[1:])
    operator = BicubicDownsample(generator.image_shape, scale=4)
    one = iagan.observe(photo, operator)
    many = iagan.observe(photo.expand(args.batch, -1, -1, -1), operator)

    works: dict[str, Callable[[int], object]] = {
        "reference csgm": OwnProcess("csgm", generator, one),
        "deepinv csgm": OwnProcess("deepinv", generator, one),
        "reference iagan": OwnProcess("iagan", generator, one),
    }
    ours = {"ours": iagan.Execution()}
    if args.bfloat16:
        ours["ours in bfloat16"] = iagan.Execution(precision="bfloat16")
    for who, execution in ours.items():
        works |= {
            f"{who} {phase}": facts.phase(many, generator, phase, execution) for phase in PHASES
        }
    taken = facts.step_seconds(works, args.steps, args.rounds)
    step = {
        name: [s / (args.batch if name.startswith("ours") else 1) for s in times]
        for name, times in taken.items()
    }
    return _report(args, generator, step, ("reference", *ours))


def _report(
    args: argparse.Namespace,
    generator: Generator,
    step: dict[str, list[float]],
    contestants: tuple[str, ...],
) -> dict[str, object]:
    middle = {name: statistics.median(times) for name, times in step.items()}
    channels, side = int(generator.module.settings["channels"]), generator.image_shape[1]
    rate = facts.conv_rate(channels, side, args.batch)
    floor = {
        "csgm": facts.operations(generator, weights=False) / rate,
        "iagan": facts.operations(generator, weights=True) / rate,
    }
    print(f"| {args.prior} | ms per step and image | spread | × reference | share of the floor |")
    print("|" + "---|" * 5)
    for name, seconds in middle.items():
        phase = name.split()[-1]
        print(
            f"| {name} | {1e3 * seconds:.1f} | {1e3 * min(step[name]):.1f}–"
            f"{1e3 * max(step[name]):.1f} | {middle[f'reference {phase}'] / seconds:.2f} "
            f"| {floor[phase] / seconds:.0%} |"
        )
    print(
        f"\nFloor: {rate / 1e9:.0f} Gop/s of a {channels}→{channels} convolution at {side}×{side}."
    )
    by_phase = {who: (middle[f"{who} csgm"], middle[f"{who} iagan"]) for who in contestants}
    if args.bfloat16:
        mixed = (by_phase["ours in bfloat16"][0], by_phase["ours"][1])
        by_phase["ours, CSGM alone in bfloat16"] = mixed
    whole = _report_of_paper(by_phase, floor)
    return {"steps": step, "floor": floor, "operations_per_second": rate, "whole": whole}


def _report_of_paper(
    by_phase: dict[str, tuple[float, float]], floor: dict[str, float]
) -> dict[str, list[float]]:
    """The table at the paper's iterations: seconds per image of every contestant."""
    header = "| × reference | share of the floor "
    print(f"\n| the paper's iterations, s per image | one start {header}| five starts {header}|")
    print("|" + "---|" * 7)
    whole = {who: _of_paper(*seconds) for who, seconds in by_phase.items()}
    least = _of_paper(floor["csgm"], floor["iagan"])
    for who, times in whole.items():
        cells = [
            f"{taken:.1f} | {reference / taken:.2f} | {fastest / taken:.0%}"
            for taken, reference, fastest in zip(times, whole["reference"], least, strict=True)
        ]
        print(f"| {who} | " + " | ".join(cells) + " |")
    return whole


def _of_paper(csgm: float, iagan: float) -> list[float]:
    """Seconds of the paper's steps at this time per step, with one start and with five."""
    return [starts * CSGM_STEPS * csgm + IAGAN_STEPS * iagan for starts in STARTS]
