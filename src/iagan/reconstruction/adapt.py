"""IAGAN: fit the latent and the weights together to one image (arXiv 1906.05284, eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iagan.priors import Generator
from iagan.reconstruction.optimize import Rules
from iagan.reconstruction.rows import Rows, together
from iagan.reconstruction.task import Estimate, Task, minimize_in_batches
from iagan.types import Image

THETA = "theta."
"""Prefix of the weights among the variables."""


def adapt(task: Task, before: Estimate | None) -> Estimate:
    r"""$\min_{z,\theta} \|y - A G_\theta(z)\|^2$, or what `Task.misfit` has in its place, from
    CSGM's z and the pretrained θ.
    """
    assert before is not None and before.latent is not None
    settings, generator = task.settings, task.prior
    theta = {
        THETA + name: repeat(value, task.count) for name, value in generator.parameters().items()
    }
    rates = {name: settings.weight_rate for name in theta} | {"z": settings.latent_rate}

    def objective(variables: Rows, step: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        x = synthesize_each(generator, weights_of(variables), variables["z"])
        return task.misfit(x, rows), x

    rules = Rules(settings.steps, rates, goal=task.goal(), project=task.projection())
    start = {"z": before.latent, **theta}
    found = minimize_in_batches(task, "iagan", objective, start, rules)
    return Estimate.of(found).after(before)


def repeat(value: Tensor, count: int) -> Tensor:
    """`value` as `(count, *shape)` without a copy; the optimizer makes the copies, a batch each."""
    return value.expand(count, *value.shape)


def weights_of(variables: Rows) -> Rows:
    """The weights among the variables, by the names that the network knows."""
    return {
        name.removeprefix(THETA): value
        for name, value in variables.items()
        if name.startswith(THETA)
    }


def synthesize_each(generator: Generator, theta: Rows, z: Tensor | Sequence[Tensor]) -> Image:
    r"""$G_{\theta_i}(z_i)$ with weights of its own for every image.

    **Shapes:** of every weight and of z as many as images, each as the generator has it.
    """
    alone = len(z) == 1 or not all(isinstance(value, Tensor) for value in theta.values())
    return (one_by_one if alone else all_together)(generator, theta, z)


def one_by_one(generator: Generator, theta: Rows, z: Tensor | Sequence[Tensor]) -> Image:
    """One call an image: quicker on a CPU, where grouped convolutions are slow."""
    return torch.cat(
        [
            generator.synthesize({name: value[i] for name, value in theta.items()}, each[None])
            for i, each in enumerate(z)
        ]
    )


def all_together(generator: Generator, theta: Rows, z: Tensor | Sequence[Tensor]) -> Image:
    """One batched call (grouped convolutions): quicker on a GPU.

    The weights get the strides of their shape: with those that a side of 1 may have besides, as in
    channels-last 1×1 filters, torch 2.15 computes wrong gradients on a CPU.
    """
    dense = {}
    for name, value in theta.items():
        whole = together(value)
        dense[name] = whole.reshape(-1).view(whole.shape)
    return generator.synthesize_each(dense, together(z))
