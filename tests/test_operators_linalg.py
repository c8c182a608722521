"""Solvers and inner products, against dense linear algebra."""

import dataclasses as dc

import pytest
import torch

from helpers import OPERATORS, image
from iagan.operators import Identity, adjoint_gap, conjugate_gradient, inner, least_squares
from iagan.operators.linalg import pseudoinverse


def system(rank: int, seed: int = 0):
    """A symmetric positive semidefinite 12 × 12 matrix of a given rank, and 4 right-hand sides."""
    rng = torch.Generator().manual_seed(seed)
    factor = torch.randn(12, rank, generator=rng, dtype=torch.float64)
    return factor @ factor.T, torch.randn(4, 12, generator=rng, dtype=torch.float64)


def test_inner_is_the_real_inner_product_of_each_image():
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 2, 5, generator=rng, dtype=torch.complex128) for _ in range(2))
    expected = torch.stack([torch.vdot(x.flatten(), y.flatten()).real for x, y in zip(a, b)])  # noqa: B905
    torch.testing.assert_close(inner(a, b), expected)


def test_inner_of_single_precision_sums_in_double():
    a = torch.full((1, 3_000_000), 0.1)
    assert inner(a, a).item() == pytest.approx(3e6 * float(a[0, 0]) ** 2, rel=1e-12)


def test_conjugate_gradient_solves_each_image():
    matrix, b = system(rank=12)
    result = conjugate_gradient(lambda u: u @ matrix, b)
    torch.testing.assert_close(
        result.solution, torch.linalg.solve(matrix, b.T).T, rtol=1e-6, atol=0
    )
    assert result.relative_residual.max() <= 1e-12
    assert 0 < result.steps < 100


def test_a_preconditioner_near_the_inverse_saves_steps_and_changes_nothing():
    matrix, b = system(rank=12)
    near = torch.linalg.inv(matrix + 1e-3 * torch.eye(12, dtype=torch.float64))
    plain = conjugate_gradient(lambda u: u @ matrix, b)
    result = conjugate_gradient(lambda u: u @ matrix, b, precondition=lambda r: r @ near)
    torch.testing.assert_close(result.solution, plain.solution, rtol=1e-6, atol=0)
    assert result.relative_residual.max() <= 1e-12
    assert result.steps < plain.steps / 2


def test_conjugate_gradient_finds_the_smallest_solution_of_a_singular_system():
    matrix, b = system(rank=5)
    b = b @ matrix
    x = conjugate_gradient(lambda u: u @ matrix, b).solution
    torch.testing.assert_close(x, b @ torch.linalg.pinv(matrix, rtol=1e-10))


def test_an_image_is_solved_alike_alone_and_beside_others():
    """Another that converges at once, or is zero, or is harder, changes nothing."""
    matrix, b = system(rank=12)
    b[1] = torch.linalg.eigh(matrix).eigenvectors[:, 0]
    b[2] = 0
    together = conjugate_gradient(lambda u: u @ matrix, b).solution
    for index in range(4):
        alone = conjugate_gradient(lambda u: u @ matrix, b[index : index + 1]).solution
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-9, atol=1e-12)
    assert torch.equal(together[2], torch.zeros(12, dtype=torch.float64))


def test_conjugate_gradient_tells_when_it_ran_out_of_steps():
    matrix, b = system(rank=12)
    result = conjugate_gradient(lambda u: u @ matrix, b, max_steps=2)
    residual = torch.linalg.vector_norm(b - result.solution @ matrix, dim=1)
    expected = residual / torch.linalg.vector_norm(b, dim=1)
    assert result.steps == 2
    torch.testing.assert_close(result.relative_residual, expected)


@pytest.mark.parametrize(("rows", "rank"), [(5, 5), (20, 12), (12, 6)])
def test_least_squares_finds_the_smallest_minimiser(rows, rank):
    """Wide, tall, and of deficient rank, for right-hand sides that cannot be fitted."""
    rng = torch.Generator().manual_seed(0)
    left, right, b = (
        torch.randn(*shape, generator=rng, dtype=torch.float64)
        for shape in ((rows, rank), (rank, 12), (4, rows))
    )
    matrix = left @ right
    b[3] = 0
    result = least_squares(lambda x: x @ matrix.T, lambda y: y @ matrix, b)
    expected = b @ torch.linalg.pinv(matrix, rtol=1e-10).T
    torch.testing.assert_close(result.solution, expected, rtol=1e-6, atol=1e-9)
    alone = least_squares(lambda x: x @ matrix.T, lambda y: y @ matrix, b[1:2])
    torch.testing.assert_close(result.solution[1:2], alone.solution, rtol=1e-9, atol=1e-12)


def test_least_squares_counts_tiny_singular_values_as_zero_as_everywhere():
    """1e-11 of the largest is left out, 1e-4 is not."""
    scales = torch.tensor([1.0, 0.5, 1e-4, 1e-11], dtype=torch.float64)
    b = torch.ones(1, 4, dtype=torch.float64)
    x = least_squares(lambda x: scales * x, lambda y: scales * y, b).solution
    expected = torch.tensor([[1.0, 2.0, 1e4, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-2)


def test_pseudoinverse_is_differentiable_twice_over_and_in_single_precision_too():
    matrix = (system(rank=12)[0] / 12 + torch.eye(12)).triu()
    y = torch.rand(1, 12, generator=torch.Generator().manual_seed(0), requires_grad=True)
    single = matrix.float()
    calls = []
    x = pseudoinverse(lambda x: x @ single.T, lambda y: (calls.append(1), y @ single)[1], y)
    assert len(calls) < 100, "it stops at what single precision can reach"
    (slope,) = torch.autograd.grad(x.square().sum() / 2, y, create_graph=True)
    inverse = torch.linalg.inv(matrix)
    expected = y.detach().double() @ (inverse.T @ inverse)
    torch.testing.assert_close(slope.detach().double(), expected, rtol=0, atol=1e-4)
    (curvature,) = torch.autograd.grad(slope.sum(), y)
    expected = (inverse.T @ inverse).sum(0)[None]
    torch.testing.assert_close(curvature.double(), expected, rtol=0, atol=1e-4)


@dc.dataclass(frozen=True, eq=False)
class Wrong(Identity):
    """An operator whose adjoint is off by one percent."""

    def _adjoint(self, y):
        return 1.01 * y


def test_adjoint_gap_finds_a_wrong_adjoint():
    assert adjoint_gap(Wrong((3, 8, 6)), dtype=torch.float64) > 1e-4
    assert adjoint_gap(Identity((3, 8, 6)), dtype=torch.float64) < 1e-14


@pytest.mark.parametrize("name", ["bicubic x2", "uniform blur 5, circular", "Fourier, any mask"])
def test_conjugate_gradient_reaches_the_closed_form_pinv(name):
    """A† by A Aᵀ and conjugate gradients, from forward and adjoint alone."""
    operator = OPERATORS[name]
    y = operator(image(operator))
    u = conjugate_gradient(lambda u: operator(operator.adjoint(u)), y, 1e-13).solution
    torch.testing.assert_close(operator.adjoint(u), operator.pinv(y), rtol=0, atol=1e-6)
