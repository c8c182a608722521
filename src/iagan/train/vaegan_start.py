"""A new VAE-GAN training run, with random networks or those of a prior."""

from __future__ import annotations

import copy

import torch
from torch import nn

from iagan.errors import SettingError
from iagan.priors.networks.tapered import Tapered, TaperedEncoder
from iagan.priors.weights.catalog import load_prior
from iagan.train.data import stream
from iagan.train.degrade import degradations
from iagan.train.losses import Discriminator, Features
from iagan.train.networks import GaussianEncoder, initialise
from iagan.train.vaegan import VaeGanRun
from iagan.train.vaegan_settings import VaeGanSettings

LEAKY_GAIN = 1.92
"""1 / E[f(t)²] of the leaky ReLU f of slope 0.2, the gain of `initialise`."""
INITIAL_LOG_VARIANCE = -8.2
"""Initial log-variance of the code for a prior's encoder, which does not predict it; training ends
near -8."""


def new_vaegan_run(settings: VaeGanSettings, device: torch.device) -> VaeGanRun:
    """A run before its first step, with random weights or those of `settings.start`."""
    rng = stream(settings.seed, 0, "weights")
    decoder = Tapered(settings.channels, settings.latent)
    encoder = GaussianEncoder(TaperedEncoder(settings.encoder_channels, 2 * settings.latent))
    discriminator = Discriminator(settings.size)
    for network in (decoder, encoder, discriminator):
        initialise(network, rng, LEAKY_GAIN)
        _scale_residuals(network)
    if settings.start is not None:
        _load_start(settings.start, decoder, encoder)
    for network in (decoder, encoder, discriminator):
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    features = Features().to(device) if settings.perceptual_weight > 0 else None
    adam = torch.optim.Adam([*decoder.parameters(), *encoder.parameters()], settings.learning_rate)
    latent = settings.latent
    return VaeGanRun(
        settings,
        decoder,
        encoder,
        copy.deepcopy(decoder),
        copy.deepcopy(encoder),
        discriminator,
        adam,
        torch.optim.Adam(discriminator.parameters(), settings.discriminator_rate, (0.5, 0.99)),
        features,
        degradations((3, settings.size, settings.size)),
        (torch.zeros(latent, device=device), torch.eye(latent, device=device)),
    )


@torch.no_grad()
def _load_start(name: str, decoder: Tapered, encoder: GaussianEncoder) -> None:
    """Load the weights of a prior; variances, which its encoder does not predict, start equal."""
    prior = load_prior(name)
    trunk, theirs = encoder.trunk, prior.encoder
    assert isinstance(trunk, TaperedEncoder)
    settings = {**trunk.settings, "outputs": decoder.settings["latent"]}
    if (
        not isinstance(theirs, TaperedEncoder)
        or prior.module.settings != decoder.settings
        or theirs.settings != settings
    ):
        raise SettingError(
            f"VaeGanSettings expects start as a prior with the networks {decoder.settings} and "
            f"{settings}; {name} has others. Use its channels and latent, or train from scratch."
        )
    decoder.load_state_dict(prior.module.state_dict())
    weights = theirs.state_dict()
    mean = weights["linear.weight"]
    weights["linear.weight"] = torch.cat([mean, torch.zeros_like(mean)])
    log_variance = torch.full((len(mean),), INITIAL_LOG_VARIANCE)
    weights["linear.bias"] = torch.cat([weights["linear.bias"], log_variance])
    trunk.load_state_dict(weights)


@torch.no_grad()
def _scale_residuals(network: nn.Module) -> None:
    """Scale residual weights down, so that each resolution initially is nearly its first
    convolution.
    """
    for name, weight in network.named_parameters():
        if "residuals" in name:
            weight.mul_(0.3)
