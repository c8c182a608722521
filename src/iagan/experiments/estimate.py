"""Estimated run time of a plan on this machine, from a few timed steps of each phase."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch

from iagan.engine import Execution
from iagan.experiments.paper import Setting
from iagan.experiments.plan import Plan, simulate, truth_of
from iagan.methods import presets, reconstruct
from iagan.observation import Observation
from iagan.priors import Generator

logger = logging.getLogger("iagan")

PROBE = 3
"""Timed steps of each phase."""


def estimate_seconds(
    plan: Plan,
    generator: Generator,
    records: list[dict[str, Any]],
    execution: Execution | None = None,
) -> dict[str, float]:
    """Seconds by phase ("csgm", "iagan", "dip").

    Only the first pending setting is timed and assumed for all; Gaussian settings take longer.
    """
    done = {(r["setting"], r["method"], r["image"]) for r in records}
    counts: dict[str, float] = {}
    example: Observation | None = None
    for _, setting, names in plan.tasks():
        waiting = plan.waiting(setting, names, done)
        if not waiting:
            continue
        example = example or _example(plan, setting, generator)
        iterations: dict[str, int] = {}
        for method in plan.methods_of(setting, names, generator).values():
            iterations |= method.iterations()
        for phase, each in iterations.items():
            counts[phase] = counts.get(phase, 0) + each * len(waiting)
    if example is None:
        return {}
    return {
        phase: count * _pace(phase, example, generator, execution)
        for phase, count in counts.items()
    }


def format_estimate(seconds: dict[str, float]) -> str:
    """One line with the total and the phases."""
    if not seconds:
        return "no iterative method is left to run"
    parts = ", ".join(f"{phase.upper()} {_format_duration(s)}" for phase, s in seconds.items())
    return f"about {_format_duration(sum(seconds.values()))} on this machine ({parts})"


def _example(plan: Plan, setting: Setting, generator: Generator) -> Observation:
    paths = plan.images[: plan.chunk]
    truth = torch.cat([truth_of(path, setting, generator) for path in paths])
    return simulate(plan, setting, setting.build(generator.image_shape), truth, paths)


def _pace(
    phase: str, observation: Observation, generator: Generator, execution: Execution | None
) -> float:
    """Seconds per step and image, without the warnings of so short a run."""
    preset = presets.paper(phase, observation, generator)
    method = presets.adjust(preset, csgm_steps=PROBE if phase == "csgm" else 0, steps=PROBE)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        for _ in range(2):  # the first call warms up
            begun = time.perf_counter()
            reconstruct(observation, generator, method, execution=execution)
            taken = time.perf_counter() - begun
    finally:
        logger.setLevel(level)
    return taken / PROBE / len(observation)


def _format_duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
