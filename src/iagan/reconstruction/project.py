"""Back-projection (eqs. 9–11) and the baselines that need no prior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from iagan.observation import Observation
from iagan.operators import LinearOperator
from iagan.reconstruction.result import widen
from iagan.types import Image


def back_project(image: Image, observation: Observation) -> Image:
    r"""The image nearest to `image` that fits y: $\hat x + A^\dagger(y - A\hat x)$ (eq. 10).

    Done twice, in double precision: the second pass removes what rounding left of the residual.

    **Shapes:** `image` and the result are `(batch, channels, h, w)`.
    """
    operator, y, x = observation.operator, widen(observation.y), widen(image)
    for _ in range(2):
        x = x + operator.pinv(y - operator(x))
    return x.to(image.dtype)


def noise_gain(operator: LinearOperator) -> float | None:
    r"""By how much A† amplifies noise in the image: $\sqrt{\sum_i s_i^{-2} / n}$ (eq. 11).

    None where the singular values are not known cheaply. Values below 1e-10 of the largest count
    as zero, as they do for A†.
    """
    values = operator.singular_values()
    if values is None:
        return None
    kept = values[values > 1e-10 * values[0]]
    return math.sqrt(float(kept.double().pow(-2).sum()) / operator.n)


def naive(observation: Observation) -> Tensor:
    """The paper's naive baseline: bicubic upsampling, zero-filled, the blurred image itself."""
    return observation.operator.naive(observation.y)


def pinv(observation: Observation) -> Tensor:
    """A† y, in double precision inside."""
    y = observation.y
    dtype = y.real.dtype if y.is_complex() else y.dtype
    return observation.operator.pinv(widen(y)).to(torch.promote_types(dtype, torch.float32))
