"""Networks for training: encoders, the discriminator, and their initialisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from iagan.train.began_settings import BeganSettings
from iagan.types import Image, Latent


class Discriminator(nn.Module):
    """BEGAN's discriminator, an autoencoder D(x) = decoder(encoder(x)); images in [-1, 1]."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Image) -> Image:
        """D(x), with the shape of `x`."""
        return self.decoder(self.encoder(x))


class GaussianEncoder(nn.Module):
    """An encoder whose output is the mean and the log-variance of the code."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Image) -> tuple[Latent, Latent]:
        """(mean, log-variance) of the code, each `(batch, latent)`.

        The log-variance is restricted to (-12, 2), where exp() and its gradient are well-behaved.
        """
        mean, spread = self.trunk(x).chunk(2, dim=1)
        return mean, 7 * torch.tanh((spread + 5) / 7) - 5


class Mean(nn.Module):
    """The mean of a `GaussianEncoder`, as a discriminator's encoder."""

    def __init__(self, encoder: GaussianEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Image) -> Latent:
        """The code of `x`, `(batch, latent)`."""
        return self.encoder(x)[0]


def published_encoder(size: int, width: int, outputs: int) -> nn.Sequential:
    """BEGAN's encoder (arXiv 1703.10717, figure 1), without its optional skip connections.

    A 3×3 convolution to n, then at each resolution down to 8×8 two 3×3 convolutions with ELU and,
    except at the last, a stride-2 convolution from k·n to (k + 1)·n; a Linear layer at the end.
    """
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ELU(inplace=True)]
    resolutions = int(math.log2(size // 8)) + 1
    for k in range(1, resolutions + 1):
        channels = k * width
        for _ in range(2):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ELU(inplace=True)]
        if k < resolutions:
            down = nn.Conv2d(channels, channels + width, 3, stride=2, padding=1)
            layers += [down, nn.ELU(inplace=True)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(resolutions * width * 64, outputs))


def light_encoder(size: int, width: int, outputs: int) -> nn.Sequential:
    """An encoder at less than a quarter of the generator's cost, by early stride-2 convolutions.

    A 4×4 convolution of stride 2 to n/2 first, then for each resolution down to 8×8 another one
    to twice the channels (at most 4 n) and a 3×3 convolution, with ELU; 4×4 and Linear at the end.
    """
    channels = width // 2
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.ELU(inplace=True)]
    for _ in range(int(math.log2(size // 8))):
        wider = min(2 * channels, 4 * width)
        layers += [nn.Conv2d(channels, wider, 4, stride=2, padding=1), nn.ELU(inplace=True)]
        layers += [nn.Conv2d(wider, wider, 3, padding=1), nn.ELU(inplace=True)]
        channels = wider
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, outputs))


def make_encoder(settings: BeganSettings, outputs: int) -> nn.Sequential:
    """The encoder chosen in `settings`, with `outputs` values per image."""
    make = published_encoder if settings.encoder == "began" else light_encoder
    return make(settings.size, settings.width, outputs)


@torch.no_grad()
def initialise(module: nn.Module, rng: torch.Generator, gain: float = 1.55) -> None:
    """Draw variance-preserving weights, N(0, gain / fan-in), and zero biases.

    The gain is 1 / E[f(t)²] for standard normal t: 1.55 for ELU, 1.92 for leaky ReLU of slope 0.2.
    The last layer of `module` gets a tenth of that standard deviation, so that training starts from
    grey images and short codes.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for layer in layers:
        fan_in = layer.weight[0].numel()
        spread = math.sqrt(gain / fan_in) * (0.1 if layer is layers[-1] else 1.0)
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng) * spread)
        if layer.bias is not None:
            layer.bias.zero_()


def same_weights(target: nn.Module, source: nn.Module) -> None:
    """Copy all weights of `source` to `target`, a network with the same layers."""
    with torch.no_grad():
        for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
            mine.copy_(theirs)


@torch.no_grad()
def average_into(target: nn.Module, source: nn.Module, decay: float) -> None:
    """Update an exponential moving average: target ← decay · target + (1 - decay) · source."""
    mine: list[Tensor] = list(target.parameters())
    torch._foreach_lerp_(mine, list(source.parameters()), 1 - decay)
