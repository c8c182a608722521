"""The adversarial phase: boundary equilibrium GAN (Berthelot, Schumm, Metz 2017, arXiv 1703.10717).

Section 3.4 of the paper, with L(v) = mean |v - D(v)|, D an autoencoder and v an image:

    L_D = L(x) - k_t L(G(z_D))
    L_G = L(G(z_G))
    k_{t+1} = k_t + λ_k (γ L(x) - L(G(z_G))), clipped to [0, 1]
    M = L(x) + |γ L(x) - L(G(z_G))|

As in the authors' code, both networks see the same z and are updated simultaneously.
"""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from iagan.train.autoencoder import autoencoder_loss, code_noise
from iagan.train.data import stream
from iagan.types import Image

if TYPE_CHECKING:
    from iagan.train.began_run import BeganRun

STALL = 4
"""Number of windows without a new lowest mean M after which the learning rate is halved."""


@dc.dataclass(frozen=True)
class Window:
    """Means over `patience` adversarial steps: the convergence measure M and its two terms.

    `real` is L(x) and `fake` L(G(z)), both in the units of images in [-1, 1].
    """

    measure: float
    real: float
    fake: float


def reconstruction_loss(discriminator: nn.Module, v: Image) -> Tensor:
    """L(v) = mean |v - D(v)|."""
    return (v - discriminator(v)).abs().mean()


def next_k(k: float, real: float, fake: float, gamma: float, gain: float) -> float:
    """k_{t+1} = clip(k_t + λ_k (γ L(x) - L(G(z))), 0, 1)."""
    return min(max(k + gain * (gamma * real - fake), 0.0), 1.0)


def convergence_measure(real: float, fake: float, gamma: float) -> float:
    """M = L(x) + |γ L(x) - L(G(z))|."""
    return real + abs(gamma * real - fake)


def halvings(measures: Sequence[float]) -> int:
    """Number of halvings of the learning rate after windows with these means of M.

    One for every four consecutive windows without a new lowest mean.
    """
    lowest, waiting, count = float("inf"), 0, 0
    for measure in measures:
        waiting = 0 if measure < lowest else waiting + 1
        lowest = min(lowest, measure)
        if waiting == STALL:
            count, waiting = count + 1, 0
    return count


def began_step(run: BeganRun, x: Image) -> tuple[float, float]:
    """Update both networks and k on the batch `x`; returns (L(x), L(G(z)))."""
    settings = run.settings
    rate = settings.learning_rate * 0.5 ** halvings([window.measure for window in run.windows])
    for optimizer in run.optimizers.values():
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
    z = settings.latent_space.sample(len(x), stream(settings.seed, run.step, "z")).to(x.device)

    fakes = run.generator(z if run.code is None else run.code.code(z))
    fake = reconstruction_loss(run.discriminator, fakes)
    weights = list(run.discriminator.parameters())
    to_fakes, *to_weights = torch.autograd.grad(fake, [fakes, *weights])
    fakes.backward(to_fakes)
    real = reconstruction_loss(run.discriminator, x)
    real.backward()
    for weight, gradient in zip(weights, to_weights, strict=True):
        assert weight.grad is not None
        weight.grad.sub_(gradient, alpha=run.k)
    if settings.anchor > 0:
        _add_anchor_gradient(run, x)

    run.generator_adam.step()
    run.discriminator_adam.step()
    losses = (float(real.detach()), float(fake.detach()))
    run.k = next_k(run.k, *losses, settings.gamma, settings.lambda_k)
    return losses


def remember(run: BeganRun, real: float, fake: float, step: int) -> None:
    """Add the losses of the `step`-th step to the current window, and close it when full."""
    measure = convergence_measure(real, fake, run.settings.gamma)
    sums = (run.sums[0] + measure, run.sums[1] + real, run.sums[2] + fake)
    patience = run.settings.patience
    if (step - run.settings.autoencoder_steps) % patience == 0:
        run.windows.append(Window(*(value / patience for value in sums)))
        sums = (0.0, 0.0, 0.0)
    run.sums = sums


def _add_anchor_gradient(run: BeganRun, x: Image) -> None:
    """Add the gradient of `anchor` times the autoencoder phase's loss to G's and the encoder's."""
    assert run.encoder is not None
    noise = code_noise(run, x)
    loss, _ = autoencoder_loss(run.encoder, run.generator, x, noise, run.settings.kl_weight)
    (run.settings.anchor * loss).backward()
