"""Any torch.nn.Module that generates images from latents can be a prior.

python docs/examples/own_generator.py
"""

import torch
from torch import nn

import iagan

torch.manual_seed(0)

# Your network: 16 latents → 3×32×32 in [-1, 1]. Here it is an untrained one.
network = nn.Sequential(
    nn.Linear(16, 32 * 8 * 8),
    nn.Unflatten(1, (32, 8, 8)),
    nn.Upsample(scale_factor=4),
    nn.Conv2d(32, 3, 3, padding=1),
    nn.Tanh(),
)
prior = iagan.Generator(network, "normal:16", value_range=(-1, 1))

# An image in the generator's range, measured by random projections, m/n = 20 %.
truth = prior(torch.randn(1, 16))
A = iagan.operators.Gaussian.from_ratio((3, 32, 32), 0.2, seed=0)
observation = iagan.observe(truth, A)

result = iagan.reconstruct(observation, prior, iagan.CSGM(steps=300, restarts=2, optimizer="lbfgs"))
print(f"relative residual {float(result.relative_residual[0]):.1e}")
print(f"PSNR {iagan.measure.psnr(result.image, truth):.1f} dB")
