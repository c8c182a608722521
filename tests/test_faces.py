"""What the default recovery makes of a photograph with the prior `faces`: tuned behaviour."""

import pytest
import torch
from PIL import Image as Pillow

import iagan
from helpers import as_users_run_it
from iagan.images import astronaut, crop_square
from iagan.jobs.inputs import Camera, load_input
from iagan.methods.presets import ENCODER_STEPS, fast
from iagan.methods.task import Task
from iagan.operators import BicubicDownsample

SHAPE = (3, 128, 128)


@pytest.fixture(scope="module")
def prior():
    return iagan.load_prior("faces")


@pytest.fixture(scope="module")
def truth(prior):
    return crop_square(astronaut(), None, prior.about.crop, SHAPE[1:])


def test_one_start_from_the_encoder_beats_five_random_ones(prior, truth):
    """In a fifth of their evaluations, by what CSGM minimises, and for the picture too."""
    y = iagan.observe(truth, BicubicDownsample(SHAPE, scale=8))
    with as_users_run_it():
        one = iagan.reconstruct(y, prior, "csgm")
        alone = iagan.load_prior("faces")
        alone.encoder = None
        method = fast("csgm", y, alone)
        method = iagan.presets.adjust(method, restarts=5, csgm_steps=ENCODER_STEPS)
        five = iagan.reconstruct(y, alone, method)
    assert int(one.iterations) <= ENCODER_STEPS
    assert float(one.residual) < float(five.residual)
    assert iagan.measure.psnr(one.image, truth) > iagan.measure.psnr(five.image, truth)


def test_the_settings_of_the_default_are_those_that_were_measured(prior):
    """With a prior that has an encoder; and without it those of before."""
    operator = BicubicDownsample(SHAPE, scale=4)
    y = iagan.Observation(torch.zeros(1, 3, 32, 32), operator)
    method = fast("iagan-bp", y, prior).inner
    csgm = method.start
    assert (csgm.first_start, csgm.steps, csgm.latent_prior_weight) == ("encoder", 30, 0.0)
    assert (method.weight_rate, method.latent_rate, method.steps) == (2e-4, 1e-2, 83)
    alone = iagan.load_prior("faces")
    alone.encoder = None
    before = fast("iagan-bp", y, alone).inner.start
    assert (before.first_start, before.steps, before.plateau) == ("random", 160, 1e-3)
    assert before.latent_prior_weight == pytest.approx(1 / 400)


def test_the_mean_face_is_the_start_where_the_naive_picture_misleads(prior):
    """y = 0 of an operator whose naive picture is another face: the encoder's z is not taken."""
    from iagan.methods.csgm import encoded_latents

    mean = prior(torch.zeros(1, 256))
    y = iagan.observe(mean.clamp(0, 1), iagan.operators.UniformBlur(SHAPE, size=3))
    latents = encoded_latents(iagan.CSGM(), Task(y, prior, (0,)))
    assert torch.equal(latents, torch.zeros(1, 256))


def test_the_default_recovery_of_the_astronaut(prior, truth):
    """PSNR of ×4 to 0.1 dB, as measured when this was written; above bicubic by far."""
    y = iagan.observe(truth, BicubicDownsample(SHAPE, scale=4))
    with as_users_run_it():
        result = iagan.reconstruct(y, prior)
        naive = iagan.reconstruct(y, None, "naive")
    assert result.method.name == "iagan-bp"
    psnr = iagan.measure.psnr(result.image, truth)
    assert psnr == pytest.approx(27.27, abs=0.1)
    assert psnr > iagan.measure.psnr(naive.image, truth) + 1.0


def test_the_default_recovery_of_a_small_noisy_astronaut():
    """By `faces-64`, which has no encoder: PSNR to 0.1 dB and the steps, as measured once."""
    small = iagan.load_prior("faces-64")
    truth = crop_square(astronaut(), None, small.about.crop, small.image_shape[1:])
    operator = BicubicDownsample(small.image_shape, scale=4)
    y = iagan.observe(truth, operator, 10 / 255, torch.Generator().manual_seed(0))
    with as_users_run_it():
        result = iagan.reconstruct(y, small)
    assert result.method.name == "iagan"
    assert iagan.measure.psnr(result.image, truth) == pytest.approx(24.02, abs=0.1)
    assert 55 <= int(result.iterations) <= 85, "69: CSGM ended on its plateau, IAGAN at the noise"
    assert 0.95 < float(result.residual / result.noise_floor) <= 0.98


def test_a_jpeg_of_the_astronaut_is_recovered_above_bicubic(prior, truth, tmp_path):
    """At ×4 and quality 75, where the whole error as σ gives 23.90 dB, below bicubic."""
    operator = BicubicDownsample(SHAPE, scale=4)
    pixels = (operator(truth).clamp(0, 1)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    Pillow.fromarray(pixels).save(tmp_path / "small.jpg", quality=75)
    y = load_input(tmp_path / "small.jpg", Camera(operator), prior).observation
    with as_users_run_it():
        result = iagan.reconstruct(y, prior)
        naive = iagan.reconstruct(y, None, "naive")
    psnr = iagan.measure.psnr(result.image, truth)
    assert psnr == pytest.approx(24.87, abs=0.1)
    assert psnr > iagan.measure.psnr(naive.image, truth) + 0.5
