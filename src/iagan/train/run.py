"""The state of a training run: networks, optimisers, counters."""

from __future__ import annotations

import dataclasses as dc

import torch
from torch import nn

from iagan.generators.began import Began
from iagan.train.code import CodeLaw, measure_code_law
from iagan.train.data import Pixels, stream
from iagan.train.networks import (
    Discriminator,
    GaussianEncoder,
    Mean,
    initialise,
    make_encoder,
    same_weights,
)
from iagan.train.settings import TrainSettings


@dc.dataclass(frozen=True)
class Window:
    """Means over `patience` adversarial steps: the convergence measure M and its two terms.

    `real` is L(x) and `fake` L(G(z)), both in the units of images in [-1, 1].
    """

    measure: float
    real: float
    fake: float


@dc.dataclass
class Run:
    """Everything that changes while training, and the settings, which do not.

    - `generator` G, `average` its running mean, `discriminator` D; `encoder` only where there is
      an autoencoder phase.
    - `code`: the law of the decoder's input in the adversarial phase; None while the autoencoder
      still changes it, and where there was none.
    - `step`: steps done, of both phases. `k`: k_t.
    - `windows`: means over `patience` adversarial steps; `sums`: the window under way.
    - `validation`: (step, mean absolute error of the autoencoder on held-out images in [0, 1]).
    """

    settings: TrainSettings
    generator: Began
    average: Began
    discriminator: Discriminator
    encoder: GaussianEncoder | None
    generator_adam: torch.optim.Adam
    discriminator_adam: torch.optim.Adam
    code: CodeLaw | None = None
    step: int = 0
    k: float = 0.0
    windows: list[Window] = dc.field(default_factory=list)
    sums: tuple[float, float, float] = (0.0, 0.0, 0.0)
    validation: list[tuple[int, float]] = dc.field(default_factory=list)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks by name, as checkpoints call them."""
        named: dict[str, nn.Module | None] = {
            "generator": self.generator,
            "average": self.average,
            "discriminator": self.discriminator,
            "encoder": self.encoder,
        }
        return {name: network for name, network in named.items() if network is not None}

    @property
    def optimisers(self) -> dict[str, torch.optim.Adam]:
        """The optimisers by name, as checkpoints call them."""
        return {"generator": self.generator_adam, "discriminator": self.discriminator_adam}

    @property
    def in_autoencoder_phase(self) -> bool:
        """Whether the next step is one of the autoencoder phase."""
        return self.step < self.settings.autoencoder_steps


def new_run(settings: TrainSettings, device: torch.device) -> Run:
    """A run before its first step, with seeded weights."""
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
    return Run(
        settings,
        generator,
        average,
        discriminator,
        encoder,
        *_optimisers(settings, generator, discriminator, encoder),
    )


def start_adversarial_phase(run: Run, pixels: Pixels) -> None:
    """Make the trained autoencoder the discriminator and let both optimisers forget their moments.

    The running mean of the decoder becomes G and D's decoder: it is better than the last iterate.
    From here on G's input follows the law of the codes of `pixels`.
    """
    assert run.encoder is not None
    run.code = measure_code_law(run.encoder, pixels)
    code = run.discriminator.encoder
    assert isinstance(code, Mean)
    same_weights(code.encoder, run.encoder)
    same_weights(run.generator, run.average)
    same_weights(run.discriminator.decoder, run.average)
    run.generator_adam, run.discriminator_adam = _optimisers(
        run.settings, run.generator, run.discriminator, run.encoder
    )


def _generator(settings: TrainSettings) -> Began:
    return Began(settings.width, settings.size, settings.latent, output="tanh")


def _optimisers(
    settings: TrainSettings,
    generator: nn.Module,
    discriminator: nn.Module,
    encoder: nn.Module | None,
) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    mine = [*generator.parameters(), *(encoder.parameters() if encoder is not None else ())]
    rate = settings.learning_rate
    return torch.optim.Adam(mine, lr=rate), torch.optim.Adam(discriminator.parameters(), lr=rate)
