"""Back-projection (eqs. 9–11), and baselines without a prior."""

from __future__ import annotations

import dataclasses as dc
import math
from typing import ClassVar

import torch
from torch import Tensor

from iagan.methods.base import Method, check_method, register
from iagan.methods.estimate import Estimate
from iagan.methods.task import Task
from iagan.observation import Observation
from iagan.operators import LinearOperator
from iagan.operators.checks import as_tensor
from iagan.operators.linalg import RCOND, to_double
from iagan.types import Image, ImageLike

INVISIBLE = 1 / 255
"""Largest standard deviation of noise on an image in [0, 1] that is invisible."""


@register
@dc.dataclass(frozen=True)
class Naive(Method):
    """The paper's naive baseline: bicubic upsampling, zero-filling, or the blurred image itself."""

    kind: ClassVar[str] = "naive"
    needs_prior: ClassVar[bool] = False

    def run(self, task: Task) -> Estimate:
        """Apply the operator's `naive`."""
        observation = task.observation
        return Estimate.direct(observation.operator.naive(observation.y))


@register
@dc.dataclass(frozen=True)
class PseudoInverse(Method):
    """A† y, the least-squares image of smallest norm, computed in double precision."""

    kind: ClassVar[str] = "pinv"
    needs_prior: ClassVar[bool] = False

    def run(self, task: Task) -> Estimate:
        """Apply the operator's `pinv`; the result is at least single precision."""
        observation = task.observation
        image = observation.operator.pinv(to_double(observation.y))
        return Estimate.direct(image.to(torch.promote_types(task.dtype, torch.float32)))


@register
@dc.dataclass(frozen=True)
class BackProjected(Method):
    r"""The estimate of `inner`, corrected to fit y: $\hat x + A^\dagger(y - A\hat x)$ (eq. 10).

    For y with little or no noise, since A† amplifies it (`noise_gain`).
    """

    kind: ClassVar[str] = "back-projected"

    inner: Method

    def __post_init__(self) -> None:
        check_method(self, "inner")

    @property
    def needs_prior(self) -> bool:  # type: ignore[override]
        """Whether the inner method needs one."""
        return self.inner.needs_prior

    @property
    def name(self) -> str:
        """The inner method's name with `-bp`, such as `"csgm-bp"`."""
        return f"{self.inner.name}-bp"

    def iterations(self) -> dict[str, int]:
        """Iterations of the inner method."""
        return self.inner.iterations()

    def run(self, task: Task) -> Estimate:
        """Back-project the inner estimate."""
        before = task.estimate(self.inner)
        return dc.replace(before, image=back_project(before.image, task.observation))

    def messages(self, task: Task) -> list[str]:
        """The inner method's warnings, and one about the noise added by A† if it is visible."""
        observation = task.observation
        inner = [f"{each} (before back-projection)" for each in self.inner.messages(task)]
        if is_nearly_noiseless(observation):
            return inner
        sigma, gain = float(observation.sigma.max()), noise_gain(observation.operator)
        advice = f"Use {self.inner.name} instead."
        if gain is None:
            added = f"and the noise e has std {sigma:.3g}."
        else:
            alone = -20 * math.log10(max(gain * sigma, 1e-12))
            added = f"of std {gain * sigma:.3g}: alone that would be {alone:.1f} dB."
        return [
            *inner,
            f"{self.name}: back-projection adds A†e to the image, {added} {advice}",
        ]


def back_project(image: ImageLike, observation: Observation) -> Image:
    r"""The image nearest to `image` that fits y: $\hat x + A^\dagger(y - A\hat x)$ (eq. 10).

    Applied twice, in double precision: the second pass removes the rounding errors of the first.

    **Shapes:** `image` and the result are `(batch, channels, h, w)`.
    """
    given = as_tensor("back_project", image)
    operator, y, x = observation.operator, to_double(observation.y), to_double(given)
    for _ in range(2):
        x = x + operator.pinv(y - operator(x))
    return x.to(given.dtype)


def noise_gain(operator: LinearOperator) -> float | None:
    r"""Amplification of noise by A†, per pixel: $\sqrt{\sum_i s_i^{-2} / n}$ (eq. 11).

    None where the singular values are expensive. Those below `RCOND` of the largest count as zero.
    """
    values: Tensor | None = operator.singular_values()
    if values is None:
        return None
    kept = values[values > RCOND * values[0]]
    return math.sqrt(float(kept.double().pow(-2).sum()) / operator.n)


def is_nearly_noiseless(observation: Observation) -> bool:
    """Whether the noise remains invisible after A†: a standard deviation of at most 1/255.

    True for the rounding to 8 bits of a downscaled image, but not of a blurred one.
    """
    if not observation.is_noisy:
        return True
    gain = noise_gain(observation.operator)
    return gain is not None and gain * float(observation.sigma.max()) <= INVISIBLE
