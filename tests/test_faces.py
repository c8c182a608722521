"""What the default recovery makes of a photograph with the prior `faces`: tuned behaviour."""

import pytest
import torch

import iagan
from helpers import as_users_run_it
from iagan.images import astronaut, crop_square
from iagan.operators import BicubicDownsample
from iagan.reconstruction.presets import ENCODER_STEPS, fast_settings

SHAPE = (3, 128, 128)


@pytest.fixture(scope="module")
def prior():
    return iagan.load_prior("faces")


@pytest.fixture(scope="module")
def truth(prior):
    return crop_square(astronaut(), None, prior.metadata.crop, SHAPE[1:])


def test_one_start_from_the_encoder_beats_five_random_ones(prior, truth):
    """In a fifth of their evaluations, by what CSGM minimises, and for the picture too."""
    y = iagan.observe(truth, BicubicDownsample(SHAPE, scale=8))
    with as_users_run_it():
        one = iagan.reconstruct(y, prior, "csgm")
        alone = iagan.load_prior("faces")
        alone.encoder = None
        five = iagan.reconstruct(y, alone, "csgm", restarts=5, csgm_steps=ENCODER_STEPS)
    assert int(one.iterations) <= ENCODER_STEPS
    assert float(one.residual) < float(five.residual)
    assert iagan.measure.psnr(one.image, truth) > iagan.measure.psnr(five.image, truth)


def test_the_settings_of_the_default_are_those_that_were_measured(prior):
    """With a prior that has an encoder; and without it those of before."""
    operator = BicubicDownsample(SHAPE, scale=4)
    found = fast_settings("iagan-bp", operator, 0.0, prior)
    assert (found.latent_start, found.csgm_steps, found.latent_pull) == ("encoder", 30, 0.0)
    assert (found.weight_rate, found.latent_rate, found.steps) == (2e-4, 1e-2, 83)
    alone = iagan.load_prior("faces")
    alone.encoder = None
    before = fast_settings("iagan-bp", operator, 0.0, alone)
    assert (before.latent_start, before.csgm_steps) == ("random", 160)
    assert before.latent_pull == pytest.approx(1 / 400)


def test_the_mean_face_is_the_start_where_the_naive_picture_misleads(prior):
    """y = 0 of an operator whose naive picture is another face: the encoder's z is not taken."""
    from iagan.reconstruction.csgm import encoded_latents
    from iagan.reconstruction.resolve import resolve

    mean = prior(torch.zeros(1, 256))
    y = iagan.observe(mean.clamp(0, 1), iagan.operators.UniformBlur(SHAPE, size=3))
    task = resolve(y, prior, "csgm", {}, 0)
    assert torch.equal(encoded_latents(task), torch.zeros(1, 256))


def test_the_default_recovery_of_the_astronaut(prior, truth):
    """PSNR of ×4 to 0.1 dB, as measured when this was written; above bicubic by far."""
    y = iagan.observe(truth, BicubicDownsample(SHAPE, scale=4))
    with as_users_run_it():
        result = iagan.reconstruct(y, prior)
        naive = iagan.reconstruct(y, None, "naive")
    assert result.settings.method == "iagan-bp"
    found = iagan.measure.psnr(result.image, truth)
    assert found == pytest.approx(27.27, abs=0.1)
    assert found > iagan.measure.psnr(naive.image, truth) + 1.0
