"""How long a plan will take here: a few steps of each phase, timed, times what is to be done."""

from __future__ import annotations

import time
from typing import Any

import torch

from iagan.experiments.paper import Setting
from iagan.experiments.run import Plan, simulate, truth_of
from iagan.observation import Observation
from iagan.priors import Generator
from iagan.reconstruction import reconstruct
from iagan.reconstruction.csgm import row_steps

PROBE = 3
"""Steps that are timed of each phase."""


def estimate_seconds(
    plan: Plan, generator: Generator, records: list[dict[str, Any]]
) -> dict[str, float]:
    """Seconds by phase ("csgm", "iagan", "dip"), without what needs no iterations.

    The first setting that is to be run is timed, and taken for all: Gaussian matrices, read at
    every step, take longer.
    """
    counts = {"csgm": 0.0, "iagan": 0.0, "dip": 0.0}
    pace: dict[str, float] = {}
    for _, setting, methods in plan.tasks():
        waiting = plan.waiting(setting, methods, records)
        if not waiting:
            continue
        if not pace:
            observation = _example(plan, setting, generator)
            used = set().union(*(_phases(each) for _, _, each in plan.tasks()))
            pace = {phase: _pace(phase, observation, generator) for phase in used}
        for phase in _phases(methods):
            settings = plan.resolved(phase, setting, generator)
            each = row_steps(settings) if phase == "csgm" else settings.steps
            counts[phase] += each * len(waiting)
    return {phase: count * pace[phase] for phase, count in counts.items() if count}


def in_words(seconds: dict[str, float]) -> str:
    """One line."""
    if not seconds:
        return "nothing is left that takes iterations"
    parts = ", ".join(f"{phase.upper()} {_duration(s)}" for phase, s in seconds.items())
    return f"about {_duration(sum(seconds.values()))} on this machine ({parts})"


def _phases(methods: tuple[str, ...]) -> set[str]:
    """The phases that take iterations; IAGAN begins with CSGM."""
    kinds = {method.removesuffix("-bp") for method in methods} - {"naive"}
    return kinds | {"csgm"} if "iagan" in kinds else kinds


def _example(plan: Plan, setting: Setting, generator: Generator) -> Observation:
    paths = plan.images[: plan.chunk]
    truth = torch.cat([truth_of(path, setting, generator) for path in paths])
    return simulate(plan, setting, setting.build(generator.image_shape), truth, paths)


def _pace(phase: str, observation: Observation, generator: Generator) -> float:
    """Seconds a step and image."""
    steps = {"csgm_steps": PROBE if phase == "csgm" else 0, "steps": PROBE}
    for _ in range(2):  # the first call warms up
        begun = time.perf_counter()
        reconstruct(observation, generator, phase, effort="paper", **steps)
        taken = time.perf_counter() - begun
    return taken / PROBE / len(observation)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
