"""Whether a measurement is what was said of it: what y itself tells of its range and its noise."""

from __future__ import annotations

import torch
from torch import Tensor

from iagan.errors import SettingError
from iagan.methods.result import residual_norms
from iagan.observation import Observation
from iagan.operators import adjoint_gap
from iagan.types import Image

GRID = 4
"""Blocks a side whose means y is asked for."""
PROBE_BYTES = 2**26
"""Bytes of the probing images that are measured together."""
SLACK, IMPOSSIBLE = 0.25, 1.5
"""How far beyond [0, 1] the mean of a block may be, as a share of it: without a message, and
before the measurement is refused."""
DARK = 0.02
"""Largest mean of a block below which an image counts as black."""
ADJOINT_GAP = 1e-3
"""Largest `adjoint_gap` of an operator: rounding gives 1e-7."""
FAR, FAR_RELATIVE = 2.0, 0.04
"""An adapted network should not end with a residual beyond so many noise floors and this share of
y. On validation faces and their right operators it is 0.027 of y at most after the fast effort."""
NEAR = 0.9
"""Noise floors that a network with few latents should not get below: noise is not in its range."""


def check_observation(observation: Observation) -> list[str]:
    r"""What the user should know of y, one line each.

    For any image u, $\langle y, A u \rangle = \langle x, A^\top A u \rangle + \langle e, A u
    \rangle$, and for x in [0, 1] the first term lies between the sums of the negative and of the
    positive entries of $A^\top A u$. u is white, and each of 4×4 blocks of it.

    **Raises:** `SettingError` where no image near [0, 1] can have been measured, or the operator's
    `adjoint` is not its adjoint.
    """
    operator = observation.operator
    gap = adjoint_gap(operator)
    if not gap <= ADJOINT_GAP:
        raise SettingError(
            f"{type(operator).__name__}: <A x, y> and <x, A' y> differ by {gap:.2g} of their size; "
            "its adjoint is not that of its forward. Mend one of them."
        )
    means, excess = _block_means(observation)
    if not means.numel():
        return []
    low, high = float(means.min()), float(means.max())
    if excess > SLACK:
        span = f"block means from {low:.3g} to {high:.3g}"
        advice = "Rescale y and σ, or mend the operator's factor."
        if excess > IMPOSSIBLE:
            raise SettingError(
                f"y expects an image in [0, 1] behind it; got one with {span}. {advice}"
            )
        return [f"y is not of an image in [0, 1], but of one with {span}. {advice}"]
    if high < DARK:
        return [
            f"y is of an image that is nearly black: no block's mean is above {high:.2g} of 1. "
            "If it is not black, rescale y and σ."
        ]
    return []


def too_far(name: str, image: Image, observation: Observation) -> list[str]:
    """A message where a method that can fit any image did not come near to y's noise."""
    residual, relative = residual_norms(image, observation)
    floor = observation.noise_floor.to(residual)
    size = residual / relative.clamp_min(torch.finfo(relative.dtype).tiny)
    excess = residual - FAR * floor - FAR_RELATIVE * size
    far = excess > 0
    if not bool(far.any()):
        return []
    worst = int(excess.argmax())
    by = (
        f"{float(residual[worst] / floor[worst]):.2g} times the noise floor"
        if float(floor[worst]) > 0
        else f"{float(relative[worst]):.2g} of y, which was said to have no noise"
    )
    fitting = float(residual[worst]) / observation.operator.m**0.5
    return [
        f"{name}: the residual is still {by}{_count(far)}: too few iterations, or the measurement "
        f"is not what was said, its operator or its noise (σ = {fitting:.2g} would fit)."
    ]


def too_near(name: str, image: Image, observation: Observation, latents: int) -> list[str]:
    """A message where the unadapted network fits y better than its noise allows."""
    if observation.operator.m < 4 * latents or not observation.is_noisy:
        return []
    residual, _ = residual_norms(image, observation)
    floor = observation.noise_floor.to(residual)
    near = residual < NEAR * floor
    if not bool(near.any()):
        return []
    worst = int((residual / floor.clamp_min(1e-30)).argmin())
    fitting = float(residual[worst]) / observation.operator.m**0.5
    return [
        f"{name}: y has less noise than was said{_count(near)}: the residual is already "
        f"{float(residual[worst] / floor[worst]):.2g} of the noise floor (σ = {fitting:.2g} at "
        "most). With too large a σ, details are taken for noise."
    ]


def _count(which: Tensor) -> str:
    total = len(which)
    return "" if total == 1 else f" for {int(which.sum())} of {total} images"


def _block_means(observation: Observation) -> tuple[Tensor, float]:
    """The means that y tells of blocks, `(batch, blocks)`, and how far the farthest is beyond
    [0, 1], as a share of it, the noise allowed for. Of some operators, such as differences of
    pixels, y tells no means.
    """
    operator = observation.operator
    y = observation.y.flatten(1)
    probes = _blocks(operator.image_shape).to(y.device, y.real.dtype)
    together = max(1, PROBE_BYTES // (probes[0].numel() * probes.element_size()))
    values, lows, highs, noises = [], [], [], []
    for few in probes.split(together):
        measured = operator(few)
        weights = operator.adjoint(measured).flatten(1).double()
        measured = measured.flatten(1)
        values.append((y @ measured.conj().T).real.double())
        lows.append(weights.clamp_max(0).sum(1))
        highs.append(weights.clamp_min(0).sum(1))
        noises.append(measured.abs().double().square().sum(1).sqrt())
    value, low, high, noise = (
        torch.cat(values, 1),
        torch.cat(lows),
        torch.cat(highs),
        torch.cat(noises),
    )
    span = high - low
    seen = (high > 1e-6 * high.max()) & (high > 0.5 * span)
    value, low, high, span, noise = value[:, seen], low[seen], high[seen], span[seen], noise[seen]
    slack = 4 * observation.sigma.to(y.device)[:, None] * noise
    excess = torch.maximum(value - high - slack, low - value - slack) / span
    return value / high, float(excess.max()) if excess.numel() else 0.0


def _blocks(shape: tuple[int, int, int]) -> Image:
    """White, and each block of it on black, `(1 + blocks, *shape)`."""
    _, height, width = shape
    rows = torch.arange(height) * GRID // height
    columns = torch.arange(width) * GRID // width
    place = rows[:, None] * GRID + columns
    blocks = [(place == block).float() for block in range(GRID**2) if bool((place == block).any())]
    return torch.stack([torch.ones(height, width), *blocks])[:, None].expand(-1, *shape)
