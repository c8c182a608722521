"""Your own latent space: sampling, penalty and projection.

python docs/examples/own_latent_space.py
"""

import dataclasses as dc

import torch

import iagan
from iagan.priors import LatentSpace, register_latent


@register_latent  # so that it can be saved in files, including its tensors
@dc.dataclass(frozen=True, eq=False)
class Near(LatentSpace):
    """Latents near a known one, such as of another photograph of the same person."""

    law = "near"
    mean: torch.Tensor
    spread: float = 0.3

    def sample(self, count, rng):
        return self.mean + self.spread * torch.randn((count, *self.shape), generator=rng)

    def penalty(self, z):  # -2 log p(z) up to a constant
        return ((z - self.mean.to(z)) / self.spread).flatten(1).square().sum(1)


rng = torch.Generator().manual_seed(0)
prior = iagan.load_prior("faces-64")
known = prior.latent.sample(1, rng)[0]
near = iagan.Generator(prior.module, Near(prior.latent.shape, known), prior.value_range)
x = near(near.latent.sample(1, rng)).clamp(0, 1)
y = iagan.observe(x, iagan.operators.BicubicDownsample(prior.image_shape, scale=16), 0.1, rng)
for each in (iagan.Generator(prior.module, prior.latent, prior.value_range), near):
    result = iagan.reconstruct(y, each, "csgm")
    print(f"{each.latent.law}: PSNR {iagan.measure.psnr(result.image, x):.1f} dB")
iagan.save_prior(near, "near.safetensors")
