"""The distribution of an autoencoder's code, and its whitening.

The KL term that makes a variational autoencoder's codes standard normal also blurs its images. Its
weight is therefore small, and the codes' mean and covariance are measured and folded into the
decoder's first, linear layer: z ~ N(0, I) is then mapped to codes like those of real images.
"""

from __future__ import annotations

import copy
import dataclasses as dc
from typing import TypeVar

import torch
from torch import Tensor

from iagan.priors.networks.began import Began
from iagan.priors.networks.tapered import Tapered, TaperedEncoder
from iagan.train.data import Pixels
from iagan.train.networks import GaussianEncoder
from iagan.types import Latent

Decoder = TypeVar("Decoder", Began, Tapered)

SAMPLE = 2048
"""Number of training images, the first ones, on which the distribution is measured."""


@dc.dataclass(frozen=True, eq=False)
class CodeDistribution:
    """The normal distribution N(mean, factor · factorᵀ); `mean` is `(latent,)`, `factor` is lower
    triangular.
    """

    mean: Tensor
    factor: Tensor

    def code(self, z: Latent) -> Latent:
        """Map standard normal `z` to codes, `(batch, latent)`."""
        return self.mean + z @ self.factor.T


def code_distribution(mean: Tensor, covariance: Tensor) -> CodeDistribution:
    """The distribution with this mean, `(latent,)`, and covariance, `(latent, latent)`.

    A thousandth of the mean variance is added to the diagonal, in case there are few images.
    """
    mean, covariance = mean.double(), covariance.double()
    ridge = 1e-3 * covariance.diag().mean()
    covariance = covariance + ridge * torch.eye(len(mean), device=mean.device)
    factor = torch.linalg.cholesky(covariance)
    return CodeDistribution(mean.float(), factor.float().contiguous())


@torch.no_grad()
def measure_code_distribution(encoder: GaussianEncoder, pixels: Pixels) -> CodeDistribution:
    """The distribution of the first `SAMPLE` images' codes, including their posterior variances."""
    device = next(encoder.parameters()).device
    codes = [
        encoder((part.float() / 127.5 - 1).to(device, memory_format=torch.channels_last))
        for part in pixels[:SAMPLE].split(64)
    ]
    means = torch.cat([mean for mean, _ in codes]).double()
    spread = torch.cat([log_variance.exp() for _, log_variance in codes]).double().mean(0)
    return code_distribution(means.mean(0), torch.cov(means.T) + spread.diag())


@torch.no_grad()
def fold_into_decoder(decoder: Decoder, distribution: CodeDistribution | None) -> Decoder:
    """A copy with G'(z) = G(distribution.code(z)); G itself if `distribution` is None."""
    if distribution is None:
        return decoder
    folded = copy.deepcopy(decoder)
    weight, bias = decoder.linear.weight, decoder.linear.bias
    folded.linear.bias.copy_(bias + weight @ distribution.mean)
    folded.linear.weight.copy_(weight @ distribution.factor)
    return folded


@torch.no_grad()
def fold_into_encoder(encoder: TaperedEncoder, distribution: CodeDistribution) -> TaperedEncoder:
    """An encoder whose output is the z with `distribution.code(z)` equal to the mean code.

    `encoder` is the trunk of a `GaussianEncoder`; the first half of its outputs is the mean.
    """
    settings = {**encoder.settings, "outputs": len(distribution.mean)}
    folded = TaperedEncoder(**settings).to(distribution.mean.device)
    weights = encoder.state_dict()
    inverse = torch.linalg.inv(distribution.factor.double())
    mean_weight, mean_bias = (weights[f"linear.{name}"].chunk(2)[0] for name in ("weight", "bias"))
    weights["linear.weight"] = (inverse @ mean_weight.double()).float()
    weights["linear.bias"] = (inverse @ (mean_bias - distribution.mean).double()).float()
    folded.load_state_dict(weights)
    return folded
