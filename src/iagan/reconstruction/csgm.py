"""CSGM: fit the latent (Bora et al. 2017; arXiv 1906.05284, eq. 2)."""

from __future__ import annotations

import dataclasses as dc

import torch
from torch import Tensor

from iagan.reconstruction.optimize import Minimum, Rules
from iagan.reconstruction.result import Settings
from iagan.reconstruction.rows import Rows, together
from iagan.reconstruction.task import Estimate, Task, minimize_in_batches
from iagan.types import Latent, PerImage


@dc.dataclass(frozen=True)
class Heat:
    """A part of CSGM: the starts an image that run in it, and their iterations."""

    starts: int
    steps: int


def heats(settings: Settings) -> list[Heat]:
    """One heat, or a race: the better half of the starts, rounded up, goes on to the next heat.

    **Source:** successive halving (Karnin, Koren and Somekh, ICML 2013).
    """
    starts, left, race = settings.restarts, settings.csgm_steps, []
    while settings.race_steps is not None and starts > 1:
        race.append(Heat(starts, min(settings.race_steps, left)))
        starts, left = -(-starts // 2), left - race[-1].steps
    return [*race, Heat(starts, left)]


def row_steps(settings: Settings) -> int:
    """Iterations for an image, of all its starts together."""
    return sum(heat.starts * heat.steps for heat in heats(settings))


def csgm(task: Task, before: Estimate | None = None) -> Estimate:
    r"""$\min_z \|y - A G(z)\|^2$, or what `Task.misfit` has in its place, from `restarts` random z;
    the best start of each image.
    """
    race = heats(task.settings)
    latent, estimate = starting_latents(task), None
    for i, heat in enumerate(race):
        going_on = race[i + 1].starts if i + 1 < len(race) else 1
        phase = "csgm" if len(race) == 1 else f"csgm {i + 1}/{len(race)}"
        found = _fit(task, phase, heat, latent)
        objective = found.objective.view(task.count, heat.starts)
        first = torch.arange(task.count, device=objective.device)[:, None] * heat.starts
        rows = (first + objective.argsort(dim=1, stable=True)[:, :going_on]).flatten()
        ended = Estimate.of(found)
        estimate = (ended if estimate is None else ended.after(estimate)).pick(rows)
        latent = found.variables["z"][rows]
    assert estimate is not None
    return estimate


def _fit(task: Task, phase: str, heat: Heat, latent: Latent) -> Minimum:
    """One heat, from `latent` of `(images · starts, ...)`."""
    settings, generator = task.settings, task.prior
    if settings.csgm_optimizer == "lbfgs":  # a line search is at a loss with rounded objectives
        generator = generator.in_full_precision()
    image_of_row = torch.arange(task.count, device=latent.device).repeat_interleave(heat.starts)

    def objective(variables: Rows, step: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        z = together(variables["z"])
        x = generator(z)
        return task.misfit(x, image_of_row[rows]) * improbability(z, settings.latent_pull), x

    rates = {"z": settings.csgm_rate} if settings.csgm_optimizer == "adam" else None
    rules = Rules(heat.steps, rates, plateau=settings.csgm_plateau, project=task.projection())
    return minimize_in_batches(task, phase, objective, {"z": latent}, rules)


def improbability(z: Latent, pull: float) -> PerImage:
    r"""$e^{\|z\|^2 / N}$ of `(rows, *latent)` → `(rows,)`, N = 1 / `pull`.

    It makes the misfit a posterior: $\frac N2 \log \|y - A G(z)\|^2 + \frac12 \|z\|^2$ is the
    negative log posterior of a unit-normal z, but for a constant, if y - A G(z) is worth N
    independent normal numbers of a variance that nobody knows.
    """
    return torch.exp(pull * z.flatten(1).square().sum(1))


def starting_latents(task: Task) -> Latent:
    """`(images · restarts, *latent)`, from a stream for every image; more restarts only append.

    Where the settings want the encoder's start, it takes the place of an image's first random one.
    """
    law, y = task.prior.latent, task.observation.y
    encoded = encoded_latents(task) if task.settings.latent_start == "encoder" else None
    starts = []
    for image, seed in enumerate(task.seeds()):
        rng = torch.Generator().manual_seed(seed)
        mine = [law.sample(1, rng) for _ in range(task.settings.restarts)]
        if encoded is not None:
            mine[0] = encoded[image : image + 1].cpu()
        starts += mine
    return torch.cat(starts).to(device=y.device, dtype=y.real.dtype if y.is_complex() else y.dtype)


@torch.no_grad()
def encoded_latents(task: Task) -> Latent:
    r"""`(images, *latent)`: the encoder's of the naive picture, or 0, whichever fits y better.

    The mean face (z = 0) is the better start where the naive picture says little, as with few
    Gaussian measurements.
    """
    prior, observation = task.prior, task.observation
    z = prior.encode(observation.operator.naive(observation.y).clamp(0, 1))
    assert z is not None
    every = torch.arange(task.count, device=z.device)
    better = task.misfit(prior(z), every) < task.misfit(prior(torch.zeros_like(z)), every)
    return z * better.view(-1, *[1] * (z.ndim - 1))
