"""Time to quality: the reference, ours at the paper's iterations, and ours by default.

Scores come first, one record per image, task and contestant, written at once, so that a stopped run
can be resumed, also on a busy machine. Timings follow, interleaved, on an idle machine: whole runs
of the default, and for contestants that take minutes per image some steps, extrapolated.
"""

from __future__ import annotations

import argparse
import dataclasses as dc
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

import iagan
from benchmarks import facts
from benchmarks.own_process import OwnProcess
from benchmarks.reference import PlainLoop
from iagan import measure
from iagan.cli.options import LPIPS_NETS
from iagan.errors import SettingError
from iagan.experiments.paper import Setting
from iagan.experiments.plan import Plan, readable, simulate, truth_of
from iagan.images import find_images
from iagan.jobs.records import RunFolder
from iagan.methods import Method, preferred_batch_size
from iagan.observation import Observation
from iagan.priors import Generator
from iagan.types import Image

TASKS = {"table2": "sr-4", "table1": "fourier-0.3-noise10", "table4": "deblur-u9-noise10"}
"""Experiment and setting of the tasks: ×4, Fourier 0.3 with noise, 9×9 blur."""
PAPER = {"same iterations": None, "same iterations, mixed": None, "one start, mixed": 1}
"""Number of starts with effort "paper"; None: the reference's; mixed: CSGM in bfloat16."""
WHO = ("reference", *PAPER, "default")
"""The contestants: the plain loop, ours at the paper's iterations, and our default."""
STEPS = 5
"""Steps of a short run that gives the time per step."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--prior", default="faces-64", help="a BEGAN")
    parser.add_argument("--images", required=True, help="a folder of photographs")
    parser.add_argument("--count", type=facts.count, default=20, help="of its images (default: 20)")
    parser.add_argument("--who", nargs="+", choices=WHO, default=WHO, help="default: all")
    parser.add_argument(
        "--restarts", type=facts.count, default=5, help="of the reference (default: 5)"
    )
    parser.add_argument("--steps-scale", type=float, default=1.0, help="of the reference's steps")
    parser.add_argument(
        "--lpips", choices=LPIPS_NETS, default="alex", help="backbone (default: alex)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of the time; 0: scores alone")
    parser.add_argument("--run", default="bench-out/quality", help="folder of the records")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Run what is not done yet and print the table."""
    compared = ("prior", "restarts", "steps_scale", "lpips")
    folder = RunFolder(
        Path(args.run), vars(args), compared, dict.fromkeys(("task", "image", "who"), "text")
    )
    generator = facts.began(args.prior)
    good, _ = readable(find_images([Path(args.images)]), args.count)
    if not good:
        raise SettingError(f"--images expects a folder of photographs; {args.images} has none.")
    paths, tasks = list(good), [_Task(name, key, tuple(good)) for name, key in TASKS.items()]
    size = preferred_batch_size(generator)
    for begin in range(0, len(paths), size):
        for task in tasks:
            _score(args, task, generator, paths[begin : begin + size], folder)
    seconds = {}
    for task in tasks:
        observation, _ = task.observe(generator, paths[:size])
        seconds[task.key] = _seconds(args, generator, observation)
    return _report(folder.records(), args.who, seconds)


@dc.dataclass(frozen=True)
class _Task:
    experiment: str
    key: str
    images: tuple[Path, ...]

    def observe(self, generator: Generator, group: list[Path]) -> tuple[Observation, Image]:
        """The observation of some images, and the images."""
        plan = Plan((self.experiment,), self.images, settings=(self.key,))
        setting: Setting = next(plan.tasks())[1]
        truth = torch.cat([truth_of(path, setting, generator) for path in group])
        operator = setting.build(generator.image_shape)
        return simulate(plan, setting, operator, truth, group), truth


def _score(
    args: argparse.Namespace,
    task: _Task,
    generator: Generator,
    group: list[Path],
    folder: RunFolder,
) -> None:
    done = {(r["image"], r["who"]) for r in folder.records() if r["task"] == task.key}
    observation, truth = task.observe(generator, group)
    for who in args.who:
        if all((path.name, who) in done for path in group):
            continue
        begun = time.perf_counter()
        for i, image in _recover(args, who, generator, observation):
            if (group[i].name, who) in done:
                continue
            head = {"task": task.key, "image": group[i].name, "who": who}
            scores = _scores(args, image, truth[i : i + 1], _one_of(observation, i))
            folder.append(head | scores)
            print(json.dumps(head), f"{time.perf_counter() - begun:.0f} s", flush=True)


def _recover(
    args: argparse.Namespace, who: str, generator: Generator, observation: Observation
) -> Iterator[tuple[int, Image]]:
    """The images one by one, with their indices."""
    if who == "reference":
        yield from enumerate(_references(args, generator, observation))
        return
    method: Method | str = "iagan"
    if who in PAPER:
        paper = _paper(args, generator, observation)
        method = iagan.presets.adjust(paper, restarts=PAPER[who] or args.restarts)
    execution = iagan.Execution(precision="mixed" if who.endswith("mixed") else "float32")
    result = iagan.reconstruct(observation, generator, method, execution=execution)
    yield from enumerate(result.image.split(1))


def _references(
    args: argparse.Namespace, generator: Generator, observation: Observation
) -> Iterator[Image]:
    """Process one image per thread, with one thread each; results are unchanged."""
    iterations = _paper(args, generator, observation).iterations()

    def work(i: int) -> Image:
        torch.get_num_threads()  # else what follows is overwritten
        torch.set_num_threads(1)
        loop = PlainLoop(generator, _one_of(observation, i))
        loop.csgm(iterations["csgm"], args.restarts, gradients_of_weights=False)
        return loop.iagan(iterations["iagan"]).image

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        yield from pool.map(work, range(len(observation.y)))


def _one_of(observation: Observation, i: int) -> Observation:
    return observation[i : i + 1]


def _paper(args: argparse.Namespace, generator: Generator, observation: Observation) -> Method:
    """The method with the paper's iterations, or the requested fraction of them."""
    preset = iagan.presets.paper("iagan", observation, generator)
    return iagan.presets.adjust(preset, share=args.steps_scale)


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


def _seconds(
    args: argparse.Namespace, generator: Generator, observation: Observation
) -> dict[str, list[float]]:
    """Seconds per image in every round, of the reference and every contestant."""
    seconds: dict[str, list[float]] = {who: [] for who in ("reference", *args.who)}
    if args.rounds == 0:
        return seconds
    iterations, count = _paper(args, generator, observation).iterations(), len(observation)
    phases = _phases(args, generator, observation)
    for _ in range(args.rounds):
        step = {name: s[0] for name, s in facts.step_seconds(phases, STEPS, 1).items()}
        for who, taken in seconds.items():
            if who == "default":
                whole = facts.seconds(lambda: iagan.reconstruct(observation, generator, "iagan"))
                taken.append(whole / count)
                continue
            csgm, adapt = (step[name] for name in _phases_of(who))
            starts = PAPER.get(who) or args.restarts
            whole = starts * iterations["csgm"] * csgm + iterations["iagan"] * adapt
            taken.append(whole / (1 if who == "reference" else count))
    return seconds


def _phases_of(who: str) -> tuple[str, str]:
    """Names of CSGM and IAGAN among the timed phases."""
    if who == "reference":
        return "reference csgm", "reference iagan"
    return ("mixed csgm" if who.endswith("mixed") else "csgm"), "iagan"


def _phases(
    args: argparse.Namespace, generator: Generator, observation: Observation
) -> dict[str, Callable[[int], object]]:
    """Functions that run a number of steps, of the reference and the contestants."""
    one = _one_of(observation, 0)
    phases: dict[str, Callable[[int], object]] = {
        "reference csgm": OwnProcess("csgm", generator, one),
        "reference iagan": OwnProcess("iagan", generator, one),
    }
    for who in set(args.who) & set(PAPER):
        for name in _phases_of(who):
            execution = iagan.Execution(precision="mixed" if "mixed" in name else "float32")
            phases[name] = facts.phase(observation, generator, name.split()[-1], execution)
    return phases


def _report(
    records: list[dict[str, Any]], who: tuple[str, ...], seconds: dict[str, dict[str, list[float]]]
) -> dict[str, object]:
    print("\n| task | | N | PSNR dB | LPIPS | objective | s per image | × reference's time |")
    print("|" + "---|" * 8)
    report: dict[str, object] = {}
    for task, taken in seconds.items():
        rows = {
            w: {r["image"]: r for r in records if (r["task"], r["who"]) == (task, w)} for w in who
        }
        images = sorted(set.intersection(*(set(own) for own in rows.values())))
        if not images:
            continue
        means = {w: _means([own[image] for image in images]) for w, own in rows.items()}
        for w, m in means.items():
            print(
                f"| {task} | {w} | {len(images)} | {m['psnr']:.2f} | {m['lpips']:.3f} "
                f"| {m['objective']:.3g} | {_times(taken, w)} |"
            )
        report[task] = {"scores": means, "seconds": taken, "images": len(images)}
    return report


def _times(taken: dict[str, list[float]], who: str) -> str:
    if not taken[who]:
        return "– | –"
    ratio = statistics.median(taken["reference"]) / statistics.median(taken[who])
    low, high = min(taken[who]), max(taken[who])
    return f"{statistics.median(taken[who]):.1f} ({low:.1f}–{high:.1f}) | {ratio:.1f}"


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    means = {
        name: statistics.mean(row[name] for row in rows) for name in ("mse", "lpips", "objective")
    }
    return means | {"psnr": -10 * math.log10(means["mse"])}
