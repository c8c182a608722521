"""The Gaussian matrix: its law, its rows, its memory, and both ways to invert it."""

import math
import pickle

import numpy as np
import pytest
import torch

from helpers import as_users_run_it
from iagan.errors import SettingError
from iagan.operators import Gaussian, gaussian

SHAPE = (3, 16, 16)


def test_entries_are_normal_with_variance_one_over_m():
    """Mean, variance and kurtosis of 307,200 entries within five standard errors; tails too."""
    matrix = Gaussian(SHAPE, 400, seed=0).matrix.double() * 20
    count = matrix.numel()
    assert abs(matrix.mean()) < 5 / math.sqrt(count)
    assert abs(matrix.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((matrix**4).mean() - 3) < 5 * math.sqrt(96 / count)
    tail = math.erfc(3 / math.sqrt(2))
    assert (matrix.abs() > 3).double().mean() == pytest.approx(tail, rel=0.2)


def test_rows_and_columns_are_uncorrelated():
    """Consecutive keys of the counter-based generator give independent rows."""
    matrix = Gaussian(SHAPE, 200, seed=0).matrix.double() * math.sqrt(200)
    correlation = matrix @ matrix.T / matrix.shape[1]
    off = correlation - torch.diag(correlation.diagonal())
    assert off.abs().max() < 6 / math.sqrt(matrix.shape[1])


def test_a_row_depends_on_seed_and_index_only():
    few, many = Gaussian(SHAPE, 10, seed=5), Gaussian(SHAPE, 40, seed=5)
    torch.testing.assert_close(few.matrix * math.sqrt(10), many.matrix[:10] * math.sqrt(40))
    assert torch.equal(few.matrix, Gaussian(SHAPE, 10, seed=5).matrix)
    assert not torch.allclose(few.matrix, Gaussian(SHAPE, 10, seed=6).matrix)


def test_the_draws_stay_what_they_were():
    """A file holds (m, seed) alone: were the draws to change, old observations would be lost."""
    row = Gaussian((1, 2, 2), 1, seed=2024).matrix[0]
    stream = np.random.Generator(np.random.Philox(key=np.array([2024, 0], dtype=np.uint64)))
    expected = torch.from_numpy(stream.standard_normal(4, dtype=np.float32))
    torch.testing.assert_close(row, expected)
    torch.testing.assert_close(row, torch.tensor([0.3229088, 0.9855142, -0.5947652, 0.7309784]))


def test_neither_pickle_nor_spec_holds_the_matrix():
    operator = Gaussian.from_ratio((3, 32, 32), 0.1, seed=0)
    operator.pinv(operator(torch.zeros(1, 3, 32, 32)))
    assert len(pickle.dumps(operator)) < 500
    assert operator.spec() == {
        "operator": "gaussian",
        "image_shape": [3, 32, 32],
        "m": 307,
        "seed": 0,
    }


def test_conjugate_gradients_agree_with_cholesky(monkeypatch):
    """The way taken above CHOLESKY_SIZE, at the paper's ratio 0.61."""
    operator = Gaussian.from_ratio(SHAPE, 0.61, seed=1)
    rng = torch.Generator().manual_seed(0)
    y = torch.randn(3, operator.m, generator=rng, dtype=torch.float64)
    exact = operator.pinv(y)
    monkeypatch.setattr(gaussian, "CHOLESKY_SIZE", 0)
    torch.testing.assert_close(operator.pinv(y), exact, rtol=0, atol=1e-9)
    monkeypatch.setattr(gaussian, "DOUBLE_ENTRIES", 0)
    torch.testing.assert_close(operator.pinv(y), exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(operator(operator.pinv(y)), y, rtol=0, atol=1e-5)


def test_norm_of_a_large_matrix_is_a_bound_near_it(monkeypatch):
    operator = Gaussian.from_ratio(SHAPE, 0.5, seed=1)
    exact = operator.norm()
    monkeypatch.setattr(gaussian, "SVD_ENTRIES", 0)
    assert operator.singular_values() is None
    assert exact < operator.norm() < 1.3 * exact


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Gaussian((1, 4, 4), 17, seed=0), "m of at most n = 16.*got 17"),
        (lambda: Gaussian((1, 4, 4), 0, seed=0), "m as an integer of at least 1"),
        (lambda: Gaussian((1, 4, 4), 4, seed=-1), "seed"),
        (lambda: Gaussian.from_ratio((1, 4, 4), 1.5, seed=0), r"ratio in \(0, 1\]"),
        (lambda: Gaussian.from_ratio((1, 4, 4), 0.01, seed=0), "larger ratio"),
        (lambda: Gaussian.from_ratio((3, 1024, 1024), 0.5, seed=0), "fewer measurements"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, words):
    with as_users_run_it(), pytest.raises(SettingError, match=words) as info:
        make()
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("doubled", [True, False])
def test_a_nearly_square_matrix_gets_a_preconditioner(doubled, monkeypatch):
    """At m/n = 0.98 plain conjugate gradients take hundreds of steps; with it, a few."""
    monkeypatch.setattr(gaussian, "CHOLESKY_SIZE", 0)
    if not doubled:
        monkeypatch.setattr(gaussian, "DOUBLE_ENTRIES", 0)
    steps = []
    gram = Gaussian._gram
    monkeypatch.setattr(Gaussian, "_gram", lambda self, y: (steps.append(1), gram(self, y))[1])
    operator = Gaussian.from_ratio((3, 12, 10), 0.98, seed=0)
    y = operator(torch.rand(2, 3, 12, 10, dtype=torch.float64))
    dense = operator.matrix.double()
    expected = (torch.linalg.pinv(dense) @ y.T).T
    tolerance = 1e-8 if doubled else 1e-4
    torch.testing.assert_close(operator.pinv(y).flatten(1), expected, rtol=0, atol=tolerance)
    assert len(steps) < 20


@pytest.mark.parametrize("threads", [1, 3, 100])
@pytest.mark.parametrize("entries", [1, 5000, 2**30])
def test_misfit_is_the_same_however_the_rows_are_shared_out(entries, threads, monkeypatch):
    """One row a block, blocks that do not divide a part, all; parts that leave a row, or all."""
    operator = Gaussian(SHAPE, 70, seed=0)
    x = torch.rand(3, *SHAPE, requires_grad=True)
    y = torch.randn(3, 70)
    monkeypatch.setattr(gaussian, "ENTRIES_AT_ONCE", entries)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    misfit = operator.misfit(x, y)
    exact = (x.detach().flatten(1).double() @ operator.matrix.double().T - y).square().sum(1)
    torch.testing.assert_close(misfit.double(), exact, rtol=1e-5, atol=0)
    (of_x,) = torch.autograd.grad(misfit.sum(), x)
    torch.testing.assert_close(of_x, 2 * operator.adjoint(operator(x.detach()) - y))
    assert torch.equal(operator.misfit(x.detach(), y), misfit.detach())


def test_misfit_knows_a_gradient_by_y_too():
    """`misfit` is public: what is differentiated by y takes the plain way."""
    operator = Gaussian(SHAPE, 70, seed=0)
    x, y = torch.rand(1, *SHAPE), torch.randn(1, 70, requires_grad=True)
    (of_y,) = torch.autograd.grad(operator.misfit(x, y).sum(), y)
    torch.testing.assert_close(of_y, 2 * (y.detach() - operator(x)))
