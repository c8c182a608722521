"""CSGM: fit the latent (Bora et al. 2017; arXiv 1906.05284, eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from iagan.reconstruction.optimize import Objective, Variables
from iagan.reconstruction.task import Estimate, Task, minimize_in_batches, pick_rows
from iagan.types import Latent


def csgm(task: Task, before: Estimate | None = None) -> Estimate:
    r"""$\min_z \|y - A G(z)\|^2$ from `restarts` random z; the best start of each image."""
    settings, generator = task.settings, task.prior
    image_of_row = torch.arange(task.count).repeat_interleave(settings.restarts)

    def problem(rows: Tensor) -> Objective:
        def objective(variables: Variables, step: int) -> tuple[Tensor, Tensor]:
            x = generator(variables["z"])
            return task.misfit(x, image_of_row[rows]), x

        return objective

    start = {"z": starting_latents(task)}
    found = minimize_in_batches(
        task, "csgm", problem, start, {"z": settings.csgm_rate}, settings.csgm_steps
    )
    best = found.objective.view(task.count, settings.restarts).argmin(1)
    rows = torch.arange(task.count, device=best.device) * settings.restarts + best
    return pick_rows(found, rows)


def starting_latents(task: Task) -> Latent:
    """`(images · restarts, *latent)`, from a stream for every image; more restarts only append."""
    law, y = task.prior.latent, task.observation.y
    starts = []
    for seed in task.seeds():
        rng = torch.Generator().manual_seed(seed)
        starts += [law.sample(1, rng) for _ in range(task.settings.restarts)]
    return torch.cat(starts).to(device=y.device, dtype=y.real.dtype if y.is_complex() else y.dtype)
