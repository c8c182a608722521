"""CSGM: fit the latent (Bora et al. 2017; arXiv 1906.05284, eq. 2)."""

from __future__ import annotations

import dataclasses as dc
import math
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from iagan.engine.minimize import Leaves, MinimizeOptions, MinimizeResult
from iagan.errors import SettingError
from iagan.methods.base import (
    Method,
    check_choice,
    check_flag,
    check_integer,
    check_number,
    register,
)
from iagan.methods.estimate import Estimate
from iagan.methods.networks import synthesis
from iagan.methods.phase import Batch
from iagan.methods.plausibility import residual_too_small
from iagan.methods.task import Task
from iagan.operators.linalg import per_image
from iagan.types import Image, Latent, PerImage

Fidelity = Literal["least-squares", "back-projection"]
Start = Literal["random", "encoder"]

MAX_RESTARTS = 10_000
"""Largest number of starts per image, all of which are in memory at once."""


@dc.dataclass(frozen=True)
class Round:
    """A round of successive halving: starts per image, and the iterations of each."""

    starts: int
    steps: int


@register
@dc.dataclass(frozen=True)
class CSGM(Method):
    r"""$\min_z \|y - A G(z)\|^2$, the best of several starts per image.

    **Arguments:** (defaults: the paper's)
    - `steps`: iterations per start; each evaluates the objective once.
    - `optimizer`: `"adam"`, or `"lbfgs"`, which needs about a tenth of the iterations.
    - `rate`: Adam's learning rate; not used by L-BFGS.
    - `restarts`: starts of z per image; the one with the smallest objective is kept. A larger
      number adds starts to those of a smaller one.
    - `halving_steps`: iterations per round of successive halving, after which the worse half of an
      image's starts is dropped, until one is left; None: no halving.
    - `first_start`: `"random"`, like all others, or `"encoder"`: the prior's encoding of the naive
      reconstruction.
    - `plateau`: a start stops when ten iterations have reduced the objective by no more than this
      fraction.
    - `fidelity`: what is minimised: `"least-squares"`, or `"back-projection"`,
      $\|A^\dagger(y - A x)\|^2$ (Tirer and Giryes, arXiv 1906.06794).
    - `latent_prior_weight`: 1/N, weight of the prior's penalty on z (`penalized`); 0: none.
    - `bounded`: project z onto the support of its distribution after each step.

    **Raises:** `SettingError` for a setting out of range.
    **Source:** arXiv 1703.03208; halving: Karnin, Koren and Somekh, ICML 2013.
    """

    kind: ClassVar[str] = "csgm"

    steps: int = 1600
    optimizer: Literal["adam", "lbfgs"] = "adam"
    rate: float = 0.1
    restarts: int = 1
    halving_steps: int | None = None
    first_start: Start = "random"
    plateau: float = 0.0
    fidelity: Fidelity = "least-squares"
    latent_prior_weight: float = 0.0
    bounded: bool = False

    def __post_init__(self) -> None:
        check_integer(self, "steps", 0)
        check_choice(self, "optimizer", ("adam", "lbfgs"))
        check_integer(self, "restarts", 1, MAX_RESTARTS)
        check_choice(self, "first_start", get_args(Start))
        check_choice(self, "fidelity", get_args(Fidelity))
        check_flag(self, "bounded")
        if self.halving_steps is not None:
            check_integer(self, "halving_steps", 1)
        for name in ("rate", "plateau", "latent_prior_weight"):
            check_number(self, name)

    def rounds(self) -> list[Round]:
        """The rounds of successive halving, rounded up; one round without halving."""
        starts, left, rounds = self.restarts, self.steps, []
        while self.halving_steps is not None and starts > 1:
            rounds.append(Round(starts, min(self.halving_steps, left)))
            starts, left = -(-starts // 2), left - rounds[-1].steps
        return [*rounds, Round(starts, left)]

    def iterations(self) -> dict[str, int]:
        """Iterations of all starts of an image."""
        return {"csgm": sum(each.starts * each.steps for each in self.rounds())}

    def run(self, task: Task) -> Estimate:
        """The best start of each image."""
        latents, estimate = starting_latents(self, task), None
        rounds = self.rounds()
        for i, each in enumerate(rounds):
            kept = rounds[i + 1].starts if i + 1 < len(rounds) else 1
            phase = "csgm" if len(rounds) == 1 else f"csgm {i + 1}/{len(rounds)}"
            result = self._minimize(task, phase, each, latents)
            objective = result.objective.view(task.count, each.starts)
            first = torch.arange(task.count, device=objective.device)[:, None] * each.starts
            survivors = (first + objective.argsort(dim=1, stable=True)[:, :kept]).flatten()
            current = Estimate.of(result)
            estimate = (current if estimate is None else current.after(estimate)).pick(survivors)
            latents = result.variables["z"][survivors]
        assert estimate is not None
        return estimate

    def messages(self, task: Task) -> list[str]:
        """A warning if the residual is too small for `noise_std`."""
        latent = task.generator.latent
        size = math.prod(latent.shape)
        return residual_too_small(self.name, task.estimate(self).image, task.observation, size)

    def _minimize(self, task: Task, phase: str, each: Round, latents: Latent) -> MinimizeResult:
        """One round from `latents`, `(images · starts, ...)`."""
        generate = synthesis(task.generator, task.execution, exact=self.optimizer == "lbfgs")
        latent = task.generator.latent
        image_of = torch.arange(task.count, device="cpu").repeat_interleave(each.starts)

        def make(problems: Tensor, checkpointing: bool) -> Batch:
            indices = image_of[problems].to(latents.device)

            def objective(leaves: Leaves, step: int, among: Tensor) -> tuple[PerImage, Image]:
                first = step == 0 and torch.is_grad_enabled()
                z = leaves["z"].clone() if first else leaves["z"]
                x = generate(z)
                misfit = task.misfit(x, indices[among], self.fidelity)
                if first:
                    refuse_flat(z, x, misfit)
                if self.latent_prior_weight:
                    penalty = latent.penalty(leaves["z"])
                    misfit = penalized(misfit, penalty, self.latent_prior_weight)
                return misfit, x

            rates = {"z": self.rate} if self.optimizer == "adam" else None
            project = latent_projection(task) if self.bounded else None
            options = MinimizeOptions(each.steps, rates, plateau=self.plateau, project=project)
            return Batch(objective, {"z": latents[problems].clone()}, options)

        return task.minimize(phase, make, image_of, together=True)


def refuse_flat(z: Latent, x: Image, misfit: PerImage) -> None:
    """Refuse a generator through which no gradient reaches z, so CSGM would never move.

    **Raises:** `SettingError`, immediately if `x` = G(z) does not depend on z, or in the backward
    pass if the gradient of `misfit` is exactly zero for every z.
    """
    message = (
        "CSGM expects a generator that can be differentiated; no gradient reaches its latents. "
        "Look for detach(), no_grad(), round() or numpy in its forward()."
    )
    if not x.requires_grad:
        raise SettingError(message)

    def check(gradient: Tensor) -> None:
        if not bool(gradient.any()) and bool((misfit.detach() > 0).any()):
            raise SettingError(message)

    z.register_hook(check)


def penalized(misfit: PerImage, penalty: PerImage, weight: float) -> PerImage:
    r"""misfit · $e^{p / N}$ with 1/N = `weight` and p the latent space's `penalty`.

    Its logarithm is, up to constants, the negative log posterior
    $\frac N2 \log \|y - A G(z)\|^2 + \frac12 p(z)$, where p is -2 times the log density of z and
    y - A G(z) is modelled by N independent normal variables of unknown variance.
    """
    return misfit * torch.exp(weight * penalty)


def latent_projection(task: Task):  # type: ignore[no-untyped-def]
    """A function that projects z in place onto the support of its distribution."""
    latent = task.generator.latent

    def project(leaves: Leaves) -> None:
        leaves["z"].copy_(latent.project(leaves["z"]))

    return project


def starting_latents(method: CSGM, task: Task) -> Latent:
    """Initial latents, `(images · restarts, *latent)`, from a random stream per image.

    With `first_start="encoder"`, the encoded latent replaces the first random one of each image.
    """
    latent = task.generator.latent
    encoded = encoded_latents(method, task) if method.first_start == "encoder" else None
    starts = []
    for image, seed in enumerate(task.seeds):
        rng = torch.Generator().manual_seed(seed)
        own = [latent.sample(1, rng) for _ in range(method.restarts)]
        if encoded is not None:
            own[0] = encoded[image : image + 1].cpu()
        starts += own
    return torch.cat(starts).to(task.device, task.dtype)


@torch.no_grad()
def encoded_latents(method: CSGM, task: Task) -> Latent:
    r"""The encoding of the naive reconstruction or the mean latent, whichever fits y better:
    `(images, *latent)`.

    The mean is the better start where the naive reconstruction is uninformative, as with few
    Gaussian measurements.
    """
    prior, observation = task.generator, task.observation
    z = prior.encode(observation.operator.naive(observation.y).clamp(0, 1))
    if z is None:
        raise SettingError(
            f"{method.name} expects a prior with an encoder for first_start='encoder'; "
            f"{prior.about.name} has none. Use first_start='random'."
        )
    mean = prior.latent.mean.to(z).expand_as(z)
    every = torch.arange(task.count, device=z.device)
    fit, mean_fit = (task.misfit(prior(start), every, method.fidelity) for start in (z, mean))
    return torch.where(per_image(fit < mean_fit, z), z, mean)
