"""CSGM: fit the latent (Bora et al. 2017; arXiv 1906.05284, eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from iagan.reconstruction.optimize import Rows, Rules
from iagan.reconstruction.task import Estimate, Task, minimize_in_batches, pick_rows
from iagan.types import Latent


def csgm(task: Task, before: Estimate | None = None) -> Estimate:
    r"""$\min_z \|y - A G(z)\|^2$ from `restarts` random z; the best start of each image."""
    settings, generator = task.settings, task.prior
    image_of_row = torch.arange(task.count).repeat_interleave(settings.restarts)

    def objective(variables: Rows, step: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        x = generator(torch.stack(list(variables["z"])))
        return task.misfit(x, image_of_row[rows]), x

    rules = Rules(
        settings.csgm_steps,
        {"z": settings.csgm_rate} if settings.csgm_optimizer == "adam" else None,
        project=task.projection(),
    )
    found = minimize_in_batches(task, "csgm", objective, {"z": starting_latents(task)}, rules)
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
