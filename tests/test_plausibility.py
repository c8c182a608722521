"""A measurement that is not what was said of it is refused, or the result says so."""

from __future__ import annotations

import dataclasses as dc
import re

import pytest
import torch

import iagan
from iagan.errors import SettingError
from iagan.methods import CSGM, IAGAN, Naive, presets
from iagan.methods.plausibility import check_observation
from iagan.operators import (
    BicubicDownsample,
    Gaussian,
    Identity,
    Inpaint,
    LinearOperator,
    SubsampledFourier,
    UniformBlur,
    from_functions,
)
from toys import SHAPE, images, linear_generator, observe

OPERATORS = {
    "bicubic": BicubicDownsample(SHAPE, 4),
    "blur": UniformBlur(SHAPE, 5),
    "fourier": SubsampledFourier.random(SHAPE, 0.3, 0),
    "gaussian": Gaussian.from_ratio(SHAPE, 0.3, 0),
    "inpaint": Inpaint.random(SHAPE, 0.5, 0),
    "box": Inpaint.box(SHAPE, 0, 0, 9, 9),
    "denoise": Identity(SHAPE),
    "composed": UniformBlur(SHAPE, 3) @ (0.5 * UniformBlur(SHAPE, 5)),
    "differences": from_functions(SHAPE, lambda x: x - x.roll(1, -1)),
}


def measured(name, x, noise_std=0.0):
    rng = torch.Generator().manual_seed(1)
    return iagan.observe(x, OPERATORS[name], noise_std, rng)


@pytest.mark.parametrize("noise_std", [0.0, 0.1])
@pytest.mark.parametrize("name", OPERATORS)
def test_measurements_of_images_are_taken_as_they_are(name, noise_std):
    """Also of white, half-black and overshooting ones."""
    x = images(4)
    x[1] = 1
    x[2, :, :, :8] = 0
    x[3] = 1.2 * x[3] - 0.1
    assert check_observation(measured(name, x, noise_std)) == []


@pytest.mark.parametrize("name", sorted(OPERATORS.keys() - {"differences"}))
@pytest.mark.parametrize("factor", [255.0, 16.0])
def test_another_scale_is_refused(name, factor):
    """y in 0…255, k-space by another norm of the transform: no image makes it."""
    y = measured(name, images(2))
    with pytest.raises(SettingError, match="expects y of an image in \\[0, 1\\]") as caught:
        iagan.reconstruct(dc.replace(y, y=factor * y.y), None, Naive())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bicubic", "blur", "fourier", "box", "denoise"])
def test_images_in_minus_one_to_one_are_told(name):
    """Those with a dark part: a bright one is an image in [0, 1] too."""
    x = images(1)
    x[:, :, :8] *= 0.2
    y = measured(name, x)
    white = OPERATORS[name](torch.ones_like(x))
    result = iagan.reconstruct(dc.replace(y, y=2 * y.y - white), None, Naive())
    assert any("not a measurement of an image in [0, 1]" in message for message in result.messages)


def test_a_nearly_black_image_is_told():
    y = measured("fourier", images(1))
    (message,) = check_observation(dc.replace(y, y=1e-6 * y.y))
    assert "nearly black" in message


@dc.dataclass(frozen=True, eq=False)
class Wrong(LinearOperator):
    """Rows shifted one way, and in what is called the adjoint the same way."""

    name = "wrong"

    @property
    def measurement_shape(self):
        return self.image_shape

    def _forward(self, x):
        return x.roll(1, -1)

    def _adjoint(self, y):
        return y.roll(1, -1)


def test_an_operator_with_a_wrong_adjoint_is_refused():
    x = images(1)
    with pytest.raises(SettingError, match="expects <A x, y> = <x, A' y>"):
        iagan.reconstruct(iagan.Observation(x, Wrong(SHAPE)), None, "naive")


def linear_observation(noise_std, said):
    """y = A G(z) + e for a generator of 4 latents, where everything has a closed form."""
    prior, _ = linear_generator()
    x = prior(torch.full((1, 4), 0.3, dtype=torch.float64)) + 0.5
    module = torch.nn.Sequential(prior.module, _Shift())
    prior = iagan.Generator(module, iagan.NormalLatent((4,)), (0.0, 1.0))
    y = iagan.observe(x, UniformBlur(SHAPE, 3), noise_std, torch.Generator().manual_seed(0))
    return dc.replace(y, noise_std=said), prior


class _Shift(torch.nn.Module):
    def forward(self, x):
        return x + 0.5


LINEAR = IAGAN(CSGM(steps=60, optimizer="lbfgs"), steps=20, noise_share=0.98)


def test_a_sigma_that_fits_is_not_remarked_upon():
    y, prior = linear_observation(0.1, 0.1)
    assert iagan.reconstruct(y, prior, LINEAR).messages == ()


def test_too_large_a_sigma_is_told_with_one_that_fits():
    y, prior = linear_observation(0.02, 0.1)
    for method in (LINEAR, LINEAR.start):
        (message,) = iagan.reconstruct(y, prior, method).messages
        assert "less noise than was said" in message
        assert float(re.search(r"σ ≤ ([\d.]+),", message).group(1)) == pytest.approx(0.02, rel=0.1)


def test_too_small_a_sigma_is_told_with_one_that_fits():
    y, prior = linear_observation(0.1, 0.01)
    (message,) = iagan.reconstruct(y, prior, dc.replace(LINEAR, steps=0)).messages
    assert "times the noise floor" in message
    assert "σ = 0.1, which is" in message


def test_another_operator_is_told():
    """A sharp picture, said to be blurred, without noise."""
    y, prior = linear_observation(0.0, 0.0)
    rng = torch.Generator().manual_seed(0)
    sharp = torch.rand(1, *SHAPE, generator=rng, dtype=torch.float64)
    result = iagan.reconstruct(dc.replace(y, y=sharp), prior, dc.replace(LINEAR, steps=5))
    assert any("although σ is 0" in message for message in result.messages)
    assert iagan.reconstruct(y, prior, LINEAR).messages == ()


def test_rounding_to_8_bits_is_noise_where_the_pseudo_inverse_amplifies_it():
    """So that a blurred 8-bit picture is not back-projected by default, and a small one is."""
    sigma = 1 / (255 * 12**0.5)
    x = images(1)
    small = iagan.observe(x, BicubicDownsample(SHAPE, 4))
    blurred = iagan.observe(x, UniformBlur(SHAPE, 5))
    assert presets.default_name(dc.replace(small, noise_std=sigma)) == "iagan-bp"
    assert presets.default_name(dc.replace(blurred, noise_std=sigma)) == "iagan"
    assert presets.default_name(blurred) == "iagan-bp"
    assert presets.default_name(observe(noise_std=10 / 255)) == "iagan"
