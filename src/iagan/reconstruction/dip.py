"""Deep image prior: fit an untrained network to one image (Ulyanov et al., arXiv 1711.10925)."""

from __future__ import annotations

import torch
from torch import Tensor

from iagan.priors import Generator, LatentLaw, SkipNet
from iagan.reconstruction.adapt import THETA, synthesize_each, weights_of
from iagan.reconstruction.optimize import Rules
from iagan.reconstruction.rows import Rows
from iagan.reconstruction.task import Estimate, Task, minimize_in_batches

INPUT_CHANNELS = 32
SCALES = 5
"""Of the network, as in the authors' code; fewer where the image is smaller than 64 pixels."""
INPUT_SCALE = 0.1
"""The fixed input is uniform in [0, 0.1], as in the authors' code."""


def dip(task: Task, before: Estimate | None = None) -> Estimate:
    r"""$\min_\theta \|y - A f_\theta(u)\|^2$, u a fixed random input, perturbed at every step.

    The authors keep the last iterate; here, as everywhere, the one of smallest objective.
    """
    settings = task.settings
    networks = [_network(task, seed) for seed in task.seeds()]
    inputs = torch.cat([_uniform_input(task, seed) for seed in task.seeds()])
    theta = {
        THETA + name: torch.stack([network.parameters()[name] for network in networks])
        for name in networks[0].parameters()
    }
    rates = {name: settings.weight_rate for name in theta}

    def objective(variables: Rows, step: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.stack(
            [_noise(task.seeds()[i], step, inputs.shape[1:]) for i in rows.tolist()]
        )
        u = inputs[rows] + settings.input_noise * noise.to(inputs)
        x = synthesize_each(networks[0], weights_of(variables), u)
        return task.misfit(x, rows), x

    found = minimize_in_batches(task, "dip", objective, theta, Rules(settings.steps, rates))
    return Estimate.of(found)


def _noise(seed: int, step: int, shape: torch.Size) -> Tensor:
    """The perturbation of an image's input at one step, whatever was drawn before."""
    mixed = (seed * 2_654_435_761 + step * 40_503 + 1) % 2**63
    return torch.randn(shape, generator=torch.Generator().manual_seed(mixed))


def _network(task: Task, seed: int) -> Generator:
    channels, height, width = task.observation.operator.image_shape
    scales = min(SCALES, min(height, width).bit_length() - 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SkipNet(INPUT_CHANNELS, channels, scales=scales)
    y = task.observation.y
    law = LatentLaw("uniform", (INPUT_CHANNELS, height, width))
    dtype = y.real.dtype if y.is_complex() else y.dtype
    return Generator(network, law, value_range=(0.0, 1.0)).to(y.device, dtype)


def _uniform_input(task: Task, seed: int) -> Tensor:
    _, height, width = task.observation.operator.image_shape
    rng = torch.Generator().manual_seed(seed)
    u = torch.rand(1, INPUT_CHANNELS, height, width, generator=rng) * INPUT_SCALE
    y = task.observation.y
    return u.to(device=y.device, dtype=y.real.dtype if y.is_complex() else y.dtype)
