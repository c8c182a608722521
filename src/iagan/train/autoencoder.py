"""The autoencoder phase: a variational autoencoder that initialises the adversarial phase.

BEGAN takes more than a week on two CPU cores. However, its discriminator is an autoencoder whose
decoder has the generator's architecture: trained as a variational autoencoder (Kingma and Welling
2014, arXiv 1312.6114), with z ~ N(0, I), it models faces well after an hour.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iagan.train.data import stream
from iagan.train.networks import GaussianEncoder
from iagan.types import Image

if TYPE_CHECKING:
    from iagan.train.began_run import BeganRun

WARM_UP = 200


def autoencoder_rate(step: int, steps: int, highest: float) -> float:
    """Adam's learning rate: linear warm-up over 200 steps, then cosine decay to a twentieth."""
    if step < WARM_UP:
        return highest * (step + 1) / WARM_UP
    return highest * (0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2)


def autoencoder_loss(
    encoder: GaussianEncoder, generator: torch.nn.Module, x: Image, noise: Tensor, kl_weight: float
) -> tuple[Tensor, Tensor]:
    r"""The negative evidence lower bound of a Laplace likelihood of scale β, times β / n: (loss,
    error).

    $$\frac{1}{n}\|x - G(\mu + \sigma \epsilon)\|_1
      + \frac{\beta}{n}\,\mathrm{KL}\big(N(\mu, \sigma^2)\,\|\,N(0, I)\big)$$

    with n values per image and ε the standard normal `noise`, `(batch, latent)`.
    """
    mean, log_variance = encoder(x)
    estimate = generator(mean + torch.exp(log_variance / 2) * noise)
    error = (x - estimate).abs().mean()
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
    return error + kl_weight / x[0].numel() * divergence, error


def autoencoder_step(run: BeganRun, x: Image) -> Tensor:
    """Update encoder and generator on the batch `x`; returns the mean absolute error."""
    assert run.encoder is not None
    settings = run.settings
    for group in run.generator_adam.param_groups:
        group["lr"] = autoencoder_rate(
            run.step, settings.autoencoder_steps, settings.autoencoder_rate
        )
    run.generator_adam.zero_grad()
    loss, error = autoencoder_loss(
        run.encoder, run.generator, x, code_noise(run, x), settings.kl_weight
    )
    loss.backward()
    run.generator_adam.step()
    return error.detach()


def code_noise(run: BeganRun, x: Image) -> Tensor:
    """ε of this step, `(batch, latent)`."""
    rng = stream(run.settings.seed, run.step, "code")
    return torch.randn(len(x), run.settings.latent, generator=rng).to(x.device)
