r"""A VAE-GAN: an autoencoder with a standard normal code, trained against a discriminator.

Both phases minimise over encoder and decoder

$$\overline{|x - \hat x|} + \frac{\beta}{n} \mathrm{KL}\big(q(z|x) \,\|\, N(0, I)\big)
  + w_p\, d(\hat x, x) + w_d \frac{\beta}{n} \mathrm{KL}\big(q(z|x) \,\|\, q(z|x')\big)$$

with $\hat x = G(z)$, $z \sim q(z|x)$, images in [0, 1] of n values, d the distance between
features (`losses.Features`), and x' a degraded x (`degrade.py`), from which the encoder must
predict the code of x, as an initial z for CSGM. The adversarial phase adds $-w_a \overline{D}$ of
the reconstructions and of samples. Samples are drawn from a normal distribution with moving
averages of the codes' mean and covariance, which `prior` folds into the decoder's first layer.

**Sources:** Larsen et al. 2016 (arXiv 1512.09300); hinge loss: Lim and Ye 2017 (arXiv 1705.02894).
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from iagan.operators import LinearOperator
from iagan.priors import About, Generator, NormalLatent
from iagan.priors.networks.tapered import Tapered, TaperedEncoder
from iagan.train.autoencoder import autoencoder_rate
from iagan.train.base import TrainingRun, check_tensor, points
from iagan.train.code import (
    code_distribution,
    fold_into_decoder,
    fold_into_encoder,
    measure_code_distribution,
)
from iagan.train.data import Pixels, stream
from iagan.train.degrade import degraded
from iagan.train.losses import (
    Discriminator,
    Features,
    discriminator_loss,
    gradient_penalty,
    kl_between,
    kl_divergence,
)
from iagan.train.networks import GaussianEncoder, average_into
from iagan.train.vaegan_settings import VaeGanSettings
from iagan.types import Image

PENALTY_EVERY = 8
"""Steps between gradient penalties, which are scaled up accordingly (Karras et al. 2020, section
2)."""
LARGEST_GRADIENT = 1.0
"""Norm to which gradients of encoder and decoder are clipped."""
MIN_LOG_VARIANCE = -4.0
"""Lower bound on the log-variance of a degraded image's code in its KL term."""
CODE_MEMORY = 0.99
"""Decay of the moving averages of the codes' moments."""


@dc.dataclass
class VaeGanRun(TrainingRun):
    """The state of a training run, with its settings.

    - `decoder`, `encoder`: the networks; `average`, `average_encoder`: their exponential moving
      averages.
    - `code_moments`: moving averages of the codes and of their outer products.
    """

    settings: VaeGanSettings
    decoder: Tapered
    encoder: GaussianEncoder
    average: Tapered
    average_encoder: GaussianEncoder
    discriminator: Discriminator
    adam: torch.optim.Adam
    discriminator_adam: torch.optim.Adam
    features: Features | None
    operators: list[LinearOperator]
    code_moments: tuple[Tensor, Tensor]
    history: dict[str, list[tuple[int, float]]] = dc.field(default_factory=dict)

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {
            "decoder": self.decoder,
            "encoder": self.encoder,
            "average": self.average,
            "average_encoder": self.average_encoder,
            "discriminator": self.discriminator,
        }

    @property
    def optimizers(self) -> dict[str, torch.optim.Adam]:
        return {"autoencoder": self.adam, "discriminator": self.discriminator_adam}

    def losses(self, x: Image, pixels: Pixels) -> dict[str, float]:
        settings, adversarial = self.settings, self.phase == "adversarial"
        rate = autoencoder_rate(self.step, settings.total_steps, settings.learning_rate)
        self.adam.param_groups[0]["lr"] = rate
        terms, fakes = self._autoencoder_terms(x, adversarial)
        self.adam.zero_grad()
        weights = _weights(settings, x[0].numel(), adversarial)
        loss = sum((weights[name] * term for name, term in terms.items()), torch.zeros(()))
        loss.backward()
        nn.utils.clip_grad_norm_(self.adam.param_groups[0]["params"], LARGEST_GRADIENT)
        self.adam.step()
        if adversarial:
            terms |= self._discriminator_step(x, fakes)
        done = self.step + 1
        decay = min(settings.ema, done / (done + 10))
        average_into(self.average, self.decoder, decay)
        average_into(self.average_encoder, self.encoder, decay)
        losses = dict(
            zip(
                terms, torch.stack([term.detach() for term in terms.values()]).tolist(), strict=True
            )
        )
        if done % 100 == 0:
            for name, value in losses.items():
                self.history.setdefault(name, []).append((done, value))
        return losses

    def prior(self, pixels: Pixels, about: About | None) -> Generator:
        """The averaged decoder and encoder, with the distribution of the training images' codes
        folded in.
        """
        distribution = measure_code_distribution(self.average_encoder, pixels)
        trunk = self.average_encoder.trunk
        assert isinstance(trunk, TaperedEncoder)
        return Generator(
            fold_into_decoder(self.average, distribution),
            NormalLatent((self.settings.latent,)),
            (-1.0, 1.0),
            about,
            encoder=fold_into_encoder(trunk, distribution),
        )

    def reconstruct(self, x: Image) -> Image:
        image: Image = self.average(self.average_encoder(x)[0])
        return image

    def curves(self) -> dict[str, dict[str, list[tuple[int, float]]]]:
        adversarial = ("realism", "discriminator")
        return {
            **super().curves(),
            "autoencoder": {k: v for k, v in self.history.items() if k in ("error", "features")},
            "adversarial": {k: v for k, v in self.history.items() if k in adversarial},
        }

    def state(self) -> dict[str, Any]:
        return {**super().state(), "history": self.history}

    def tensors(self) -> dict[str, Tensor]:
        return dict(zip(("code.mean", "code.second"), self.code_moments, strict=True))

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().restore(state, tensors)
        device = self.code_moments[0].device
        mean, second = tensors["code.mean"], tensors["code.second"]
        latent = self.settings.latent
        check_tensor(mean, (latent,), "code.mean")
        check_tensor(second, (latent, latent), "code.second")
        self.code_moments = (mean.to(device), second.to(device))
        self.history = {str(name): points(line) for name, line in state["history"].items()}

    def _autoencoder_terms(self, x: Image, adversarial: bool) -> tuple[dict[str, Tensor], Image]:
        """The terms of the loss by name, and the images for the discriminator."""
        seed, step = self.settings.seed, self.step
        half = x[: -(-len(x) // 2)]
        worse = self._degraded(half)
        means, log_variances = self.encoder(torch.cat([x, worse]))
        mean, worse_mean = means[: len(x)], means[len(x) :]
        log_variance, worse_log_variance = log_variances[: len(x)], log_variances[len(x) :]
        code = mean + torch.exp(log_variance / 2) * self._noise("code", len(x), x.device)
        self._update_moments(code.detach())
        codes = torch.cat([code, self._sampled(len(half), x.device)]) if adversarial else code
        images = self.decoder(codes)
        estimate = images[: len(x)]
        terms = {
            "error": (x - estimate).float().abs().mean() / 2,
            "KL": kl_divergence(mean, log_variance).mean(),
            "KL of degraded": kl_between(
                mean[: len(half)].detach(),
                log_variance[: len(half)].detach(),
                worse_mean,
                worse_log_variance.clamp_min(MIN_LOG_VARIANCE),
            ).mean(),
        }
        if self.features is not None:
            down, right = torch.randint(2, (2,), generator=stream(seed, step, "shift")).tolist()
            shifted = (each[..., down:, right:] for each in (estimate, x))
            terms["features"] = self.features(*shifted)
        if not adversarial:
            return terms, estimate
        fakes = torch.cat([estimate[: len(half)], images[len(x) :]])
        self.discriminator.requires_grad_(False)
        terms["realism"] = self.discriminator(fakes).mean()
        self.discriminator.requires_grad_(True)
        return terms, fakes.detach()

    def _discriminator_step(self, x: Image, fakes: Image) -> dict[str, Tensor]:
        self.discriminator_adam.zero_grad()
        real, fake = self.discriminator(x), self.discriminator(fakes)
        loss = discriminator_loss(real, fake)
        total = loss
        if self.step % PENALTY_EVERY == 0 and self.settings.gradient_penalty > 0:
            with torch.autocast(x.device.type, enabled=False):
                penalty = gradient_penalty(self.discriminator, x)
            total = total + self.settings.gradient_penalty * PENALTY_EVERY * penalty
        total.backward()
        self.discriminator_adam.step()
        return {"discriminator": loss}

    def _degraded(self, x: Image) -> Image:
        with torch.autocast(x.device.type, enabled=False):
            worse = degraded(x, self.operators, self.settings.seed, self.step)
        return worse.to(memory_format=torch.channels_last)

    def _noise(self, purpose: str, count: int, device: torch.device) -> Tensor:
        rng = stream(self.settings.seed, self.step, purpose)
        return torch.randn(count, self.settings.latent, generator=rng).to(device)

    def _sampled(self, count: int, device: torch.device) -> Tensor:
        mean, second = self.code_moments
        with torch.autocast(device.type, enabled=False):
            distribution = code_distribution(mean, second - mean[:, None] * mean)
            return distribution.code(self._noise("z", count, device))

    def _update_moments(self, code: Tensor) -> None:
        """Update the moving averages with the codes of this step."""
        decay = min(CODE_MEMORY, self.step / (self.step + 10))
        with torch.autocast(code.device.type, enabled=False):
            code = code.float()
            moments = code.mean(0), code.T @ code / len(code)
            mean, second = (
                old.lerp(new, 1 - decay)
                for old, new in zip(self.code_moments, moments, strict=True)
            )
        self.code_moments = mean, second


def _weights(settings: VaeGanSettings, n: int, adversarial: bool) -> dict[str, float]:
    """Weights by name of the loss terms, for images of `n` values."""
    scale = settings.kl_weight / n
    return {
        "error": 1.0,
        "KL": scale,
        "KL of degraded": settings.degraded_weight * scale,
        "features": settings.perceptual_weight,
        "realism": -settings.adversarial_weight if adversarial else 0.0,
    }
