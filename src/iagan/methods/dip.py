"""Deep image prior: fit an untrained network to one image (Ulyanov et al., arXiv 1711.10925)."""

from __future__ import annotations

import dataclasses as dc
import threading
from typing import ClassVar

import torch
from torch import Tensor

from iagan.engine.minimize import Leaves, MinimizeOptions
from iagan.methods.base import Method, check_integer, check_number, register
from iagan.methods.estimate import Estimate
from iagan.methods.networks import AdaptedNetworks
from iagan.methods.phase import Batch
from iagan.methods.plausibility import residual_too_large
from iagan.methods.task import Task
from iagan.priors import Generator, SkipNet, UniformLatent
from iagan.types import Image, PerImage

INPUT_CHANNELS = 32
SCALES = 5
"""Number of scales of the network, as in the authors' code; fewer for images below 64 pixels."""
INPUT_SCALE = 0.1
"""Upper bound of the fixed input, uniform in [0, 0.1], as in the authors' code."""
_SEEDING = threading.Lock()


@register
@dc.dataclass(frozen=True)
class DIP(Method):
    r"""$\min_\theta \|y - A f_\theta(u)\|^2$, with u a fixed random input, perturbed at every step.

    As in all methods here the iterate of smallest objective is kept; the authors keep the last one.

    **Arguments:**
    - `steps`: iterations.
    - `rate`: Adam's learning rate of θ.
    - `input_noise`: standard deviation of the perturbation of u.

    **Raises:** `SettingError` for a setting out of range.
    """

    kind: ClassVar[str] = "dip"
    needs_prior: ClassVar[bool] = False

    steps: int = 3000
    rate: float = 0.01
    input_noise: float = 1 / 30

    def __post_init__(self) -> None:
        check_integer(self, "steps", 0)
        check_number(self, "rate")
        check_number(self, "input_noise")

    def iterations(self) -> dict[str, int]:
        """Iterations that fit the untrained network."""
        return {"dip": self.steps}

    def run(self, task: Task) -> Estimate:
        """Fit a network to each image; its weights and input are drawn from the image's seed."""

        def make(problems: Tensor, checkpointing: bool) -> Batch:
            seeds = [task.seeds[i] for i in problems.tolist()]
            networks = AdaptedNetworks(
                [_network(task, seed) for seed in seeds], task.execution, checkpointing
            )
            inputs = torch.cat([_uniform_input(task, seed) for seed in seeds])
            indices = problems.to(task.device)

            def objective(leaves: Leaves, step: int, among: Tensor) -> tuple[PerImage, Image]:
                shape = inputs.shape[1:]
                noise = torch.stack([_noise(seeds[i], step, shape) for i in among.tolist()])
                x = networks(leaves, inputs[among] + self.input_noise * noise.to(inputs))
                return task.misfit(x, indices[among]), x

            rates = dict.fromkeys(networks.leaves, self.rate)
            options = MinimizeOptions(self.steps, rates)
            return Batch(objective, networks.leaves, options, networks.leaves.keys())

        result = task.minimize("dip", make, torch.arange(task.count, device="cpu"), together=False)
        return Estimate.of(result)

    def messages(self, task: Task) -> list[str]:
        """A warning if the residual is too large for the operator and `noise_std`."""
        return residual_too_large(self.name, task.estimate(self).image, task.observation)


def _noise(seed: int, step: int, shape: torch.Size) -> Tensor:
    """The perturbation of an image's input at one step, independent of earlier draws."""
    mixed = (seed * 2_654_435_761 + step * 40_503 + 1) % 2**63
    rng = torch.Generator().manual_seed(mixed)
    return torch.randn(shape, generator=rng, device="cpu", dtype=torch.float32)


def _network(task: Task, seed: int) -> Generator:
    channels, height, width = task.observation.operator.image_shape
    scales = min(SCALES, min(height, width).bit_length() - 2)
    # torch's layers draw their weights from the global generator
    with _SEEDING, torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        network = SkipNet(INPUT_CHANNELS, channels, scales=scales)
    latent = UniformLatent((INPUT_CHANNELS, height, width))
    return Generator(network, latent, value_range=(0.0, 1.0)).to(task.device, task.dtype)


def _uniform_input(task: Task, seed: int) -> Tensor:
    _, height, width = task.observation.operator.image_shape
    rng = torch.Generator().manual_seed(seed)
    shape = (1, INPUT_CHANNELS, height, width)
    u = torch.rand(shape, generator=rng, device="cpu", dtype=torch.float32)
    return (u * INPUT_SCALE).to(task.device, task.dtype)
