"""The law of an autoencoder's code, and how z ~ N(0, I) becomes it.

A variational autoencoder's codes are unit-normal only as far as its KL term, which also blurs, has
its way. So its term stays small, and the codes' mean and covariance are measured and folded into
the decoder's first, linear layer: z ~ N(0, I) then gives codes as real images have them.
"""

from __future__ import annotations

import copy
import dataclasses as dc

import torch
from torch import Tensor

from iagan.generators.began import Began
from iagan.train.data import Pixels
from iagan.train.networks import GaussianEncoder
from iagan.types import Latent

SAMPLE = 2048
"""Images, the first of the training set, from which the law is measured."""


@dc.dataclass(frozen=True, eq=False)
class CodeLaw:
    """N(mean, factor · factorᵀ): `mean` is `(latent,)`, `factor` `(latent, latent)`, triangular."""

    mean: Tensor
    factor: Tensor

    def code(self, z: Latent) -> Latent:
        """Unit-normal `z` as codes, `(batch, latent)`."""
        return self.mean + z @ self.factor.T


@torch.no_grad()
def measure_code_law(encoder: GaussianEncoder, pixels: Pixels) -> CodeLaw:
    """Mean and covariance of the codes of at most `SAMPLE` images, the encoder's own spread in it.

    A part in a thousand of the mean variance is added, so that few images are enough.
    """
    device = next(encoder.parameters()).device
    found = [
        encoder((part.float() / 127.5 - 1).to(device, memory_format=torch.channels_last))
        for part in pixels[:SAMPLE].split(64)
    ]
    means = torch.cat([mean for mean, _ in found]).double()
    spread = torch.cat([log_variance.exp() for _, log_variance in found]).double().mean(0)
    covariance = torch.cov(means.T) + spread.diag()
    covariance += 1e-3 * covariance.diag().mean() * torch.eye(len(spread), device=device)
    factor = torch.linalg.cholesky(covariance)
    return CodeLaw(means.mean(0).float(), factor.float().contiguous())


@torch.no_grad()
def with_unit_latent(generator: Began, law: CodeLaw | None) -> Began:
    """A copy with G'(z) = G(law.code(z)); G itself where there is no law."""
    if law is None:
        return generator
    folded = copy.deepcopy(generator)
    weight, bias = generator.linear.weight, generator.linear.bias
    folded.linear.bias.copy_(bias + weight @ law.mean)
    folded.linear.weight.copy_(weight @ law.factor)
    return folded
