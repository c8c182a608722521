"""Compositions, sums, multiples and stacks: what they make, and what they refuse."""

import dataclasses as dc

import numpy as np
import pytest
import torch

from helpers import BLUR, COLOUR, FOURIER, MASK, PAIR, as_users_run_it, dense, image, measurement
from iagan.errors import SettingError, ShapeError
from iagan.operators import (
    BicubicDownsample,
    Compose,
    FFTBlur,
    Gaussian,
    Identity,
    Inpaint,
    LinearOperator,
    Scaled,
    Stack,
    Sum,
    UniformBlur,
    adjoint_gap,
)

HALF = BicubicDownsample(PAIR, 2)
WRAPPED = UniformBlur(PAIR, size=5, border="circular")


@pytest.mark.parametrize(
    ("operator", "matrix"),
    [
        (HALF @ BLUR, dense(HALF) @ dense(BLUR)),
        (MASK @ WRAPPED @ BLUR, dense(MASK) @ dense(WRAPPED) @ dense(BLUR)),
        (MASK @ (WRAPPED @ BLUR), dense(MASK) @ dense(WRAPPED) @ dense(BLUR)),
        (BLUR + WRAPPED, dense(BLUR) + dense(WRAPPED)),
        (BLUR - WRAPPED, dense(BLUR) - dense(WRAPPED)),
        (BLUR - (WRAPPED - BLUR), 2 * dense(BLUR) - dense(WRAPPED)),
        (2.0 * BLUR, 2 * dense(BLUR)),
        (BLUR * 3, 3 * dense(BLUR)),
        (BLUR / 4, dense(BLUR) / 4),
        (-BLUR, -dense(BLUR)),
        (np.float32(2) * BLUR, 2 * dense(BLUR)),
        (np.float64(2) * BLUR, 2 * dense(BLUR)),
        ((2 * HALF) @ (3 * BLUR), 6 * dense(HALF) @ dense(BLUR)),
        (Stack((BLUR, FOURIER)), torch.cat((dense(BLUR), dense(FOURIER)))),
    ],
)
def test_the_algebra_of_operators_is_that_of_their_matrices(operator, matrix):
    torch.testing.assert_close(dense(operator), matrix)


def test_composing_keeps_parts_flat_and_closed_forms_closed():
    assert [type(part) for part in ((MASK @ WRAPPED) @ (BLUR @ BLUR)).parts] == [
        Inpaint,
        UniformBlur,
        UniformBlur,
        UniformBlur,
    ]
    assert len((BLUR + BLUR - BLUR + BLUR).parts) == 4
    assert HALF @ Identity(PAIR) is HALF
    assert Identity(HALF.measurement_shape) @ HALF is HALF
    assert isinstance(Identity(PAIR) @ Identity(PAIR), Identity)
    scaled = (2 * HALF) @ (5 * Identity(PAIR))
    assert isinstance(scaled, Scaled)
    assert (scaled.base, scaled.factor) == (HALF, 10)
    assert (3 * (2 * HALF)).factor == 6
    assert 0.5 * (2 * HALF) is HALF
    assert -1 * -HALF is HALF


def test_a_multiple_has_the_closed_forms_of_its_operator(monkeypatch):
    """No iteration: neither forward nor adjoint is called."""
    scaled, y = -4 * HALF, measurement(HALF)
    for name in ("_forward", "_adjoint"):
        monkeypatch.setattr(BicubicDownsample, name, None)
    torch.testing.assert_close(scaled.pinv(y), HALF.pinv(y) / -4)
    torch.testing.assert_close(scaled.naive(y), HALF.naive(y) / -4)
    torch.testing.assert_close(scaled.singular_values(), 4 * HALF.singular_values())
    assert scaled.norm() == 4 * HALF.norm()
    assert (2 * (HALF @ BLUR)).singular_values() is None


def test_naive_of_a_composition_is_that_of_its_parts_one_after_another():
    y = measurement(HALF)
    torch.testing.assert_close((HALF @ BLUR).naive(y), HALF.naive(y))
    masked = MASK @ (2 * BLUR)
    once = MASK(BLUR(image(BLUR)))
    torch.testing.assert_close(masked.naive(2 * once), MASK.adjoint(once))
    total = BLUR + WRAPPED
    assert torch.equal(total.naive(y := measurement(BLUR)), total.pinv(y))


def test_a_stack_joins_and_splits_measurements():
    stack = Stack((FOURIER, MASK, HALF))
    x = image(BLUR)
    parts = [FOURIER(x), MASK(x).numpy(), HALF(x)]
    y = stack.join(parts)
    assert torch.equal(y, stack(x))
    assert y.shape == (2, FOURIER.m + MASK.m + HALF.m)
    for piece, part in zip(stack.split(y), parts, strict=True):
        assert torch.equal(piece, torch.as_tensor(part))


def test_two_exposures_say_more_than_one():
    """Of complementary masks, the stack's A† is the image itself."""
    others = Inpaint(PAIR, ~MASK.mask)
    x, stack = image(MASK), Stack((MASK, others))
    torch.testing.assert_close(stack.pinv(stack(x)), x)


def test_pinv_of_a_camera_is_accurate_at_a_real_size():
    """Blur, ×4 and noise-free, at 64²: A A† y = y to 1e-9 in double, 1e-5 in single precision."""
    shape = (3, 64, 64)
    camera = BicubicDownsample(shape, 4) @ UniformBlur(shape, 5)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(camera(camera.pinv(camera(x))), camera(x), rtol=0, atol=1e-9)
    y = camera(x.float())
    torch.testing.assert_close(camera(camera.pinv(y)), y, rtol=0, atol=1e-5)


def test_the_norm_is_estimated_from_above_within_two_percent():
    """Power iterations, at a size at which the composition's own norm is known: |k̂|'s largest."""
    shape = (1, 32, 32)
    a, b = UniformBlur(shape, 3, "circular"), UniformBlur(shape, 5, "circular")
    exact = (a.singular_values()[0] * b.singular_values()[0]).item()
    assert exact <= (a @ b).norm() <= 1.02 * exact
    high_pass = Identity(shape) - a
    assert 1.33 < high_pass.norm() < 1.37, "1 + 1/3 where both sides alternate in one axis"


def test_to_moves_the_parts(monkeypatch):
    moved = []
    monkeypatch.setattr(
        UniformBlur, "to", lambda self, device: (moved.append(device), UniformBlur(PAIR, 1))[1]
    )
    operator = (2 * Stack((BLUR + WRAPPED, HALF @ BLUR))).to("cpu")
    assert moved == ["cpu"] * 3
    assert operator.base.parts[1].parts[1].size == 1


@dc.dataclass(frozen=True, eq=False)
class Mistaken(UniformBlur):
    """A mutant: its adjoint is off by one percent, as that of a blur with the wrong kernel."""

    def _adjoint(self, y):
        return 1.01 * super()._adjoint(y)


@pytest.mark.parametrize("make", [lambda a: HALF @ a, lambda a: a + BLUR, lambda a: 2 * a])
def test_a_wrong_adjoint_inside_shows_outside(make):
    assert adjoint_gap(make(BLUR), dtype=torch.float64) < 1e-12
    assert adjoint_gap(make(Mistaken(PAIR, 3)), dtype=torch.float64) > 1e-3


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: BLUR @ HALF, ShapeError, r"real images of shape \(2, 8, 6\), as UniformBlur"),
        (lambda: BLUR @ Gaussian(PAIR, 9, 0), ShapeError, r"got real measurements of shape \(9,\)"),
        (lambda: Identity((2, 1, 14)) @ FOURIER, ShapeError, "got complex measurements"),
        (lambda: Identity((1, 8, 6)) @ BLUR, ShapeError, r"Compose expects .*\(1, 8, 6\)"),
        (lambda: BLUR + HALF, ShapeError, r"real \(2, 8, 6\) and real \(2, 4, 3\)"),
        (lambda: FOURIER - Identity((2, 8, 6)), ShapeError, "got complex .* and real"),
        (lambda: BLUR + UniformBlur((1, 8, 6), 3), ShapeError, r"\(2, 8, 6\) and \(1, 8, 6\)"),
        (lambda: Stack((BLUR, Identity((1, 8, 6)))), ShapeError, "Stack expects .* same shape"),
        (lambda: Stack(()), SettingError, r"Stack expects a tuple of operators; got \(\)"),
        (lambda: Stack(BLUR), SettingError, "Stack expects a tuple of operators; got Uniform"),
        (lambda: Sum((BLUR, 3)), SettingError, "expects an operator.*got int"),
        (lambda: Compose((BLUR, torch.nn.Identity())), SettingError, "LinearPhysics; got Identity"),
        (lambda: BLUR @ torch.zeros(1, *PAIR), SettingError, r"Call the operator .*A\(x\)"),
        (lambda: BLUR @ np.zeros((1, *PAIR)), SettingError, r"Call the operator .*A\(x\)"),
        (lambda: np.zeros((3, 3)) @ BLUR, SettingError, "two operators; got numbers"),
        (lambda: BLUR + 1, SettingError, "expects an operator.*got int"),
        (lambda: 1 - BLUR, SettingError, "expects an operator.*got int"),
        (lambda: 0 * BLUR, SettingError, "number other than 0; got 0.0"),
        (lambda: float("inf") * BLUR, SettingError, "number other than 0; got inf"),
        (lambda: Scaled(BLUR, "2"), SettingError, "number other than 0; got '2'"),
        (lambda: Scaled(2, BLUR), SettingError, "expects an operator.*got int"),
        (lambda: Stack((BLUR,)).join([]), ShapeError, "1 measurements, one per part; got 0"),
        (lambda: Stack((MASK,)).join([torch.zeros(1, 2)]), ShapeError, "Inpaint expects"),
        (
            lambda: Stack((BLUR, BLUR)).join([torch.zeros(1, *PAIR), torch.zeros(2, *PAIR)]),
            ShapeError,
            r"equal batch sizes; got \[1, 2\]",
        ),
        (lambda: Stack((BLUR,)).split(torch.zeros(1, 5)), ShapeError, r"shape \(batch, 96\)"),
        (lambda: BLUR([[1.0]]), SettingError, "UniformBlur .*NumPy array of numbers; got list"),
        (lambda: BLUR(np.array(["a"])), SettingError, "got an array of <U1"),
        (lambda: BLUR(np.zeros((1, *PAIR), int)), ShapeError, "got torch.int64"),
        (lambda: BLUR(np.zeros((1, *PAIR), np.longdouble)), SettingError, "array of float128"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, error, words):
    with as_users_run_it(), pytest.raises(error, match=words) as info:
        make()
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("factor", [1j, "2", None, torch.ones(1)])
def test_only_real_numbers_are_factors(factor):
    with pytest.raises(TypeError):
        _ = factor * BLUR
    with pytest.raises(TypeError):
        _ = BLUR * factor
    with pytest.raises(TypeError):
        _ = BLUR / 0


def test_kernels_and_masks_may_be_numpy_arrays():
    kernel = np.random.default_rng(0).random((3, 4))
    mask = np.arange(48).reshape(8, 6) % 3 == 0
    with as_users_run_it():
        made = [FFTBlur(PAIR, kernel), Inpaint(PAIR, mask), UniformBlur(PAIR, 3)]
    x = image(BLUR)
    torch.testing.assert_close(made[0](x), FFTBlur(PAIR, torch.from_numpy(kernel))(x))
    torch.testing.assert_close(made[1](x), Inpaint(PAIR, torch.from_numpy(mask))(x))
    mask[:] = False
    assert made[1].mask.any(), "the operator's mask is its own"
    assert all(isinstance(operator, LinearOperator) for operator in made)


def test_a_subclass_of_an_operator_keeps_its_own_forward_in_a_composition():
    class Halved(Identity):
        def _forward(self, x):
            return x / 2

    x, halved = torch.rand(2, *COLOUR), Halved(COLOUR)
    for composed in (halved @ Identity(COLOUR), Identity(COLOUR) @ halved, halved @ halved):
        expected = x / 4 if composed.name == "compose" else x / 2
        torch.testing.assert_close(composed(x), expected)
