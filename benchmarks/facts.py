"""The machine's specification, and its peak rates for the operations of a step."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import iagan
from iagan.errors import SettingError
from iagan.observation import Observation
from iagan.priors import About, Began, Generator, LatentSpace, Pggan, SphericalLatent, UniformLatent
from iagan.priors.networks.pggan import CELEBA_HQ


def count(text: str) -> int:
    """An option that is a number of things."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expects at least 1; got {value}.")
    return value


def began(name: str) -> Generator:
    """The prior of an option, a BEGAN, as the reference requires."""
    generator = iagan.load_prior(name)
    if not isinstance(generator.module, Began):
        raise SettingError(
            f"--prior expects a BEGAN; {name} is a {type(generator.module).__name__}."
        )
    return generator


def machine() -> dict[str, object]:
    """The specification recorded with every result."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(names) or None,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "iagan")},
    }


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call, with the device synchronised."""
    _wait()
    begun = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - begun


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def interleaved(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each function, in `rounds` interleaved rounds after one to warm up."""
    taken_by: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(rounds + 1):
        for name, work in works.items():
            taken = seconds(work)
            if round_ > 0:
                taken_by[name].append(taken)
    return taken_by


def step_seconds(
    works: dict[str, Callable[[int], object]], steps: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds per step of each function, interleaved: a run of 3·`steps` less one of `steps`.

    So neither set-up nor the last evaluation counts.
    """
    runs: dict[str, Callable[[], object]] = {}
    for name, work in works.items():
        runs[f"{name} short"] = partial(work, steps)
        runs[f"{name} long"] = partial(work, 3 * steps)
    taken = interleaved(runs, rounds)
    return {
        name: [
            max(long - short, 1e-9) / (2 * steps)
            for short, long in zip(taken[f"{name} short"], taken[f"{name} long"], strict=True)
        ]
        for name in works
    }


def phase(
    observation: Observation,
    generator: Generator,
    name: str,
    execution: iagan.Execution | None = None,
) -> Callable[[int], object]:
    """A function that runs a number of steps of CSGM, or of IAGAN without CSGM, at the paper's
    rates.
    """
    preset = iagan.presets.paper(name, observation, generator)

    def work(steps: int) -> object:
        csgm_steps, own = (steps, 0) if name == "csgm" else (0, steps)
        method = iagan.presets.adjust(preset, csgm_steps=csgm_steps, steps=own)
        return iagan.reconstruct(observation, generator, method, execution=execution)

    return work


def conv_rate(channels: int, side: int, batch: int, rounds: int = 9) -> float:
    """Operations per second (two per multiply-add) of one 3×3 convolution, channels last."""
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last)
    with torch.no_grad():
        taken = interleaved({"conv": lambda: layer(x)}, rounds)["conv"]
    return 2 * 9 * channels**2 * side**2 * batch / statistics.median(taken)


def matrix_rate(device: str, dtype: torch.dtype, side: int, rounds: int = 9) -> float:
    """Operations per second of a product of two square matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    taken = interleaved({"product": lambda: a @ b}, rounds)["product"]
    return 2 * side**3 / statistics.median(taken)


def random_began(channels: int, side: int) -> Generator:
    """A BEGAN with random weights, as fast as a trained one."""
    return _random(lambda: Began(channels, side, 64), UniformLatent((64,)))


def random_pggan(channels: Sequence[int] = CELEBA_HQ) -> Generator:
    """A PGGAN of 1024×1024, or of `channels`, with random weights."""
    return _random(lambda: Pggan(channels), SphericalLatent((512, 1, 1)))


def _random(make: Callable[[], nn.Module], latent: LatentSpace) -> Generator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
    return Generator(module, latent, about=About("random", type(module).__name__.lower()))


def operations(generator: Generator, weights: bool) -> int:
    """Operations of one step for one image: forward, and backward to z (and to the weights)."""
    module = generator.to("cpu").module.requires_grad_(weights)
    z = generator.latent.sample(1, torch.Generator().manual_seed(0)).requires_grad_(True)
    with FlopCounterMode(display=False) as counter:
        module(z).sum().backward()
    return counter.get_total_flops()
