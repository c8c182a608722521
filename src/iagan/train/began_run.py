"""BEGAN's training run: networks, optimizers, counters, and the two phases."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from iagan.priors import About, Generator
from iagan.priors.networks.began import Began
from iagan.train.autoencoder import autoencoder_step
from iagan.train.base import TrainingRun, check_tensor, number
from iagan.train.began import Window, began_step, convergence_measure, remember
from iagan.train.began_settings import BeganSettings
from iagan.train.code import CodeDistribution, fold_into_decoder, measure_code_distribution
from iagan.train.data import Pixels, stream
from iagan.train.networks import (
    Discriminator,
    GaussianEncoder,
    Mean,
    average_into,
    initialise,
    make_encoder,
    same_weights,
)
from iagan.types import Image


@dc.dataclass
class BeganRun(TrainingRun):
    """The state of a training run, with its settings.

    - `generator`: G; `average`: its exponential moving average; `discriminator`: D.
    - `encoder`: the encoder of the autoencoder phase, or None without one.
    - `code`: distribution of the decoder's input in the adversarial phase; None before it, or
      without an autoencoder phase.
    - `k`: the balance k_t.
    - `windows`: means over `patience` adversarial steps; `sums`: sums of the current window.
    """

    settings: BeganSettings
    generator: Began
    average: Began
    discriminator: Discriminator
    encoder: GaussianEncoder | None
    generator_adam: torch.optim.Adam
    discriminator_adam: torch.optim.Adam
    code: CodeDistribution | None = None
    k: float = 0.0
    windows: list[Window] = dc.field(default_factory=list)
    sums: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def networks(self) -> dict[str, nn.Module]:
        named: dict[str, nn.Module | None] = {
            "generator": self.generator,
            "average": self.average,
            "discriminator": self.discriminator,
            "encoder": self.encoder,
        }
        return {name: network for name, network in named.items() if network is not None}

    @property
    def optimizers(self) -> dict[str, torch.optim.Adam]:
        return {"generator": self.generator_adam, "discriminator": self.discriminator_adam}

    def losses(self, x: Image, pixels: Pixels) -> dict[str, float]:
        """Train for one step of the current phase, update the moving average, and switch phases."""
        settings, autoencoder = self.settings, self.phase == "autoencoder"
        if autoencoder:
            losses = {"error": float(autoencoder_step(self, x))}
        else:
            error, fake = began_step(self, x)
            measure = convergence_measure(error, fake, settings.gamma)
            losses = {"error": error, "M": measure, "k": self.k}
        done = self.step + 1
        average_into(self.average, self.generator, min(settings.ema, done / (done + 10)))
        if not autoencoder:
            remember(self, error, fake, done)
        if done == settings.autoencoder_steps:
            start_adversarial_phase(self, pixels)
        return losses

    def prior(self, pixels: Pixels, about: About | None) -> Generator:
        module = fold_into_decoder(self.average, self._code_distribution(pixels))
        return Generator(module, self.settings.latent_space, (-1.0, 1.0), about)

    def reconstruct(self, x: Image) -> Image | None:
        trained = self.step <= self.settings.autoencoder_steps or self.settings.anchor > 0
        if self.encoder is None or not trained:
            return None
        image: Image = self.average(self.encoder(x)[0])
        return image

    def curves(self) -> dict[str, dict[str, list[tuple[int, float]]]]:
        first, patience = self.settings.autoencoder_steps, self.settings.patience
        steps = [first + patience * (index + 1) for index in range(len(self.windows))]
        lines = {
            "M": [window.measure for window in self.windows],
            "L(x)": [window.real for window in self.windows],
            "L(G(z))": [window.fake for window in self.windows],
        }
        panel = {name: list(zip(steps, line, strict=True)) for name, line in lines.items()}
        return {**super().curves(), "adversarial phase": panel}

    def state(self) -> dict[str, Any]:
        windows = [dc.astuple(window) for window in self.windows]
        return {**super().state(), "k": self.k, "windows": windows, "sums": self.sums}

    def tensors(self) -> dict[str, Tensor]:
        if self.code is None:
            return {}
        return {"code.mean": self.code.mean, "code.factor": self.code.factor}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().restore(state, tensors)
        if "code.mean" in tensors:
            device = next(self.generator.parameters()).device
            mean, factor = tensors["code.mean"], tensors["code.factor"]
            latent = self.settings.latent
            check_tensor(mean, (latent,), "code.mean")
            check_tensor(factor, (latent, latent), "code.factor")
            self.code = CodeDistribution(mean.to(device), factor.to(device))
        self.k = number(state["k"])
        self.windows = [Window(*map(number, values)) for values in state["windows"]]
        measure, real, fake = map(number, state["sums"])
        self.sums = (measure, real, fake)

    def _code_distribution(self, pixels: Pixels) -> CodeDistribution | None:
        if self.encoder is None or self.code is not None:
            return self.code
        return measure_code_distribution(self.encoder, pixels)


def new_began_run(settings: BeganSettings, device: torch.device) -> BeganRun:
    """A run before its first step, with random weights."""
    rng = stream(settings.seed, 0, "weights")
    generator = _generator(settings)
    initialise(generator, rng)
    encoder = None
    if settings.autoencoder_steps > 0:
        encoder = GaussianEncoder(make_encoder(settings, 2 * settings.latent))
        initialise(encoder, rng)
        code: nn.Module = Mean(GaussianEncoder(make_encoder(settings, 2 * settings.latent)))
    else:
        code = make_encoder(settings, settings.latent)
    discriminator = Discriminator(code, _generator(settings))
    initialise(code, rng)
    initialise(discriminator.decoder, rng)
    average = _generator(settings)
    same_weights(average, generator)
    for network in (generator, average, discriminator, encoder):
        if network is not None:
            network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return BeganRun(
        settings,
        generator,
        average,
        discriminator,
        encoder,
        *_optimizers(settings, generator, discriminator, encoder),
    )


def start_adversarial_phase(run: BeganRun, pixels: Pixels) -> None:
    """Turn the trained autoencoder into the discriminator and reset both optimizers' moments.

    The moving average of the decoder, better than the last iterate, becomes G and D's decoder. G's
    input is then drawn from the distribution of the codes of `pixels`.
    """
    assert run.encoder is not None
    run.code = measure_code_distribution(run.encoder, pixels)
    code = run.discriminator.encoder
    assert isinstance(code, Mean)
    same_weights(code.encoder, run.encoder)
    same_weights(run.generator, run.average)
    same_weights(run.discriminator.decoder, run.average)
    run.generator_adam, run.discriminator_adam = _optimizers(
        run.settings, run.generator, run.discriminator, run.encoder
    )


def _generator(settings: BeganSettings) -> Began:
    return Began(settings.width, settings.size, settings.latent, output="tanh")


def _optimizers(
    settings: BeganSettings,
    generator: nn.Module,
    discriminator: nn.Module,
    encoder: nn.Module | None,
) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    mine = [*generator.parameters(), *(encoder.parameters() if encoder is not None else ())]
    rate = settings.learning_rate
    return torch.optim.Adam(mine, lr=rate), torch.optim.Adam(discriminator.parameters(), lr=rate)
