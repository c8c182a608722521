"""The VAE-GAN's losses, as functions of tensors."""

from __future__ import annotations

import contextlib
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iagan.errors import MissingDependencyError
from iagan.types import Image, PerImage

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's images in [0, 1], used to train the features."""
FEATURE_LAYERS = (1, 4, 7)
"""Layers of squeezenet1_1's `features` that are compared: after the first convolution, before the
second and before the third pooling."""


def kl_divergence(mean: Tensor, log_variance: Tensor) -> PerImage:
    r"""$\mathrm{KL}(N(\mu, \sigma^2) \,\|\, N(0, I))$: `(batch, latent)` twice → `(batch,)`."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


def kl_between(
    mean: Tensor, log_variance: Tensor, mean2: Tensor, log_variance2: Tensor
) -> PerImage:
    r"""$\mathrm{KL}(N(\mu, \sigma^2) \,\|\, N(\mu_2, \sigma_2^2))$, diagonal: → `(batch,)`."""
    spread = ((mean - mean2).square() + log_variance.exp()) / log_variance2.exp()
    return (spread - 1 + log_variance2 - log_variance).sum(1) / 2


class Features(nn.Module):
    """Distance of images between channel-normalised features of torchvision's squeezenet1_1.

    As in LPIPS (Zhang et al. 2018, arXiv 1801.03924), but without its learned weights: the squared
    distance of unit vectors, mean over the positions, summed over `FEATURE_LAYERS`.

    **Raises:** `MissingDependencyError` if torchvision's weights are missing and cannot be
    downloaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = _squeezenet()[: FEATURE_LAYERS[-1] + 1].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])

    def forward(self, image: Image, truth: Image) -> Tensor:
        """Mean over the batch; both `(batch, 3, h, w)` in [-1, 1]."""
        distance = torch.zeros((), device=image.device)
        pairs = zip(self._features(image), self._features(truth), strict=True)
        for one, other in pairs:
            distance = distance + (one - other).square().sum(1).mean()
        return distance

    def _features(self, x: Image) -> list[Tensor]:
        x = ((x + 1) / 2 - self.mean) / self.std
        features = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in FEATURE_LAYERS:
                features.append(F.normalize(x.float(), dim=1, eps=1e-6))
        return features


def _squeezenet() -> nn.Sequential:
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch.hub reports downloads there
            network = squeezenet1_1(weights=SqueezeNet1_1_Weights.DEFAULT)
    except (OSError, RuntimeError) as error:
        folder = torch.hub.get_dir()
        raise MissingDependencyError(
            "The perceptual loss needs torchvision's squeezenet1_1-b8a52dc0.pth, which cannot be "
            f"downloaded. Put that file into {folder}/checkpoints, or set perceptual_weight to 0."
        ) from error
    features: nn.Sequential = network.features
    return features


class Discriminator(nn.Module):
    """A patch discriminator with 16×16 outputs, and a global output.

    3×3 convolutions of stride 2 with leaky ReLU; the global output also depends on the standard
    deviation over the batch (Karras et al. 2018, arXiv 1710.10196, section 3), to avoid mode
    collapse.

    **Shapes:** `(batch, 3, side, side)` in [-1, 1] → `(batch,)`, the mean of the patches plus the
    global output.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width, channels, side = 32, 3, size
        while side > min(16, size // 2):
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels, width, side = width, min(2 * width, 256), side // 2
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.2)]
        self.trunk = nn.Sequential(*layers)
        self.places = nn.Conv2d(channels, 1, 1)
        layers = []
        while side > 4:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels, side = width, side // 2
        self.rest = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels + 1, channels, 3, padding=1)
        self.whole = nn.Linear(channels * side**2, 1)

    def forward(self, x: Image) -> PerImage:
        features = self.trunk(x)
        places = self.places(features).mean((1, 2, 3))
        features = self.rest(features)
        spread = (features.float().var(0, unbiased=False) + 1e-8).sqrt().mean()
        spread = spread.to(features.dtype).expand(len(x), 1, *features.shape[2:])
        features = F.leaky_relu(self.last(torch.cat([features, spread], 1)), 0.2)
        answer: Tensor = places + self.whole(features.flatten(1)).squeeze(1)
        return answer.float()


def discriminator_loss(real: PerImage, fake: PerImage) -> Tensor:
    r"""Hinge: $\overline{\max(0, 1 - D(x))} + \overline{\max(0, 1 + D(\hat x))}$."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def gradient_penalty(discriminator: nn.Module, x: Image) -> Tensor:
    r"""R1: $\tfrac12 \overline{\|\nabla_x D(x)\|^2}$ (Mescheder et al. 2018, arXiv 1801.04406)."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean() / 2
