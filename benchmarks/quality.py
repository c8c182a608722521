"""Time to quality: the reference to its end, ours at the same iterations, and ours by default.

Every image and task is one record, written as soon as it is known: a run that was stopped goes on.
The two take turns, a few images at a time, so that a busy machine slows both: the reference one
image after another, ours together, as of a folder.
"""

from __future__ import annotations

import argparse
import dataclasses as dc
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import iagan
from benchmarks.reference import PlainLoop
from iagan import measure
from iagan.experiments.paper import Setting
from iagan.experiments.records import RunFolder
from iagan.experiments.run import Plan, readable, simulate, truth_of
from iagan.generators import Generator
from iagan.images import find_images
from iagan.observation import Observation
from iagan.reconstruction.presets import paper_settings
from iagan.types import Image

TASKS = {"table2": "sr-4", "table1": "fourier-0.3-noise10", "table4": "deblur-u9-noise10"}
"""×4, Fourier 0.3 with noise, 9×9 blur: experiment and key of the setting."""
TOGETHER = 4
"""Images in a turn."""
WHO = ("reference", "same iterations", "default")
"""The plain loop; ours with effort "paper" and as many starts; ours as `reconstruct` is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--prior", default="faces", help="a BEGAN")
    parser.add_argument("--images", required=True, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=20, help="of its images (default: 20)")
    parser.add_argument("--restarts", type=int, default=5, help="of the reference (default: 5)")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="of the reference's steps")
    parser.add_argument("--lpips", default="alex", help="backbone (default: alex)")
    parser.add_argument("--run", default="bench-out/quality", help="folder of the records")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Do what is not done yet; print the table."""
    compared = ("prior", "restarts", "steps_scale", "lpips", "threads")
    settings = vars(args) | {"threads": torch.get_num_threads()}
    folder = RunFolder(Path(args.run), settings, compared, ("task", "image", "who"))
    generator = iagan.load_prior(args.prior)
    good, _ = readable(find_images([Path(args.images)])[: args.count])
    for name, key in TASKS.items():
        plan = Plan((name,), tuple(good), settings=(key,))
        for _, setting, _ in plan.tasks():
            _task(args, plan, setting, generator, folder)
    return _report(folder.records(), len(good))


def _task(
    args: argparse.Namespace, plan: Plan, setting: Setting, generator: Generator, folder: RunFolder
) -> None:
    operator = setting.build(generator.image_shape)
    records = folder.records()
    done = {(r["image"], r["who"]) for r in records if r["task"] == setting.key}
    paths = list(plan.images)
    for begin in range(0, len(paths), TOGETHER):
        group = paths[begin : begin + TOGETHER]
        truth = torch.cat([truth_of(path, setting, generator) for path in group])
        observation = simulate(plan, setting, operator, truth, group)
        left = {
            who: [i for i, path in enumerate(group) if (path.name, who) not in done] for who in WHO
        }
        for who, i, image, seconds in _turn(args, generator, observation, left):
            head = {"task": setting.key, "image": group[i].name, "who": who, "seconds": seconds}
            y = _one_of(observation, i)
            folder.append(head | _scores(args, image, truth[i : i + 1], y))
            print(json.dumps(head), flush=True)


def _turn(
    args: argparse.Namespace,
    generator: Generator,
    observation: Observation,
    left: dict[str, list[int]],
) -> Iterator[tuple[str, int, Image, float]]:
    """Who, which of the images, what was found and in how many seconds, for those that are left."""
    for i in left["reference"]:
        begun = time.perf_counter()
        image = _reference(args, generator, _one_of(observation, i))
        yield "reference", i, image, time.perf_counter() - begun
    for who in WHO[1:]:
        if left[who]:
            begun = time.perf_counter()
            images = _ours(args, generator, observation, paper=who == "same iterations")
            seconds = (time.perf_counter() - begun) / len(images)
            for i in left[who]:
                yield who, i, images[i : i + 1], seconds


def _one_of(observation: Observation, i: int) -> Observation:
    return dc.replace(observation, y=observation.y[i : i + 1])


def _steps(
    args: argparse.Namespace, generator: Generator, observation: Observation
) -> tuple[int, int]:
    """The paper's iterations of CSGM and IAGAN, or the share of them that was asked for."""
    noise = observation.noise_std
    settings = paper_settings("iagan", observation.operator, noise, generator)
    return (
        math.ceil(args.steps_scale * settings.csgm_steps),
        math.ceil(args.steps_scale * settings.steps),
    )


def _reference(args: argparse.Namespace, generator: Generator, observation: Observation) -> Image:
    csgm_steps, steps = _steps(args, generator, observation)
    loop = PlainLoop(generator, observation)
    loop.csgm(csgm_steps, args.restarts)
    return loop.iagan(steps).image


def _ours(
    args: argparse.Namespace, generator: Generator, observation: Observation, paper: bool
) -> Image:
    if not paper:
        return iagan.reconstruct(observation, generator, "iagan").image
    csgm_steps, steps = _steps(args, generator, observation)
    return iagan.reconstruct(
        observation,
        generator,
        "iagan",
        effort="paper",
        csgm_steps=csgm_steps,
        steps=steps,
        restarts=args.restarts,
    ).image


def _scores(
    args: argparse.Namespace, image: Image, truth: Image, observation: Observation
) -> dict[str, float]:
    gap = observation.operator(image) - observation.y
    image = image.detach().clamp(0, 1)
    return {
        "objective": float(gap.abs().square().sum()),
        "mse": float((image - truth).square().mean()),
        "lpips": float(measure.lpips(image, truth, net=args.lpips)[0]),
    }


def _report(records: list[dict[str, Any]], count: int) -> dict[str, object]:
    print("\n| task | | N | s an image | PSNR dB | LPIPS | objective | × reference's time |")
    print("|" + "---|" * 8)
    found: dict[str, object] = {}
    for task in TASKS.values():
        of = {
            who: {r["image"]: r for r in records if r["task"] == task and r["who"] == who}
            for who in WHO
        }
        by_all = sorted(set.intersection(*(set(rows) for rows in of.values())))
        if not by_all:
            continue
        means = {who: _means([rows[image] for image in by_all]) for who, rows in of.items()}
        for who, m in means.items():
            ratio = means["reference"]["seconds"] / m["seconds"]
            print(
                f"| {task} | {who} | {len(by_all)} of {count} | {m['seconds']:.1f} "
                f"| {m['psnr']:.2f} | {m['lpips']:.3f} | {m['objective']:.3g} | {ratio:.1f} |"
            )
        found[task] = means
    return found


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    found = {
        name: statistics.mean(row[name] for row in rows)
        for name in ("seconds", "mse", "lpips", "objective")
    }
    return found | {"psnr": -10 * math.log10(found["mse"])}
