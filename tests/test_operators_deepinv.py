"""deepinv's physics as our operators and back."""

import builtins
import subprocess
import sys

import pytest
import torch

import iagan
from helpers import OPERATORS, as_users_run_it, dense, image, measurement, reals
from iagan.errors import MissingDependencyError, SettingError
from iagan.operators import (
    BicubicDownsample,
    Compose,
    Identity,
    Stack,
    adjoint_gap,
    from_physics,
    to_physics,
)

deepinv = pytest.importorskip("deepinv")


def physics_examples():
    """Image shape and physics, in double precision where deepinv has that."""
    rng = torch.Generator().manual_seed(0)
    kernel = torch.rand(1, 1, 3, 3, generator=rng, dtype=torch.float64)
    mask = (torch.rand(1, 8, 6, generator=rng) < 0.6).double()
    return {
        "blur": ((2, 8, 6), deepinv.physics.Blur(kernel / kernel.sum(), padding="circular")),
        "downsampling": (
            (1, 8, 8),
            deepinv.physics.Downsampling(img_size=(1, 8, 8), filter="bicubic", factor=2),
        ),
        "inpainting": ((1, 8, 6), deepinv.physics.Inpainting(img_size=(1, 8, 6), mask=mask)),
        "compressed sensing": (
            (1, 6, 6),
            deepinv.physics.CompressedSensing(
                m=12, img_size=(1, 6, 6), rng=rng, dtype=torch.float64
            ),
        ),
        "MRI": ((2, 8, 6), deepinv.physics.MRI(mask=mask, img_size=(2, 8, 6))),
        "complex": (
            (1, 8, 6),
            deepinv.physics.LinearPhysics(
                A=lambda x, **_: torch.fft.fft2(x, norm="ortho")[..., :3],
                A_adjoint=lambda y, **_: torch.fft.ifft2(
                    torch.nn.functional.pad(y, (0, 3)), norm="ortho"
                ),
            ),
        ),
    }


@pytest.fixture(params=list(physics_examples()))
def example(request):
    return physics_examples()[request.param]


def test_a_physics_measures_the_same_as_an_operator(example):
    shape, physics = example
    physics = physics.double()
    operator = from_physics(physics, shape)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = physics.A(x)
    torch.testing.assert_close(operator(x), y)
    assert operator.measurement_shape == tuple(y.shape[1:])
    expected = physics.A_adjoint(y)
    expected = expected.real if expected.is_complex() else expected
    torch.testing.assert_close(operator.adjoint(y), expected)
    single = torch.complex64 if y.is_complex() else torch.float32
    torch.testing.assert_close(operator(x.float()), y.to(single))


def test_its_pinv_and_gram_are_those_of_the_dense_matrix(example):
    """Where deepinv's own A_dagger is an approximation; in double precision here."""
    shape, physics = example
    operator = from_physics(physics.double(), shape)
    matrix, y = dense(operator), measurement(operator)
    # deepinv keeps some filters in single precision, so zeros are 1e-8 at best.
    inverse = torch.linalg.pinv(matrix, rtol=1e-6)
    torch.testing.assert_close(operator.pinv(y).flatten(1), reals(y) @ inverse.T, rtol=0, atol=1e-5)
    gram = reals(y) @ (inverse.T @ inverse)
    torch.testing.assert_close(reals(operator.solve_gram(y)), gram, rtol=0, atol=1e-4)
    norm = torch.linalg.matrix_norm(matrix, ord=2)
    assert operator.norm() == pytest.approx(float(norm), rel=1.01e-2)
    assert adjoint_gap(operator, dtype=torch.float64) < 1e-6


def test_a_physics_in_single_precision_is_inverted_without_blowing_up():
    """×4 has a large null space, into which rounding must not grow (1e10 on normal equations)."""
    shape = (3, 64, 64)
    physics = deepinv.physics.Downsampling(img_size=shape, filter="bicubic", factor=4)
    operator = from_physics(physics, shape)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    y = operator(x)
    torch.testing.assert_close(operator(operator.pinv(y)), y, rtol=0, atol=1e-5)
    assert torch.linalg.vector_norm(operator.pinv(y)) < torch.linalg.vector_norm(x)


def test_the_callers_physics_is_copied():
    kernel = torch.ones(1, 1, 3, 3) / 9
    physics = deepinv.physics.Blur(kernel, padding="circular")
    operator = from_physics(physics, (1, 8, 6))
    x = torch.rand(1, 1, 8, 6, generator=torch.Generator().manual_seed(0))
    before = operator(x)
    physics.update_parameters(filter=kernel * 2)
    assert torch.equal(operator(x), before)
    assert torch.equal(operator.to("cpu")(x), before)


def test_a_physics_has_no_spec():
    physics = deepinv.physics.Blur(torch.ones(1, 1, 3, 3) / 9, padding="circular")
    with pytest.raises(SettingError, match="has no JSON spec.*from_physics"):
        from_physics(physics, (1, 8, 6)).spec()


@pytest.mark.parametrize("name", ["bicubic x2", "Gaussian", "inpaint"])
def test_an_operator_serves_as_physics(name):
    """deepinv's own adjoint test and solver find nothing wrong with it."""
    operator = OPERATORS[name]
    physics = to_physics(operator)
    x = image(operator)
    y = physics(x)
    assert torch.equal(y, operator(x))
    assert torch.equal(physics.A_adjoint(y), operator.adjoint(y))
    assert torch.equal(physics.A_dagger(y), operator.pinv(y))
    assert physics.adjointness_test(x).abs().max() < 1e-10
    ours = operator.pinv(y)
    theirs = super(type(physics), physics).A_dagger(y, max_iter=300, tol=1e-10)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-3)


def test_there_and_back_is_the_same_operator():
    operator = OPERATORS["Fourier, any mask"]
    again = from_physics(to_physics(operator), operator.image_shape)
    x = image(operator, dtype=torch.float32)
    assert again.complex_valued
    torch.testing.assert_close(again(x), operator(x))
    torch.testing.assert_close(again.pinv(again(x)), operator.pinv(operator(x)), rtol=0, atol=1e-5)


def test_a_physics_composes_as_it_is():
    """Named by its module alone; on the images that the operator beside it says."""
    shape = (1, 8, 6)
    kernel = torch.ones(1, 1, 3, 3, dtype=torch.float64) / 9
    physics = deepinv.physics.Blur(kernel, padding="circular")
    blur, half = from_physics(physics, shape), BicubicDownsample(shape, 2)
    x = image(half)
    torch.testing.assert_close((half @ blur)(x), half(physics.A(x)))
    larger = BicubicDownsample((1, 16, 12), 2)
    torch.testing.assert_close((physics @ larger)(image(larger)), physics.A(larger(image(larger))))
    for total in (Identity(shape) + physics, physics + Identity(shape)):
        torch.testing.assert_close(total(x), x + physics.A(x))
    torch.testing.assert_close((physics - Identity(shape))(x), physics.A(x) - x)
    with as_users_run_it():
        stack = Stack((Identity(shape), physics))
        composed = Compose((half, to_physics(Identity(shape))))
    torch.testing.assert_close(stack.split(stack(x))[1], physics.A(x))
    torch.testing.assert_close(composed(x.float()), half(x.float()))
    with pytest.raises(SettingError, match="with an img_size; Blur has none"):
        half @ physics


def test_a_physics_is_an_observations_operator():
    kernel = torch.ones(1, 1, 3, 3) / 9
    physics = deepinv.physics.Blur(kernel, padding="circular")
    x = torch.rand(2, 1, 8, 6, generator=torch.Generator().manual_seed(0))
    observation = iagan.observe(x, physics)
    torch.testing.assert_close(observation.y, physics.A(x))
    sized = to_physics(Identity((1, 8, 6)))
    with as_users_run_it():
        observation = iagan.Observation(x, sized)
    assert observation.operator.image_shape == (1, 8, 6)
    assert torch.equal(observation[:1].to("cpu").y, x[:1])


def test_what_is_no_linear_physics_is_refused():
    with pytest.raises(SettingError, match="LinearPhysics; got Linear"):
        from_physics(torch.nn.Linear(2, 2), (1, 8, 6))
    stacked = to_physics(Identity((1, 8, 6))).stack(to_physics(Identity((1, 8, 6))))
    with pytest.raises(SettingError, match="one tensor .*got TensorList"):
        from_physics(stacked, (1, 8, 6))
    sized = to_physics(Identity((1, 8, 6)))
    with pytest.raises(SettingError, match=r"measures images \(1, 4, 4\)"):
        from_physics(sized, (1, 4, 4))


def test_a_missing_deepinv_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "deepinv":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r'pip install "iagan\[deepinv\]"'):
        to_physics(Identity((1, 8, 6)))
    with pytest.raises(MissingDependencyError, match=r'pip install "iagan\[deepinv\]"'):
        from_physics(torch.nn.Identity(), (1, 8, 6))


def test_operators_do_not_import_deepinv():
    code = "import sys, iagan.operators; sys.exit(int('deepinv' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
