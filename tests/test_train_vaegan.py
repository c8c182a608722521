"""The VAE-GAN: its losses against definitions, whole runs on generated pictures."""

import dataclasses as dc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

import iagan
from iagan.cli import main
from iagan.errors import SettingError
from iagan.operators import BicubicDownsample
from iagan.priors import load_prior
from iagan.train import VaeGanSettings, load_images, train
from iagan.train.data import stream
from iagan.train.degrade import degradations, degraded
from iagan.train.losses import (
    Discriminator,
    discriminator_loss,
    gradient_penalty,
    kl_between,
    kl_divergence,
)
from iagan.train.recipes import new_run
from shapes import write_discs

TINY = VaeGanSettings(
    size=16,
    latent=6,
    batch=4,
    channels=(8, 8, 8),
    encoder_channels=(8, 8),
    autoencoder_steps=6,
    steps=8,
    perceptual_weight=0.0,
    holdout=4,
)
"""14 steps: a checkpoint every 4 falls into both phases, and one step has a gradient penalty."""
CPU = torch.device("cpu")
EVERY_4 = {"checkpoint_every": 4}


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return write_discs(tmp_path_factory.mktemp("images") / "discs", 24)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, discs):
    done = train(TINY, discs, tmp_path_factory.mktemp("whole") / "prior.safetensors", **EVERY_4)
    return contents(done.prior), contents(done.folder / "checkpoint.safetensors")


def contents(path: Path):
    with safe_open(path, "np") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def test_the_divergences_are_those_of_torch():
    rng = torch.Generator().manual_seed(0)
    mean, log_variance, mean2, log_variance2 = torch.randn(4, 3, 5, generator=rng)
    one = Normal(mean, torch.exp(log_variance / 2))
    other = Normal(mean2, torch.exp(log_variance2 / 2))
    unit = Normal(torch.zeros(3, 5), torch.ones(3, 5))
    torch.testing.assert_close(kl_divergence(mean, log_variance), reference_kl(one, unit).sum(1))
    divergence = kl_between(mean, log_variance, mean2, log_variance2)
    torch.testing.assert_close(divergence, reference_kl(one, other).sum(1))


def test_the_hinge_and_the_penalty_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert float(discriminator_loss(real, fake)) == pytest.approx(0.25 + 1.0)

    class Linear(torch.nn.Module):
        def forward(self, x):
            return 3 * x[:, 0, 0, 0] - 4 * x[:, 1, 1, 1]

    assert float(gradient_penalty(Linear(), torch.rand(2, 3, 4, 4))) == pytest.approx(25 / 2)


@pytest.mark.parametrize("size", [16, 32, 128])
def test_the_discriminator_sees_whether_a_batch_is_all_alike(size):
    """Its answer for an image depends on the others by their spread alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Discriminator(size)
    with torch.no_grad():
        network.last.weight[:, -1] *= 1e3  # of the spread
    x = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    varied, alike = network(x), network(x[:1].expand(3, -1, -1, -1))
    assert varied.shape == (3,)
    torch.testing.assert_close(alike, alike[:1].expand(3))
    assert abs(float((varied - alike)[0].detach())) > 1e-4


def test_degraded_images_are_naive_pictures_of_their_step():
    operators = degradations((3, 16, 16))
    x = 2 * torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    first, again = (degraded(x, operators, 0, 5) for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, degraded(x, operators, 0, 6))
    clean = degraded(x, [BicubicDownsample((3, 16, 16), scale=4)], 0, quiet_step())
    operator = BicubicDownsample((3, 16, 16), scale=4)
    expected = operator.naive(operator((x + 1) / 2)).clamp(0, 1)
    torch.testing.assert_close(clean, 2 * expected - 1)


def quiet_step() -> int:
    """A step of seed 0 whose measurement is without noise: every other one is."""
    for step in range(50):
        rng = stream(0, step, "degradation")
        torch.randint(1, (1,), generator=rng)
        if float(torch.rand((), generator=rng)) < 0.5:
            return step
    raise AssertionError("no step without noise")


def test_it_learns_generated_shapes_and_its_encoder_gives_a_better_start(tmp_path):
    """The losses fall; on held-out images z from the encoder of the naive picture fits y better
    than the best of five random ones."""
    source = write_discs(tmp_path / "discs", 200, size=16)
    settings = dc.replace(
        TINY, latent=12, channels=(32, 32, 16), encoder_channels=(16, 32), batch=16,
        autoencoder_steps=250, steps=50, holdout=16, learning_rate=2e-3,
    )  # fmt: skip
    told = []
    done = train(settings, source, tmp_path / "p.safetensors", on_event=told.append)
    told = [event for event in told if event.phase != "images"]

    def mean(name, steps):
        return sum(event.values[name] for event in told[steps]) / len(told[steps])

    assert mean("error", slice(225, 250)) < 0.5 * mean("error", slice(0, 25))
    assert mean("discriminator", slice(-10, None)) < 2.0  # of one that cannot tell
    assert {"realism", "discriminator"} <= set(told[-1].values)

    prior = load_prior(str(done.prior))
    held_out = load_images(source, 16).pixels[-16:].float() / 255
    y = iagan.observe(held_out, BicubicDownsample((3, 16, 16), scale=4))
    encoded = iagan.presets.adjust(iagan.presets.fast("csgm", y, prior), csgm_steps=0)
    assert encoded.first_start == "encoder"
    from_encoder = iagan.reconstruct(y, prior, encoded)
    random = dc.replace(encoded, first_start="random", restarts=5)
    from_random = iagan.reconstruct(y, prior, random)
    assert from_encoder.residual.mean() < 0.8 * from_random.residual.mean()


class Stopped(Exception):
    """Stands for whatever ends a program."""


def stop_at(step):
    def stop(event):
        if event.phase != "images" and event.step == step:
            raise Stopped

    return stop


@pytest.mark.parametrize("step", [3, 6, 9, 13])
def test_a_run_goes_on_bit_for_bit(tmp_path, discs, uninterrupted, step):
    output = tmp_path / "prior.safetensors"
    with pytest.raises(Stopped):
        train(TINY, discs, output, on_event=stop_at(step), **EVERY_4)
    done = train(TINY, discs, output, resume=True, **EVERY_4)
    assert contents(done.prior) == uninterrupted[0]
    assert contents(done.folder / "checkpoint.safetensors") == uninterrupted[1]


KILLED = """
import sys
import torch
sys.path[:0] = [{tests!r}]
torch.set_num_threads({threads})
from test_train_vaegan import EVERY_4, TINY, train
tell = lambda e: e.phase != "images" and print(e.step, flush=True)
train(TINY, {images!r}, {output!r}, on_event=tell, **EVERY_4)
"""


def test_kill_9_loses_at_most_one_interval(tmp_path, discs, uninterrupted):
    output = tmp_path / "prior.safetensors"
    script = KILLED.format(
        tests=str(Path(__file__).parent),
        threads=torch.get_num_threads(),
        images=str(discs),
        output=str(output),
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 10:
                process.send_signal(signal.SIGKILL)
                break
    done = train(TINY, discs, output, resume=True, **EVERY_4)
    assert contents(done.prior) == uninterrupted[0]
    assert contents(done.folder / "checkpoint.safetensors") == uninterrupted[1]


def test_the_prior_is_the_averaged_networks_with_the_code_distribution_folded_in(discs):
    """decode(encode(x)) is what the networks make of x; codes become unit-normal z."""
    run = new_run(TINY, CPU)
    pixels = load_images(discs, 16).pixels
    for step in range(3):
        run.step = step
        run.losses(pixels[:4].float() / 127.5 - 1, pixels)
    prior = run.prior(pixels, None)
    x = pixels[:5].float() / 255
    expected = (run.reconstruct(2 * x - 1) + 1) / 2
    torch.testing.assert_close(prior(prior.encode(x)), expected, rtol=1e-3, atol=1e-4)
    z = prior.encode(pixels.float() / 255)
    assert z.mean(0).abs().max() < 0.05
    assert 0 < z.var(0).mean() <= 1.05  # with the encoder's own spread it is 1


def test_a_run_can_begin_with_a_prior(tmp_path, discs, uninterrupted):
    first = train(TINY, discs, tmp_path / "first.safetensors")
    settings = dc.replace(TINY, start=str(first.prior))
    prior, run = load_prior(str(first.prior)), new_run(settings, CPU)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close((run.reconstruct(2 * x - 1) + 1) / 2, prior(prior.encode(x)))
    with pytest.raises(SettingError, match="start"):
        new_run(dc.replace(settings, channels=(8, 8, 9)), CPU)


def test_a_wild_batch_moves_no_more_than_another():
    """Without this, a run on a GPU ended within 500 steps: Adam's moments never got over it."""
    run = new_run(dc.replace(TINY, kl_weight=1e9), CPU)
    seen = []
    step = run.adam.step
    run.adam.step = lambda: (seen.append(_norm(run)), step())
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    run.losses(x, torch.zeros(4, 3, 16, 16, dtype=torch.uint8))
    assert seen == [pytest.approx(1.0, rel=1e-3)]


def _norm(run) -> float:
    gradients = [w.grad for group in run.adam.param_groups for w in group["params"]]
    return float(torch.cat([g.flatten() for g in gradients if g is not None]).norm())


@pytest.mark.parametrize(
    "bad", [{"size": 32}, {"encoder_channels": (8,)}, {"batch": 1}, {"kl_weight": -1.0}]
)
def test_numbers_that_cannot_work_are_refused(bad):
    with pytest.raises(SettingError, match="VaeGanSettings expects"):
        dc.replace(TINY, **bad)


def test_settings_survive_a_checkpoint():
    assert VaeGanSettings.from_json(TINY.to_json()) == TINY


def test_the_command_line_trains_and_refuses_another_recipes_options(tmp_path, discs, capsys):
    output = tmp_path / "p.safetensors"
    words = ["train", str(discs), "-o", str(output), "--size", "16", "--channels", "8,8,8"]
    words += ["--encoder-channels", "8,8", "--latent", "6", "--batch", "4", "--holdout", "4"]
    words += ["--autoencoder-steps", "2", "--steps", "1", "--perceptual-weight", "0", "--half"]
    assert main(words) == 0
    assert load_prior(str(output)).encoder is not None
    capsys.readouterr()
    assert main([*words[:3], str(tmp_path / "q.safetensors"), "--width", "8"]) == 2
    assert "has no --width" in capsys.readouterr().err
