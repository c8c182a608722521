"""The networks and the two losses, against the paper's formulas and other implementations."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.utils.flop_counter import FlopCounterMode

from helpers import as_users_run_it
from iagan.errors import SettingError
from iagan.images import Crop
from iagan.priors import Began
from iagan.train import BeganSettings, TrainSettings
from iagan.train.autoencoder import autoencoder_loss, autoencoder_rate
from iagan.train.began import began_step, convergence_measure, halvings, next_k
from iagan.train.began_run import new_began_run as new_run
from iagan.train.began_run import start_adversarial_phase
from iagan.train.code import fold_into_decoder, measure_code_distribution
from iagan.train.data import stream
from iagan.train.networks import (
    GaussianEncoder,
    average_into,
    initialise,
    light_encoder,
    published_encoder,
)

CPU = torch.device("cpu")
SMALL = BeganSettings(size=32, latent=6, width=8, batch=4, steps=10)
BOTH = BeganSettings(
    size=32, latent=6, width=8, batch=4, law="normal", encoder="light", autoencoder_steps=5
)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_the_published_encoder_widens_by_n_a_resolution(size):
    """Figure 1 of the paper: n, …, k·n channels, two convolutions each, down to 8×8."""
    encoder = published_encoder(size, 4, 10)
    convolutions = [layer for layer in encoder if isinstance(layer, torch.nn.Conv2d)]
    levels = {32: 3, 64: 4, 128: 5}[size]
    inside = [layer.out_channels for layer in convolutions[1:] if layer.stride == (1, 1)]
    assert inside == [4 * k for k in range(1, levels + 1) for _ in range(2)]
    assert sum(layer.stride == (2, 2) for layer in convolutions) == levels - 1
    assert encoder(torch.zeros(2, 3, size, size)).shape == (2, 10)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_the_light_encoder_costs_less_than_a_quarter_of_the_generator(size):
    def cost(network, x):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(x)
        return counter.get_total_flops()

    encoder = light_encoder(size, 64, 256)
    generator = Began(64, size, 128)
    assert encoder(torch.zeros(1, 3, size, size)).shape == (1, 256)
    share = cost(encoder, torch.zeros(1, 3, size, size)) / cost(generator, torch.zeros(1, 128))
    assert share < 0.25


def test_initial_weights_keep_the_signal_alive_through_all_layers():
    """PyTorch's own would shrink it by about 0.6 a layer: 0.6⁹ is a hundredth."""
    network = Began(32, 64, 64, output="linear")
    initialise(network, torch.Generator().manual_seed(0))
    z = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    assert 0.05 < network(z).std() < 0.3  # a tenth of 1, since the last layer is short


def test_the_running_mean():
    mean, network = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    expected = 0.9 * mean.weight.detach() + 0.1 * network.weight.detach()
    average_into(mean, network, 0.9)
    torch.testing.assert_close(mean.weight.detach(), expected)


def test_the_balance_and_the_convergence_measure_by_hand():
    assert next_k(0.5, 0.2, 0.06, gamma=0.5, gain=0.1) == pytest.approx(0.504)
    assert next_k(0.0, 0.2, 0.4, gamma=0.5, gain=0.1) == 0.0
    assert next_k(1.0, 0.4, 0.1, gamma=0.5, gain=0.1) == 1.0
    assert convergence_measure(0.2, 0.16, gamma=0.5) == pytest.approx(0.26)


def test_the_rate_is_halved_after_four_windows_without_a_new_lowest_measure():
    assert halvings([3.0, 2.0, 1.0]) == 0
    assert halvings([1.0, 2.0, 1.0, 1.5]) == 0
    assert halvings([1.0, 2.0, 1.0, 1.5, 1.2]) == 1
    assert halvings([1.0, 2.0, 2.0, 2.0, 0.9, 2.0, 2.0, 2.0]) == 0
    assert halvings([1.0] + [2.0] * 8) == 2


def test_one_step_is_the_papers_losses_under_adam():
    """The losses written down plainly, with detached images and one backward pass a network."""
    run = new_run(SMALL, CPU)
    run.k = 0.3
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    G, D = copy.deepcopy(run.generator), copy.deepcopy(run.discriminator)
    adam_g = torch.optim.Adam(G.parameters(), lr=SMALL.learning_rate)
    adam_d = torch.optim.Adam(D.parameters(), lr=SMALL.learning_rate)
    z = SMALL.latent_space.sample(4, stream(SMALL.seed, 0, "z"))
    fakes = G(z)
    loss_g = (fakes - D(fakes)).abs().mean()
    loss_g.backward()
    adam_d.zero_grad()
    fakes = fakes.detach()
    loss_x = (x - D(x)).abs().mean()
    (loss_x - 0.3 * (fakes - D(fakes)).abs().mean()).backward()
    adam_g.step()
    adam_d.step()

    losses = began_step(run, x)
    assert losses == pytest.approx((loss_x.item(), loss_g.item()), rel=1e-5)
    assert run.k == pytest.approx(0.3 + 1e-3 * (0.5 * loss_x.item() - loss_g.item()), rel=1e-5)
    for mine, plain in ((run.generator, G), (run.discriminator, D)):
        for ours, theirs in zip(mine.parameters(), plain.parameters(), strict=True):
            # Adam's first step is ± the rate: a sign that rounding decides may differ.
            agree = (ours - theirs).abs() < 0.02 * SMALL.learning_rate
            assert agree.float().mean() > 0.99


def test_the_autoencoder_loss_is_a_laplace_likelihood_and_the_divergence_of_torch():
    rng = torch.Generator().manual_seed(0)
    encoder = GaussianEncoder(light_encoder(32, 4, 12))
    generator = Began(4, 32, 6)
    x = torch.rand(5, 3, 32, 32, generator=rng) * 2 - 1
    noise = torch.randn(5, 6, generator=rng)
    mean, log_variance = encoder(x)
    code = Normal(mean, (log_variance / 2).exp())
    divergence = kl_divergence(code, Normal(0.0, 1.0)).sum(1).mean()
    error = torch.nn.functional.l1_loss(generator(mean + code.stddev * noise), x)
    loss, stated = autoencoder_loss(encoder, generator, x, noise, kl_weight=0.7)
    torch.testing.assert_close(stated, error)
    torch.testing.assert_close(loss, error + 0.7 * divergence / (3 * 32 * 32))


def test_the_autoencoder_rate_rises_then_falls_to_a_twentieth():
    rates = [autoencoder_rate(step, 4000, 1e-3) for step in range(4000)]
    assert rates[0] == pytest.approx(5e-6)
    assert max(rates) == pytest.approx(1e-3, rel=0.01)
    assert rates[-1] == pytest.approx(5e-5, rel=0.01)
    assert rates[200:] == sorted(rates[200:], reverse=True)


PIXELS = torch.randint(
    0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(8)
)


def test_unit_normal_latents_become_codes_of_the_images_mean_and_covariance():
    """Independent: the codes of all images, drawn with the encoder's noise many times over."""
    run = new_run(BOTH, CPU)
    assert run.encoder is not None
    distribution = measure_code_distribution(run.encoder, PIXELS)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        mean, log_variance = run.encoder(PIXELS.float() / 127.5 - 1)
        noise = torch.randn(4000, *mean.shape, generator=rng)
        codes = (mean + (log_variance / 2).exp() * noise).flatten(0, 1)
    torch.testing.assert_close(distribution.mean, mean.mean(0))
    scale = float(codes.var(0).mean())
    expected = torch.cov(codes.T)
    torch.testing.assert_close(
        distribution.factor @ distribution.factor.T, expected, rtol=0, atol=0.05 * scale
    )

    z = torch.randn(3, BOTH.latent, generator=rng)
    folded = fold_into_decoder(run.average, distribution)
    torch.testing.assert_close(folded(z), run.average(distribution.code(z)))
    assert fold_into_decoder(run.average, None) is run.average


def test_the_adversarial_phase_starts_from_the_autoencoder():
    """D(x) is then the averaged decoder of the encoder's mean, and G the averaged decoder."""
    run = new_run(BOTH, CPU)
    assert run.encoder is not None
    with torch.no_grad():
        run.average.linear.bias.add_(0.1)
    start_adversarial_phase(run, PIXELS)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, _ = run.encoder(x)
    torch.testing.assert_close(run.discriminator(x), run.average(mean))
    torch.testing.assert_close(run.generator(mean), run.average(mean))


def test_the_anchor_pulls_at_generator_and_encoder():
    """Without it the encoder rests in the adversarial phase; with it, it moves."""
    moved = {}
    for anchor in (0.0, 1.0):
        settings = BeganSettings(**{**vars(BOTH), "anchor": anchor})
        run = new_run(settings, CPU)
        start_adversarial_phase(run, PIXELS)
        assert run.encoder is not None
        before = copy.deepcopy(run.encoder.state_dict())
        began_step(run, torch.zeros(4, 3, 32, 32))
        moved[anchor] = any(
            not torch.equal(before[name], value) for name, value in run.encoder.state_dict().items()
        )
    assert moved == {0.0: False, 1.0: True}


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 48},
        {"latent": 0},
        {"law": "cauchy"},
        {"encoder": "heavy"},
        {"steps": 0},
        {"steps": -1},
        {"gamma": 0.0},
        {"learning_rate": math.nan},
        {"ema": 1.0},
        {"seed": -1},
        {"autoencoder_steps": 10},
        {"anchor": 0.5},
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(wrong):
    with as_users_run_it(), pytest.raises(SettingError) as error:
        BeganSettings(**wrong)
    assert next(iter(wrong)) in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_survive_json():
    settings = BeganSettings(gamma=0.3, crop=Crop((178, 218), (89, 121), 112))
    assert TrainSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
