"""Small generators, for reconstructions that take milliseconds."""

import dataclasses as dc

import torch
from torch import nn

import iagan
from iagan import About, Generator, NormalLatent, Observation, UniformLatent
from iagan.operators import BicubicDownsample, LinearOperator

SHAPE = (3, 16, 16)


def nonlinear_generator(dtype: torch.dtype = torch.float64, seed: int = 0) -> Generator:
    """6 latents → 3×16×16, with convolutions and an ELU, like real generators."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Linear(6, 8 * 16),
            nn.Unflatten(1, (8, 4, 4)),
            nn.Upsample(scale_factor=4),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ELU(),
            nn.Conv2d(8, 3, 3, padding=1),
            nn.Tanh(),
        )
    return Generator(module.to(dtype), UniformLatent((6,)), (-1.0, 1.0))


def linear_generator(seed: int = 0) -> tuple[Generator, torch.Tensor]:
    """G(z) = B z, reshaped, and the matrix B; all results have closed forms."""
    basis = torch.randn(768, 4, generator=torch.Generator().manual_seed(seed)).double() / 20
    layer = nn.Linear(4, 768, bias=False).double()
    layer.weight.data.copy_(basis)
    module = nn.Sequential(layer, nn.Unflatten(1, SHAPE))
    law = NormalLatent((4,))
    return Generator(module, law, (0.0, 1.0), About(name="linear")), basis


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images in [0, 1], `(count, 3, 16, 16)`, float64."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=rng, dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, size=SHAPE[1:], mode="bilinear")


def observe(
    count: int = 1, operator: LinearOperator | None = None, noise_std: float = 0.0
) -> Observation:
    """Observe `images(count)`, downscaled by 4 or by `operator`."""
    rng = torch.Generator().manual_seed(3)
    return iagan.observe(images(count), operator or BicubicDownsample(SHAPE, 4), noise_std, rng)


def run(
    observation: Observation,
    prior: Generator | None = None,
    name: str | None = None,
    effort: str = "fast",
    execution: iagan.Execution | None = None,
    seed: int | list[int] = 0,
    **adjusted: int | bool | None,
) -> iagan.Reconstruction:
    """Run a preset by name with other iteration counts (`iagan.presets.adjust`)."""
    method = iagan.presets.preset(name, observation, prior, effort)
    method = iagan.presets.adjust(method, **adjusted)
    return iagan.reconstruct(observation, prior, method, seed=seed, execution=execution)


def prior_called(architecture: str) -> Generator:
    """A generator labelled with this architecture."""
    generator = nonlinear_generator()
    generator.about = dc.replace(generator.about, architecture=architecture)
    return generator
