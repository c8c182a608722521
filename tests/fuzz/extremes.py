"""Observations at the edge of what numbers can be, through every method with few steps."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from random import Random

import torch
from torch import Tensor

import iagan
from fuzz import seeds
from iagan.operators import (
    BicubicDownsample,
    FFTBlur,
    Gaussian,
    Identity,
    Inpaint,
    LinearOperator,
    SeparableBlur,
    Stack,
    SubsampledFourier,
    UniformBlur,
)

SHAPE = (3, 32, 32)
SCALES = (0, 1, -1, 255, 1e-300, 1e-45, 1e-20, 1e20, 1e30, 1e38, 1e300)
SIGMAS = (*[0] * 8, *[0.04, 1, 1e-320, 1e-12, 1e6, 1e12] * 2, 1e300, float("nan"), float("inf"), -1)
PATTERNS = (*("constant", "noise", "one number", "an image's") * 3, "one NaN", "one Inf")
ITERATED = ("stack", "composed")
"""Operators whose A† is iterated."""
DTYPES = ("float16", "bfloat16", "float32", "float64")


@functools.cache
def operators() -> dict[str, LinearOperator]:
    pixel = torch.zeros(32, 32, dtype=torch.bool)
    pixel[5, 7] = True
    blur = UniformBlur(SHAPE, 9)
    return {
        "denoise": Identity(SHAPE),
        "downscaling": BicubicDownsample(SHAPE, 4),
        "one pixel": BicubicDownsample(SHAPE, 32),
        "blur": blur,
        "singular blur": FFTBlur(SHAPE, torch.ones(4, 4) / 16),
        "tiny blur": SeparableBlur(SHAPE, (1e-12, 1e-13), (1.0,)),
        "m = 1": Gaussian(SHAPE, 1, seed=0),
        "Gaussian": Gaussian.from_ratio(SHAPE, 0.05, 0),
        "a pixel seen": Inpaint(SHAPE, pixel),
        "a frequency": SubsampledFourier(SHAPE, pixel),
        "Fourier": SubsampledFourier.random(SHAPE, 0.3, 0),
        "scaled down": 1e-12 * Identity(SHAPE),
        "scaled up": 1e12 * blur,
        "nothing left": Identity(SHAPE) - Identity(SHAPE),
        "stack": Stack((blur, Inpaint(SHAPE, pixel))),
        "composed": BicubicDownsample(SHAPE, 4) @ blur,
    }


def _methods() -> list[iagan.Method]:
    csgm = iagan.CSGM(2)
    lbfgs = iagan.CSGM(3, "lbfgs", restarts=3, halving_steps=1, latent_prior_weight=0.01)
    projected = iagan.CSGM(2, fidelity="back-projection")
    return [
        *(iagan.Naive(), iagan.PseudoInverse(), iagan.DIP(1), csgm, lbfgs, projected),
        *(iagan.IAGAN(csgm, 2), iagan.IAGAN(lbfgs, 2, fidelity="back-projection")),
        *(iagan.BackProjected(csgm), iagan.BackProjected(iagan.IAGAN(csgm, 2, noise_share=0.98))),
    ]


def make(rng: Random, folder: Path) -> Path:
    """The trial in words, as JSON."""
    trial = {
        "operator": rng.choice(list(operators())),
        "pattern": rng.choice(PATTERNS),
        "scale": rng.choice(SCALES),
        "dtype": rng.choice(DTYPES),
        "batch": rng.choice([1, 1, 2]),
        "sigma": rng.choice(SIGMAS),
        "method": rng.choice(_methods()).spec(),
    }
    if trial["method"]["method"] == "dip" or trial["operator"] in ITERATED:
        trial["batch"] = 1  # a step of DIP, and an A† by a thousand iterations, take two seconds
    if trial["operator"] in ITERATED and "back-projection" in json.dumps(trial["method"]):
        trial["method"] = iagan.PseudoInverse().spec()  # one A†, not one in every step
    path = folder / "trial.json"
    path.write_text(json.dumps(trial))
    return path


def _measured(trial: dict, operator: LinearOperator) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    pattern, shape = trial["pattern"], (trial["batch"], *operator.measurement_shape)
    if pattern == "an image's":
        x = torch.rand(trial["batch"], *SHAPE, generator=generator, dtype=torch.float64)
        y = trial["scale"] * operator(x)
    else:
        noisy = pattern == "noise"
        kind = torch.complex128 if operator.complex_valued else torch.float64
        y = torch.randn(shape, generator=generator, dtype=kind) if noisy else torch.ones(shape)
        y = trial["scale"] * y.to(kind)
        if pattern.startswith("one"):
            last = {"one NaN": float("nan"), "one Inf": float("inf")}.get(pattern, trial["scale"])
            y = torch.zeros_like(y)
            y.view(-1)[-1] = last
    if operator.complex_valued:
        return y if trial["dtype"] == "float64" else y.to(torch.complex64)
    return y.to(getattr(torch, trial["dtype"]))


def read(path: Path) -> None:
    """Recover it; what is not finite has to be said."""
    trial = json.loads(path.read_text())
    operator = operators()[trial["operator"]]
    observation = iagan.Observation(_measured(trial, operator), operator, trial["sigma"])
    method = iagan.methods.from_spec(trial["method"])
    result = iagan.reconstruct(observation, seeds.prior(), method)
    assert result.image.shape == (trial["batch"], *SHAPE)
    assert all(message.isprintable() for message in result.messages)
    assert torch.isfinite(result.image).all() or result.messages, "an image that is not finite"
