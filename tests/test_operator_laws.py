"""What holds for every operator, against its dense matrix in double precision."""

import json
import pickle

import numpy as np
import pytest
import torch

from helpers import HAVE_NO_SPEC, OPERATORS, as_users_run_it, dense, image, measurement, reals
from iagan.errors import SettingError, ShapeError
from iagan.operators import adjoint_gap, from_spec

RCOND = 1e-10


@pytest.fixture(params=OPERATORS.values(), ids=OPERATORS.keys())
def A(request):
    return request.param


def test_every_named_operator_is_under_these_laws():
    from iagan.operators import OPERATORS as named

    assert {type(operator) for operator in OPERATORS.values()} >= set(named.values())


def test_forward_is_linear_and_has_the_shape_it_announces(A):
    """m and n are those of the matrix, and A(2x − z) = 2 A x − A z."""
    x, z = image(A, seed=1), image(A, seed=2)
    torch.testing.assert_close(A(2 * x - z), 2 * A(x) - A(z))
    assert A(x).shape == (2, *A.measurement_shape)
    assert A(x).is_complex() == A.complex_valued
    assert dense(A).shape == (A.m, A.n)


def test_adjoint_is_the_transposed_matrix(A):
    y = measurement(A)
    torch.testing.assert_close(A.adjoint(y).flatten(1), reals(y) @ dense(A))


def test_pinv_is_the_pseudoinverse_of_the_matrix(A):
    """Also for a y outside the range of A: noise is such a y."""
    y = measurement(A)
    inverse = torch.linalg.pinv(dense(A), rtol=RCOND)
    torch.testing.assert_close(A.pinv(y).flatten(1), reals(y) @ inverse.T, rtol=1e-7, atol=1e-7)


def test_solve_gram_is_the_pseudoinverse_of_the_gram_matrix(A):
    y, matrix = measurement(A), dense(A)
    inverse = torch.linalg.pinv(matrix, rtol=RCOND)
    expected = reals(y) @ (inverse.T @ inverse)
    torch.testing.assert_close(reals(A.solve_gram(y)), expected, rtol=1e-6, atol=1e-6)


def test_measuring_the_pinv_gives_the_measurement_back(A):
    """A A† A = A, in both precisions."""
    x = image(A)
    torch.testing.assert_close(A(A.pinv(A(x))), A(x), rtol=1e-9, atol=1e-9)
    y = A(x.float())
    torch.testing.assert_close(A(A.pinv(y)), y, rtol=1e-5, atol=2e-5)


def test_singular_values_and_norm_are_those_of_the_matrix(A):
    expected = torch.linalg.svdvals(dense(A))
    values = A.singular_values()
    if values is None:
        assert expected[0] * (1 - 1e-9) <= A.norm() <= expected[0] * 1.01 * (1 + 1e-9)
        return
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)
    assert A.norm() == pytest.approx(float(expected[0]), rel=1e-9)


def test_gradient_of_forward_is_the_adjoint(A):
    """Autograd differentiates A in every method: Re⟨v, A x⟩ has the gradient Aᵀ v."""
    x = image(A).requires_grad_()
    v = measurement(A)
    (reals(A(x)) * reals(v)).sum().backward()
    torch.testing.assert_close(x.grad, A.adjoint(v))


def test_misfit_is_the_squared_distance_and_its_gradient_twice_the_adjoint_of_the_gap(A):
    """Also where both are computed in one pass, image by image weighed by what comes after."""
    x, y = image(A).requires_grad_(), measurement(A)
    gap = A(x.detach()) - y
    misfit = A.misfit(x, y)
    torch.testing.assert_close(misfit, reals(gap).square().sum(1))
    weights = torch.tensor([0.5, 3.0], dtype=x.dtype)
    (misfit * weights).sum().backward()
    expected = 2 * weights[:, None] * (reals(gap) @ dense(A))
    torch.testing.assert_close(x.grad.flatten(1), expected)


@pytest.mark.parametrize("images", [1, 3])
def test_misfit_expects_a_measurement_of_every_image(A, images):
    words = f"got {images} images and 2 measurements"
    with as_users_run_it(), pytest.raises(ShapeError, match=words):
        A.misfit(image(A)[:1].expand(images, *A.image_shape), measurement(A))


def test_gradient_of_pinv_is_the_transposed_pseudoinverse(A):
    y, v = measurement(A).requires_grad_(), image(A)
    (A.pinv(y) * v).sum().backward()
    inverse = torch.linalg.pinv(dense(A), rtol=RCOND)
    expected = v.flatten(1) @ inverse
    torch.testing.assert_close(reals(y.grad), expected, rtol=1e-7, atol=1e-7)


def test_numpy_arrays_are_taken_in_their_own_precision(A):
    """Also of the other byte order, read-only and strided; and a result is a tensor."""
    x, y = image(A), measurement(A)
    for array in (x.numpy(), x.numpy().astype(">f8"), np.repeat(x.numpy(), 2, -1)[..., ::2]):
        array.setflags(write=False)
        assert torch.equal(A(array), A(x))
    assert torch.equal(A(x.float().numpy()), A(x.float()))
    for back in (A.adjoint, A.pinv, A.naive):
        assert torch.equal(back(y.numpy()), back(y))
    assert torch.equal(A.misfit(x.numpy(), y.numpy()), A.misfit(x, y))


def test_adjoint_and_pinv_are_the_same_without_autograd(A):
    """Under no_grad and in inference mode, where some adjoints are derivatives."""
    y = measurement(A)
    expected = A.adjoint(y), A.pinv(y)
    with torch.no_grad():
        assert torch.equal(A.adjoint(y), expected[0])
    with torch.inference_mode():
        inside = measurement(A)
        assert torch.equal(A.adjoint(inside), expected[0])
        torch.testing.assert_close(A.pinv(inside), expected[1])


def test_gradients_flow_after_a_first_call_in_inference_mode(A):
    """What was cached in inference mode must not poison a later backward pass."""
    fresh = pickle.loads(pickle.dumps(A))
    with torch.inference_mode():
        fresh.pinv(fresh(image(A)))
    x = image(A).requires_grad_()
    fresh.pinv(fresh(x)).sum().backward()
    assert x.grad.isfinite().all()


def test_single_precision_stays_single_and_agrees(A):
    x = image(A)
    y = A(x.float())
    single = torch.complex64 if A.complex_valued else torch.float32
    assert y.dtype == single
    torch.testing.assert_close(y, A(x).to(single), rtol=1e-4, atol=1e-5)
    for back in (A.adjoint, A.pinv, A.naive):
        assert back(y).dtype == torch.float32
        assert back(y).shape == x.shape
    assert A.solve_gram(y).dtype == single


def test_images_of_a_batch_do_not_meet(A):
    x, y = image(A, batch=3), measurement(A, batch=3)
    torch.testing.assert_close(A(x)[1:2], A(x[1:2]))
    for back in (A.adjoint, A.pinv, A.naive):
        torch.testing.assert_close(back(y)[1:2], back(y[1:2]))


def test_pickle_gives_the_same_outputs_and_holds_no_matrix(A):
    A.pinv(A(image(A)))
    A.singular_values()
    packed = pickle.dumps(A)
    assert len(packed) < 1600, "caches are in the pickle"
    again = pickle.loads(packed)
    assert type(again) is type(A)
    assert torch.equal(again(image(A)), A(image(A)))


def test_spec_survives_json_and_gives_the_same_operator(A):
    if any(A is OPERATORS[name] for name in HAVE_NO_SPEC):
        with pytest.raises(SettingError, match="has no JSON spec"):
            A.spec()
        return
    text = json.dumps(A.spec(), allow_nan=False)
    again = from_spec(json.loads(text))
    assert again.spec() == A.spec()
    assert torch.equal(again(image(A)), A(image(A)))


def test_adjoint_gap_is_rounding(A):
    assert adjoint_gap(A, dtype=torch.float64) < 1e-12
    assert adjoint_gap(A) < 1e-5


def test_to_gives_a_working_operator_and_takes_no_nonsense(A):
    assert torch.equal(A.to("cpu")(image(A)), A(image(A)))
    with pytest.raises(RuntimeError):
        A.to("abacus")


def test_wrong_shapes_and_dtypes_are_refused_in_words(A):
    """One line: who, expected, got, what to do."""
    channels, height, width = A.image_shape
    bad_image = torch.zeros(2, channels, height + 1, width)
    with as_users_run_it():
        _refuses(A, bad_image, rf"{type(A).__name__} expects .*got \(2, .*esize")
        _refuses(A, image(A)[0], "expects images")
        _refuses(A, bad_image[:, :, 1:].cfloat(), "floating-point dtype; got torch.complex64")
        _refuses(A, bad_image[:, :, 1:].int(), "floating-point dtype; got torch.int32")
    wrong = torch.zeros(2, *A.measurement_shape[:-1], A.measurement_shape[-1] + 1)
    y = measurement(A)
    for back in (A.adjoint, A.pinv, A.naive):
        kind = wrong.cfloat() if A.complex_valued else wrong
        _refuses(back, kind, f"{type(A).__name__} expects measurements")
        _refuses(back, y.real if A.complex_valued else y.cfloat(), "dtype")


def _refuses(function, tensor, words):
    with pytest.raises(ShapeError, match=words) as info:
        function(tensor)
    assert "\n" not in str(info.value)
