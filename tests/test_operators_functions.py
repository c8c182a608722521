"""Operators from functions, and from a matrix: the checks at construction, and each refusal."""

import numpy as np
import pytest
import torch

from helpers import (
    PAIR,
    as_users_run_it,
    dense,
    half_spectrum,
    image,
    measurement,
    numbers,
    row_difference,
    shifted_sum,
    shifted_sum_adjoint,
)
from iagan.errors import SettingError, ShapeError
from iagan.operators import Matrix, adjoint_gap, from_functions, linearity_gap, matrix

KERNEL = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))


def convolved(x):
    """A user's usual way: a kernel in single precision, to which double-precision x is alien."""
    return torch.nn.functional.conv2d(x, KERNEL, groups=2)


def test_functions_in_single_precision_take_images_in_double():
    operator = from_functions(PAIR, convolved)
    x = image(operator)
    assert operator.measurement_shape == (2, 6, 4)
    assert operator(x).dtype == torch.float64
    torch.testing.assert_close(operator(x).float(), convolved(x.float()))
    assert operator.adjoint(operator(x)).dtype == torch.float64
    y = operator(x)
    torch.testing.assert_close(operator(operator.pinv(y)), y, rtol=0, atol=1e-4)


def test_functions_in_double_precision_take_images_in_single():
    weights = torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    operator = from_functions(PAIR, lambda x: x @ weights)
    x = image(operator)
    assert operator(x.float()).dtype == torch.float32
    torch.testing.assert_close(operator(x.float()), operator(x).float())
    assert operator(x.bfloat16()).dtype == torch.bfloat16


def test_the_functions_are_called_at_construction_and_the_checks_not_again():
    calls = []

    def forward(x):
        calls.append(len(x))
        return row_difference(x)

    operator = from_functions(PAIR, forward)
    at_construction = len(calls)
    operator(image(operator))
    assert len(calls) == at_construction + 1


def test_a_forward_outside_pytorch_is_differentiated_by_its_adjoint():
    operator = from_functions(PAIR, shifted_sum, shifted_sum_adjoint)
    x, y = image(operator).requires_grad_(), measurement(operator)
    operator.misfit(x, y).sum().backward()
    expected = 2 * operator.adjoint(operator(x.detach()) - y)
    torch.testing.assert_close(x.grad, expected)


def test_the_identity_is_no_special_case():
    def same(values):
        return values

    for operator in (from_functions(PAIR, same), from_functions(PAIR, same, same)):
        x = image(operator).requires_grad_()
        operator.pinv(operator.adjoint(operator(x))).sum().backward()
        torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_a_complex_adjoint_counts_by_its_real_part():
    def forward(x):
        return torch.fft.fft2(x, norm="ortho")[..., :3]

    def adjoint(y):
        return torch.fft.ifft2(torch.nn.functional.pad(y, (0, 3)), norm="ortho")

    operator = from_functions(PAIR, forward, adjoint)
    assert operator.complex_valued
    torch.testing.assert_close(dense(operator), dense(from_functions(PAIR, forward)))
    y = measurement(operator)
    torch.testing.assert_close(operator.adjoint(y), from_functions(PAIR, forward).adjoint(y))


def test_the_gaps_show_what_is_wrong_and_nothing_else():
    right = from_functions(PAIR, half_spectrum)
    assert linearity_gap(right, dtype=torch.float64) < 1e-14
    assert linearity_gap(right) < 1e-6
    assert adjoint_gap(right, dtype=torch.float64) < 1e-14


def fails(x):
    raise KeyError("no camera\nis connected")


def drops_the_batch(x):
    return x.sum(0, keepdim=True)


def mixes_images(x):
    return x - x.mean(0, keepdim=True) + x.sum(0, keepdim=True) / 7


def nudge(x):
    return x + 1e-3 * x.abs()


@pytest.mark.parametrize(
    ("forward", "adjoint", "words"),
    [
        (fails, None, r"images \(batch, 2, 8, 6\); it failed: 'no camera"),
        (lambda x: x.reshape(1, 5, 5), None, "it failed: shape"),
        (lambda x: [1.0], None, "it failed: forward of from_functions expects a tensor"),
        (lambda x: x.sum(), None, r"\(batch, ...\) of images .*; got torch.float32 \(\) of one"),
        (lambda x: x > 0, None, "floating-point or complex numbers .*; got torch.bool"),
        (lambda x: x.half(), None, "it returns torch.float16 for torch.float64"),
        (lambda x: x.square(), None, "linear forward"),
        (lambda x: x + 0.1, None, "linear forward"),
        (lambda x: x.clamp(0, 1), None, "linear forward"),
        (nudge, None, "linear forward"),
        (
            lambda x: x.mul_(2),
            lambda y: 2 * y,
            "leaves its input unchanged; it changes it in place",
        ),
        (lambda x: x + torch.rand_like(x), None, "linear forward"),
        (lambda x: x * float("nan"), None, "linear forward.* by nan"),
        (drops_the_batch, None, "linear forward|failed"),
        (mixes_images, None, "treats images independently"),
        (
            lambda x: x.detach(),
            None,
            "could not differentiate forward: .*not require grad.* pass adjoint",
        ),
        (lambda x: x.numpy(), None, "could not differentiate forward: .*numpy.* pass adjoint"),
        (row_difference, fails, "adjoint of from_functions failed: 'no camera"),
        (row_difference, lambda y: y, "adjoint of from_functions failed"),
        (row_difference, lambda y: None, "adjoint of from_functions failed: .*NoneType"),
        (lambda x: 2 * x, lambda y: y / 2, "the transpose and not the inverse; they differ by"),
        (shifted_sum, lambda y: shifted_sum(y), "they differ by"),
        (shifted_sum, lambda y: 1.0001 * shifted_sum_adjoint(y), "they differ by"),
    ],
)
def test_functions_that_are_no_operator_are_refused_in_one_line(forward, adjoint, words):
    with as_users_run_it(), pytest.raises(SettingError, match=words) as info:
        from_functions(PAIR, forward, adjoint)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("entries", [0, 2**22])
@pytest.mark.parametrize(("rows", "rank"), [(5, 5), (30, 12), (12, 7)])
def test_a_large_matrix_is_inverted_by_iteration_as_a_small_one_by_its_svd(
    entries, rows, rank, monkeypatch
):
    monkeypatch.setattr(matrix, "SVD_ENTRIES", entries)
    values = numbers(rows, 12, seed=0, rank=rank)
    operator = Matrix((1, 4, 3), values)
    assert (operator.singular_values() is None) == (entries == 0)
    y, inverse = measurement(operator), torch.linalg.pinv(values, rtol=1e-10)
    torch.testing.assert_close(operator.pinv(y).flatten(1), y @ inverse.T)
    torch.testing.assert_close(operator.solve_gram(y), y @ (inverse.T @ inverse))


def test_a_matrix_may_be_an_array_of_any_real_kind_and_is_copied():
    for values in (
        np.eye(12, dtype=np.float32),
        np.eye(12, dtype=int),
        torch.eye(12).bool(),
        torch.eye(12).double(),
    ):
        with as_users_run_it():
            operator = Matrix((1, 4, 3), values)
        x = image(operator)
        assert torch.equal(operator(x), x.flatten(1))
        values[:] = 0
        assert torch.equal(operator(x), x.flatten(1))


def test_a_matrix_too_large_for_a_spec_says_so(monkeypatch):
    operator = Matrix((1, 4, 3), numbers(5, 12, seed=0))
    monkeypatch.setattr(matrix, "SPEC_ENTRIES", 59)
    with pytest.raises(SettingError, match="at most 59 entries .*; got 5 × 12.*a separate file"):
        operator.spec()
    monkeypatch.undo()
    monkeypatch.setattr(matrix, "MAX_SIDE", 11)
    with pytest.raises(SettingError, match="11 per side"):
        operator.spec()


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (torch.ones(3, 11), ShapeError, r"n = 12, the image's size; got \(3, 11\)"),
        (torch.ones(12), ShapeError, r"got \(12,\)"),
        (torch.ones(0, 12), ShapeError, r"got \(0, 12\)"),
        (torch.ones(3, 12).cfloat(), SettingError, "Stack their real and imaginary"),
        (torch.zeros(3, 12), SettingError, "not all zero"),
        (torch.full((3, 12), float("inf")), SettingError, "finite numbers"),
        ([[1.0] * 12], SettingError, "tensor or a NumPy array of numbers; got list"),
    ],
)
def test_matrices_that_do_not_fit_are_refused_in_one_line(values, error, words):
    with as_users_run_it(), pytest.raises(error, match=words) as info:
        Matrix((1, 4, 3), values)
    assert "\n" not in str(info.value)
