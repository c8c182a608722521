"""Checks of a measurement's claimed operator, range and noise against y itself."""

from __future__ import annotations

import torch
from torch import Tensor

from iagan.errors import SettingError
from iagan.methods.result import residual_norms
from iagan.observation import Observation
from iagan.operators import adjoint_gap
from iagan.types import Image

GRID = 4
"""Number of blocks per side whose means are computed from y."""
PROBE_BYTES = 2**26
"""Bytes of the test images that are measured in one batch."""
SLACK, IMPOSSIBLE = 0.25, 1.5
"""How far outside [0, 1] the mean of a block may be, as a fraction of that range, without a
warning and without an error."""
DARK = 0.02
"""An image whose block means are all smaller counts as black."""
ADJOINT_GAP = 1e-3
"""Largest accepted `adjoint_gap` of an operator; rounding causes 1e-7."""
FAR, FAR_RELATIVE = 2.0, 0.04
"""A residual above FAR noise floors plus FAR_RELATIVE ‖y‖ after adaptation is reported. On
validation faces with the correct operator it is at most 0.027 ‖y‖ with the fast effort."""
NEAR = 0.9
"""A residual of CSGM below NEAR noise floors is reported: its few latents cannot fit noise."""


def check_observation(observation: Observation) -> list[str]:
    r"""Warnings about y, one line each.

    For any image u, $\langle y, A u \rangle = \langle x, A^\top A u \rangle + \langle e, A u
    \rangle$, and for x in [0, 1] the first term lies between the sums of the negative and of the
    positive entries of $A^\top A u$. u is white, and each of 4×4 blocks of it.

    **Raises:** `SettingError` if no image close to [0, 1] can have produced y, or the operator's
    `adjoint` is not the adjoint of its `forward`.
    """
    operator = observation.operator
    gap = adjoint_gap(operator)
    if not gap <= ADJOINT_GAP:
        raise SettingError(
            f"{type(operator).__name__} expects <A x, y> = <x, A' y>; got a relative difference of "
            f"{gap:.2g}. Correct its forward or its adjoint."
        )
    caveats = operator.caveats()
    means, excess = _block_means(observation)
    if not means.numel():
        return caveats
    low, high = float(means.min()), float(means.max())
    if excess > SLACK:
        span = f"block means from {low:.3g} to {high:.3g}"
        advice = "Rescale y and σ, or the operator."
        if excess > IMPOSSIBLE:
            raise SettingError(
                f"reconstruct expects y of an image in [0, 1]; got one with {span}. {advice}"
            )
        caveats.append(f"y is not a measurement of an image in [0, 1]: {span}. {advice}")
    elif high < DARK:
        caveats.append(
            f"y is a measurement of a nearly black image, with block means up to {high:.2g}. "
            "Unless the image is that dark, rescale y and σ."
        )
    return caveats


def residual_too_large(name: str, image: Image, observation: Observation) -> list[str]:
    """A warning if a method that can fit any image has left a residual far above the noise."""
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
        else f"{float(relative[worst]):.2g} ‖y‖ although σ is 0"
    )
    fitting = float(residual[worst]) / observation.operator.m**0.5
    return [
        f"{name}: the residual is still {by}{_count(far)}. Either there were too few iterations, "
        f"or the operator or the noise level is wrong (σ = {fitting:.2g}, which is "
        f"{255 * fitting:.1f}/255, would match the residual)."
    ]


def residual_too_small(
    name: str, image: Image, observation: Observation, latents: int
) -> list[str]:
    """A warning if the pretrained network fits y better than noise of that σ allows."""
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
        f"{name}: the residual is already {float(residual[worst] / floor[worst]):.2g} times the "
        f"noise floor{_count(near)}, so y has less noise than was said (σ ≤ {fitting:.2g}, which "
        f"is {255 * fitting:.1f}/255). "
        "Too large a σ removes details as if they were noise."
    ]


def _count(which: Tensor) -> str:
    total = len(which)
    return "" if total == 1 else f" (for {int(which.sum())} of {total} images)"


def _block_means(observation: Observation) -> tuple[Tensor, float]:
    """Block means of the image as implied by y, `(batch, blocks)`, and how far the worst one lies
    outside [0, 1] beyond what noise explains, as a fraction of that range. Blocks whose mean does
    not follow from y are omitted; for operators such as differences of pixels, all of them.
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
    """A white image, and one with each block white on black, `(1 + blocks, *shape)`."""
    _, height, width = shape
    rows = torch.arange(height, device="cpu") * GRID // height
    columns = torch.arange(width, device="cpu") * GRID // width
    place = rows[:, None] * GRID + columns
    blocks = [
        (place == block).to(torch.float32)
        for block in range(GRID**2)
        if bool((place == block).any())
    ]
    return torch.stack([torch.ones_like(blocks[0]), *blocks])[:, None].expand(-1, *shape)
