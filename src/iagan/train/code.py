"""The law of an autoencoder's code, and how z ~ N(0, I) becomes it.

A variational autoencoder's codes are unit-normal only as far as its KL term, which also blurs, has
its way. So its term stays small, and the codes' mean and covariance are measured and folded into
the decoder's first, linear layer: z ~ N(0, I) then gives codes as real images have them.
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
"""Images, the first of the training set, from which the law is measured."""


@dc.dataclass(frozen=True, eq=False)
class CodeLaw:
    """N(mean, factor · factorᵀ): `mean` is `(latent,)`, `factor` `(latent, latent)`, triangular."""

    mean: Tensor
    factor: Tensor

    def code(self, z: Latent) -> Latent:
        """Unit-normal `z` as codes, `(batch, latent)`."""
        return self.mean + z @ self.factor.T


def code_law(mean: Tensor, covariance: Tensor) -> CodeLaw:
    """The law of these moments: `(latent,)` and `(latent, latent)`.

    A part in a thousand of the mean variance is added, so that few images are enough.
    """
    mean, covariance = mean.double(), covariance.double()
    ridge = 1e-3 * covariance.diag().mean()
    covariance = covariance + ridge * torch.eye(len(mean), device=mean.device)
    factor = torch.linalg.cholesky(covariance)
    return CodeLaw(mean.float(), factor.float().contiguous())


@torch.no_grad()
def measure_code_law(encoder: GaussianEncoder, pixels: Pixels) -> CodeLaw:
    """That of the codes of the first `SAMPLE` images, the encoder's own spread in it."""
    device = next(encoder.parameters()).device
    codes = [
        encoder((part.float() / 127.5 - 1).to(device, memory_format=torch.channels_last))
        for part in pixels[:SAMPLE].split(64)
    ]
    means = torch.cat([mean for mean, _ in codes]).double()
    spread = torch.cat([log_variance.exp() for _, log_variance in codes]).double().mean(0)
    return code_law(means.mean(0), torch.cov(means.T) + spread.diag())


@torch.no_grad()
def fold_into_decoder(decoder: Decoder, law: CodeLaw | None) -> Decoder:
    """A copy with G'(z) = G(law.code(z)); G itself where there is no law."""
    if law is None:
        return decoder
    folded = copy.deepcopy(decoder)
    weight, bias = decoder.linear.weight, decoder.linear.bias
    folded.linear.bias.copy_(bias + weight @ law.mean)
    folded.linear.weight.copy_(weight @ law.factor)
    return folded


@torch.no_grad()
def fold_into_encoder(encoder: TaperedEncoder, law: CodeLaw) -> TaperedEncoder:
    """The mean alone, as the z of which `law.code(z)` is that mean.

    `encoder` is the trunk of a `GaussianEncoder`, whose first half of the numbers is the mean.
    """
    settings = {**encoder.settings, "outputs": len(law.mean)}
    folded = TaperedEncoder(**settings).to(law.mean.device)
    weights = encoder.state_dict()
    inverse = torch.linalg.inv(law.factor.double())
    mean_weight, mean_bias = (weights[f"linear.{name}"].chunk(2)[0] for name in ("weight", "bias"))
    weights["linear.weight"] = (inverse @ mean_weight.double()).float()
    weights["linear.bias"] = (inverse @ (mean_bias - law.mean).double()).float()
    folded.load_state_dict(weights)
    return folded
