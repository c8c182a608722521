"""The reference: CSGM and IAGAN in a plain loop, in the style of the paper's released code.

One image at a time, float32, contiguous layout, pixels repeated before each convolution, gradients
of θ computed in CSGM though unused, starts of z one after another, every iteration run, the
last iterate kept, the mean squared error read back at every step.
"""

from __future__ import annotations

import copy
import dataclasses as dc
from collections.abc import Callable

import torch
from torch import Tensor, nn

from iagan.observation import Observation
from iagan.priors import Began, Generator


@dc.dataclass(frozen=True)
class Recovered:
    """One image `(1, c, h, w)` and its objective ‖y − A x‖²."""

    image: Tensor
    objective: float


def plain_network(generator: Generator) -> nn.Sequential:
    """BEGAN as in its authors' code, with the weights of `generator`."""
    source = generator.module
    assert isinstance(source, Began), "the reference is a BEGAN"
    layers: list[nn.Module] = [source.linear, nn.Unflatten(1, (-1, 8, 8))]
    for index, conv in enumerate(source.convs):
        if index > 0 and index % 2 == 0:
            layers.append(nn.Upsample(scale_factor=2))
        layers += [conv, nn.ELU()]
    layers.append(source.rgb)
    if source.settings["output"] == "tanh":
        layers.append(nn.Tanh())
    network = nn.Sequential(*layers)
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    return network.requires_grad_(True)


class PlainLoop:
    """The reference method for one image of `observation` and the prior `generator`."""

    def __init__(self, generator: Generator, observation: Observation, seed: int = 0) -> None:
        self.generator, self.observation = generator, observation
        self.network = plain_network(generator)
        self.seed = seed
        self.z = generator.latent.sample(1, torch.Generator().manual_seed(seed))

    def csgm(self, steps: int, restarts: int = 1, gradients_of_weights: bool = True) -> Recovered:
        """Run `restarts` starts in turn; returns the one with the smallest final error.

        Without the unused gradients the result is the same bit for bit, in less time.
        """
        self.network.requires_grad_(gradients_of_weights)
        best: tuple[float, Tensor, Tensor] | None = None
        rng = torch.Generator().manual_seed(self.seed)
        for _ in range(restarts):
            z = self.generator.latent.sample(1, rng).requires_grad_(True)
            error, image = self._descend([{"params": [z], "lr": 0.1}], z, steps)
            if best is None or error < best[0]:
                best = (error, z.detach(), image)
        assert best is not None
        self.z = best[1]
        return self._recovered(best[2])

    def iagan(self, steps: int, rate: float = 1e-4) -> Recovered:
        """Optimise z and θ jointly, from the result of `csgm`."""
        self.network.requires_grad_(True)
        z = self.z.clone().requires_grad_(True)
        groups = [{"params": [z], "lr": rate}, {"params": self.network.parameters(), "lr": rate}]
        return self._recovered(self._descend(groups, z, steps)[1])

    def _descend(self, groups: list[dict], z: Tensor, steps: int) -> tuple[float, Tensor]:
        optimiser = torch.optim.Adam(groups)
        error, image = float("inf"), torch.empty(0)
        for _ in range(steps):
            optimiser.zero_grad()
            image = (self.network(z) + 1) / 2
            loss = self._error(image)
            loss.backward()
            optimiser.step()
            error = loss.item()
        return error, image.detach()

    def _error(self, image: Tensor) -> Tensor:
        gap = self.observation.operator(image) - self.observation.y
        return (torch.view_as_real(gap) if gap.is_complex() else gap).square().mean()

    def _recovered(self, image: Tensor) -> Recovered:
        gap = self.observation.operator(image) - self.observation.y
        return Recovered(image, float(gap.abs().square().sum()))


def deepinv_csgm(generator: Generator, observation: Observation) -> Callable[[int], Tensor]:
    """deepinv's CSGMGenerator without its stopping rule, for one image: steps → image."""
    from deepinv.models import CSGMGenerator
    from deepinv.physics import LinearPhysics

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.nz = plain_network(generator), generator.latent.shape[0]

        def forward(self, z: Tensor) -> Tensor:
            return (self.network(z.flatten(1)) + 1) / 2

    physics = LinearPhysics(A=observation.operator.forward, A_adjoint=observation.operator.adjoint)

    def run(steps: int) -> Tensor:
        model = CSGMGenerator(Backbone(), inf_max_iter=steps, inf_tol=0.0, inf_lr=0.1).eval()
        return model(observation.y, physics).detach()

    return run
