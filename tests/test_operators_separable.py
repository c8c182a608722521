"""Bicubic downscaling and blurs, against other libraries."""

import math
import time

import numpy as np
import pytest
import torch
from scipy import ndimage

from helpers import as_users_run_it, kernel
from iagan.errors import SettingError
from iagan.operators import BicubicDownsample, FFTBlur, SeparableBlur, UniformBlur


def noise_image(*shape, seed=0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=rng, dtype=dtype)


@pytest.mark.parametrize("scale", [2, 3, 4, 8, 16])
def test_bicubic_is_matlabs_imresize(scale):
    """deepinv's imresize_matlab, another author's port; 48×96, so that h and w differ."""
    functional = pytest.importorskip("deepinv.physics.functional")
    x = noise_image(2, 3, 48, 96)
    y = BicubicDownsample((3, 48, 96), scale)(x)
    expected = functional.imresize_matlab(x, scale=1 / scale)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4, 8, 16])
def test_naive_is_matlabs_enlarging_imresize(scale):
    functional = pytest.importorskip("deepinv.physics.functional")
    operator = BicubicDownsample((1, 6 * scale, 5 * scale), scale)
    y = noise_image(2, 1, 6, 5)
    expected = functional.imresize_matlab(y, scale=scale)
    torch.testing.assert_close(operator.naive(y), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_bicubic_is_pillows_away_from_the_border(scale):
    """Pillow has the same kernel, but drops what lies outside instead of mirroring it."""
    from PIL import Image as Pillow

    x = noise_image(1, 1, 96, 96, dtype=torch.float32)
    side = 96 // scale
    ours = BicubicDownsample((1, 96, 96), scale)(x)[0, 0].numpy()
    pillow = np.asarray(
        Pillow.fromarray(x[0, 0].numpy()).resize((side, side), Pillow.Resampling.BICUBIC)
    )
    np.testing.assert_allclose(ours[3:-3, 3:-3], pillow[3:-3, 3:-3], atol=1e-5)


def test_bicubic_of_one_axis_by_its_definition():
    """×2 of a ramp's step by hand: weights k(t/2)/2 at t = ±½, ±1½, ±2½, ±3½, a = −½."""

    def keys(t):
        near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        return near if t <= 1 else far

    taps = [keys(t / 4) for t in (1, 3, 5, 7)]
    half = np.array(taps) / (2 * sum(taps))
    row = BicubicDownsample((1, 16, 16), 2).filter_h[3].numpy()
    expected = np.zeros(16)
    expected[3:11] = [*half[::-1], *half]
    np.testing.assert_allclose(row, expected, atol=1e-15)


def test_bicubic_keeps_a_constant_at_any_factor():
    for scale in (1, 5, 12):
        y = BicubicDownsample((1, 60, 60), scale)(torch.ones(1, 1, 60, 60))
        torch.testing.assert_close(y, torch.ones_like(y))


def test_bicubic_of_a_megapixel_takes_milliseconds_and_its_pinv_fits():
    """No n × n matrix is made, and A A† y = y holds at 1024², ×16."""
    operator = BicubicDownsample((3, 1024, 1024), 16)
    x = noise_image(1, 3, 1024, 1024, dtype=torch.float32)
    y = operator(x)
    operator.pinv(y)
    start = time.perf_counter()
    y = operator(x)
    assert time.perf_counter() - start < 1.0, "takes 20 ms on an idle machine"
    torch.testing.assert_close(operator(operator.pinv(y)), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("border", "mode"), [("mirror", "reflect"), ("circular", "wrap")])
@pytest.mark.parametrize("size", [3, 9])
def test_uniform_blur_is_scipys(border, mode, size):
    x = noise_image(1, 1, 20, 13)
    y = UniformBlur((1, 20, 13), size=size, border=border)(x)[0, 0]
    np.testing.assert_allclose(y, ndimage.uniform_filter(x[0, 0].numpy(), size, mode=mode))


@pytest.mark.parametrize(("border", "mode"), [("mirror", "reflect"), ("circular", "wrap")])
@pytest.mark.parametrize("lengths", [(3, 5), (4, 3), (8, 6)])
def test_separable_blur_is_scipys_convolution(border, mode, lengths):
    """Even and odd lengths, up to the whole image: the centre is where scipy has it."""
    k, l = (kernel(length, 1, seed=length).flatten() for length in lengths)  # noqa: E741
    x = noise_image(1, 1, 8, 6)
    y = SeparableBlur((1, 8, 6), k, l, border)(x)[0, 0]
    expected = ndimage.convolve1d(x[0, 0].numpy(), k.numpy(), axis=0, mode=mode)
    expected = ndimage.convolve1d(expected, l.numpy(), axis=1, mode=mode)
    np.testing.assert_allclose(y, expected, atol=1e-14)


@pytest.mark.parametrize("shape", [(3, 3), (4, 5), (8, 7)])
def test_fft_blur_is_scipys_wrapped_convolution(shape):
    x, k = noise_image(1, 1, 8, 7), kernel(*shape, seed=1)
    y = FFTBlur((1, 8, 7), k)(x)[0, 0]
    expected = ndimage.convolve(x[0, 0].numpy(), k.numpy(), mode="wrap")
    np.testing.assert_allclose(y, expected, atol=1e-14)


def test_fft_blur_of_a_product_kernel_is_the_circular_separable_blur():
    k, l = kernel(3, 1, seed=1), kernel(4, 1, seed=2)  # noqa: E741
    x = noise_image(2, 2, 9, 8)
    separable = SeparableBlur((2, 9, 8), k.flatten(), l.flatten(), "circular")
    torch.testing.assert_close(FFTBlur((2, 9, 8), k @ l.T)(x), separable(x))


def test_nine_by_nine_blur_is_inverted_on_what_it_passes():
    """Table 4's operator: ill conditioned, and A A† A = A all the same."""
    operator = UniformBlur((1, 64, 64), size=9)
    y = operator(noise_image(1, 1, 64, 64))
    torch.testing.assert_close(operator(operator.pinv(y)), y, rtol=0, atol=1e-9)


def test_naive_of_a_blur_is_the_blurred_image():
    y = noise_image(2, 3, 8, 6)
    shape = (3, 8, 6)
    for operator in (UniformBlur(shape, 3), SeparableBlur(shape, (1,), (1,))):
        assert torch.equal(operator.naive(y), y)
    assert torch.equal(FFTBlur(shape, kernel(3, 3, 0)).naive(y), y)


def test_the_callers_kernel_may_change_afterwards():
    k = kernel(3, 3, seed=0)
    operator = FFTBlur((1, 8, 6), k)
    k.zero_()
    assert operator.kernel.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BicubicDownsample((3, 8, 6), 4), "divides height and width; got 4 for 8×6"),
        (lambda: BicubicDownsample((3, 8, 6), 0), "scale as an integer of at least 1; got 0"),
        (lambda: BicubicDownsample((3, 8, 6), 2.0), "scale as an integer"),
        (lambda: BicubicDownsample((3, 8, 6), True), "scale as an integer"),
        (lambda: BicubicDownsample((8, 6), 2), "three positive integers"),
        (lambda: BicubicDownsample((3, 8, 0), 2), "side of image_shape .*got 0"),
        (lambda: UniformBlur((3, 8, 6), 7), "shorter side, 6; got 7"),
        (lambda: UniformBlur((3, 8, 6), 4), "odd size"),
        (lambda: UniformBlur((3, 8, 6), 3, "zero"), "'mirror' or 'circular'; got 'zero'"),
        (lambda: SeparableBlur((3, 8, 6), (1,) * 9, (1,)), "vertical no longer than .* 8"),
        (lambda: SeparableBlur((3, 8, 6), (1,), (0, 0)), "horizontal .* not all zero"),
        (lambda: SeparableBlur((3, 8, 6), (math.nan,), (1,)), "finite"),
        (lambda: SeparableBlur((3, 8, 6), "ab", (1,)), "list of numbers"),
        (lambda: FFTBlur((3, 8, 6), torch.ones(3, 7)), "no larger than the image"),
        (lambda: FFTBlur((3, 8, 6), torch.zeros(3, 3)), "not all zero"),
        (lambda: FFTBlur((3, 8, 6), torch.full((1, 1), math.inf)), "finite"),
        (lambda: FFTBlur((3, 8, 6), torch.ones(3)), "height, width"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, words):
    with as_users_run_it(), pytest.raises(SettingError, match=words) as info:
        make()
    assert "\n" not in str(info.value)
