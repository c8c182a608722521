"""IAGAN: fit the latent and the weights jointly to one image (arXiv 1906.05284, eq. 3)."""

from __future__ import annotations

import dataclasses as dc
from typing import ClassVar, get_args

import torch
from torch import Tensor

from iagan.engine.minimize import Leaves, MinimizeOptions
from iagan.errors import SettingError
from iagan.methods.base import (
    Method,
    check_choice,
    check_flag,
    check_integer,
    check_method,
    check_number,
    register,
)
from iagan.methods.csgm import CSGM, Fidelity, latent_projection
from iagan.methods.estimate import Estimate
from iagan.methods.networks import AdaptedNetworks
from iagan.methods.phase import Batch
from iagan.methods.plausibility import residual_too_large
from iagan.methods.task import Task
from iagan.types import Image, PerImage


@register
@dc.dataclass(frozen=True)
class IAGAN(Method):
    r"""$\min_{z,\theta} \|y - A G_\theta(z)\|^2$ from the z of `start` and the pretrained θ.

    **Arguments:** (defaults: the paper's for super-resolution)
    - `start`: the method whose latent is the initial z, such as `CSGM`.
    - `steps`: iterations.
    - `latent_rate`, `weight_rate`: Adam's learning rates for z and θ.
    - `fidelity`: as in `CSGM`.
    - `noise_share`: stop an image once ‖y - A x‖ is at most this fraction of the noise floor σ √m
      (Morozov's discrepancy principle); 0: run all iterations.
    - `bounded`: project z onto the support of its distribution after each step.

    **Raises:** `SettingError` for a setting out of range.
    """

    kind: ClassVar[str] = "iagan"

    start: Method = dc.field(default_factory=CSGM)
    steps: int = 500
    latent_rate: float = 1e-4
    weight_rate: float = 1e-4
    fidelity: Fidelity = "least-squares"
    noise_share: float = 0.0
    bounded: bool = False

    def __post_init__(self) -> None:
        check_method(self, "start")
        if not self.start.needs_prior:
            raise SettingError(
                f"IAGAN expects start as a method that fits a latent, such as CSGM(); got "
                f"{self.start.name}."
            )
        check_integer(self, "steps", 0)
        check_choice(self, "fidelity", get_args(Fidelity))
        check_flag(self, "bounded")
        for name in ("latent_rate", "weight_rate", "noise_share"):
            check_number(self, name)

    def iterations(self) -> dict[str, int]:
        """Iterations of the start, then of IAGAN."""
        return self.start.iterations() | {"iagan": self.steps}

    def run(self, task: Task) -> Estimate:
        """Adapt a copy of the prior to each image, from the latents of the start."""
        before = task.estimate(self.start)
        latents = self.latents(before)
        goal = self.goal(task)

        def make(problems: Tensor, checkpointing: bool) -> Batch:
            indices = problems.to(latents.device)
            priors = [task.generator] * len(problems)
            networks = AdaptedNetworks(priors, task.execution, checkpointing)
            rates = dict.fromkeys(networks.leaves, self.weight_rate) | {"z": self.latent_rate}

            def objective(leaves: Leaves, step: int, among: Tensor) -> tuple[PerImage, Image]:
                x = networks(leaves, leaves["z"])
                return task.misfit(x, indices[among], self.fidelity), x

            options = MinimizeOptions(
                self.steps,
                rates,
                goal=None if goal is None else goal[indices],
                project=latent_projection(task) if self.bounded else None,
            )
            start = {"z": latents[indices].clone(), **networks.leaves}
            return Batch(objective, start, options, networks.leaves.keys())

        result = task.minimize(
            "iagan", make, torch.arange(task.count, device="cpu"), together=False
        )
        return Estimate.of(result).after(before)

    def messages(self, task: Task) -> list[str]:
        """Warnings if the residual is too small or too large for the operator and `noise_std`."""
        image = task.estimate(self).image
        large = residual_too_large(self.name, image, task.observation)
        return [*self.start.messages(task), *large]

    def latents(self, before: Estimate) -> Tensor:
        """The start's latents.

        **Raises:** `SettingError` if it has none.
        """
        if before.latent is None:
            raise SettingError(
                f"IAGAN expects a start with a latent, such as CSGM(); got {self.start.name}."
            )
        return before.latent

    def goal(self, task: Task) -> PerImage | None:
        r"""The objective at which an image stops, $\tau^2 \sigma^2 m$; None without τ or noise."""
        end = self.noise_share * task.observation.noise_floor
        if not bool((end > 0).any()):
            return None
        return torch.where(end > 0, end.square(), -torch.inf).to(task.device, task.dtype)
