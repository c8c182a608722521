"""Degraded images for the encoder: naive reconstructions of simulated measurements."""

from __future__ import annotations

from typing import get_args

import torch

from iagan.observation import observe
from iagan.operators import (
    BicubicDownsample,
    Inpaint,
    LinearOperator,
    SubsampledFourier,
    UniformBlur,
)
from iagan.operators.fourier import Sampling
from iagan.train.data import stream
from iagan.types import Image

MASKS = 3
"""Number of random masks for each operator and ratio."""
LARGEST_NOISE = 0.1
"""Upper bound of σ, which is drawn uniformly in every other step and 0 in the others."""


def degradations(image_shape: tuple[int, int, int]) -> list[LinearOperator]:
    """The operators of the paper's tables, for images of this shape, with several masks each."""
    _, height, width = image_shape
    sizes = [size for size in (3, 5, 9) if size < min(height, width)]
    scales = [scale for scale in (2, 4, 8) if not height % scale and not width % scale]
    return [
        *(BicubicDownsample(image_shape, scale=scale) for scale in scales for _ in range(3)),
        *(UniformBlur(image_shape, size=size) for size in sizes),
        *(
            SubsampledFourier.random(image_shape, ratio, seed, sampling)
            for sampling in get_args(Sampling)
            for ratio in (0.3, 0.5)
            for seed in range(MASKS)
        ),
        *(Inpaint.random(image_shape, 0.5, seed) for seed in range(MASKS)),
    ]


def degraded(x: Image, operators: list[LinearOperator], seed: int, step: int) -> Image:
    """Naive reconstructions of `x`, in [-1, 1], with the operator and noise of this step."""
    rng = stream(seed, step, "degradation")
    operator = operators[int(torch.randint(len(operators), (1,), generator=rng))]
    share = max(0.0, 2 * float(torch.rand((), generator=rng)) - 1)
    noise = stream(seed, step, "measurement noise", x.device)
    y = observe((x + 1) / 2, operator, LARGEST_NOISE * share, noise)
    return 2 * operator.naive(y.y).clamp(0, 1) - 1
