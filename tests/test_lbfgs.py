"""L-BFGS in the one loop: it solves what has a known solution, problem by problem."""

import pytest
import torch
from scipy import optimize

from iagan.engine.lbfgs import Lbfgs, LbfgsOptions
from iagan.engine.minimize import MinimizeOptions, minimize


def _run(function, start, steps, goal=None):
    """`function` of `(batch, d)` → `(batch,)`, minimised from `start`."""

    def objective(leaves, step, problems):
        return function(leaves["x"]), leaves["x"][:, None, None]

    options = MinimizeOptions(steps, None, goal=goal)
    return minimize(objective, {"x": start.clone()}, options, len(start))


def _rosenbrock(x):
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def test_a_quadratic_is_solved_as_by_linear_algebra():
    """Condition 1e3 in ten dimensions: Adam would need thousands of steps."""
    rng = torch.Generator().manual_seed(0)
    frame, _ = torch.linalg.qr(torch.randn(3, 10, 10, generator=rng, dtype=torch.float64))
    hessian = frame @ torch.logspace(0, 3, 10, dtype=torch.float64).diag() @ frame.mT
    target = torch.randn(3, 10, generator=rng, dtype=torch.float64)

    def function(x):
        return torch.einsum("bi,bij,bj->b", x - target, hessian, x - target)

    result = _run(function, torch.zeros(3, 10, dtype=torch.float64), 60)
    torch.testing.assert_close(result.variables["x"], target, rtol=0, atol=1e-6)


def test_rosenbrocks_valley_costs_little_more_than_scipys():
    """Independent: scipy's L-BFGS-B, evaluations to the same objective."""
    start = torch.tensor([[-1.2, 1.0, -1.2, 1.0], [2.0, -1.0, 0.5, 3.0]], dtype=torch.float64)
    result = _run(_rosenbrock, start, 150)
    assert (result.objective < 1e-8).all()
    for row, x in enumerate(start):
        theirs = []

        def function(x, theirs=theirs):
            value = float(_rosenbrock(torch.from_numpy(x)[None]))
            theirs.append(value)
            return value, optimize.rosen_der(x)

        optimize.minimize(function, x.numpy(), jac=True, method="L-BFGS-B", tol=1e-14)
        needed = next(i for i, value in enumerate(theirs) if value < 1e-8)
        ours = int((result.trace[row] < 1e-8).nonzero()[0])
        assert ours <= 2 * needed


def test_a_problem_goes_its_own_way_whatever_is_beside_it():
    start = torch.tensor([[-1.2, 1.0], [3.0, -2.0], [0.0, 5.0]], dtype=torch.float64)
    together = _run(_rosenbrock, start, 40)
    for row in range(3):
        alone = _run(_rosenbrock, start[row : row + 1], 40)
        torch.testing.assert_close(alone.trace[0], together.trace[row], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("wall", [torch.nan, torch.inf])
def test_what_is_not_finite_is_stepped_back_from(wall):
    """10 x - log x: where it is almost straight, steps by its curvature reach beyond 0."""

    def function(x):
        value = (10 * x - x.clamp_min(1e-300).log()).sum(1)
        return torch.where((x > 0).all(1), value, torch.full_like(value, wall))

    start = torch.tensor([[0.01, 1.5], [1.0, 0.03]], dtype=torch.float64)
    result = _run(function, start, 80)
    torch.testing.assert_close(
        result.variables["x"], torch.full_like(start, 0.1), atol=1e-6, rtol=0
    )
    assert result.recoveries.sum() > 0, "the wall must have been met"


def test_problems_at_their_goal_end_and_the_others_go_on():
    start = torch.tensor([[-1.2, 1.0], [3.0, -2.0], [0.0, 5.0]], dtype=torch.float64)
    free = _run(_rosenbrock, start, 60)

    goal = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    result = _run(_rosenbrock, start, 60, goal)
    for row in range(3):
        reached = (free.trace[row] <= goal[row]).nonzero()
        end = int(reached[0]) if len(reached) else 60
        assert result.steps[row] == end
        torch.testing.assert_close(
            result.trace[row, : end + 1], free.trace[row, : end + 1], rtol=1e-9, atol=1e-12
        )


def test_no_step_is_longer_than_its_bound():
    """Root mean square of the entries, at whatever slope."""
    leaves = {"x": torch.zeros(2, 4, requires_grad=True)}
    lbfgs = Lbfgs(leaves, LbfgsOptions(max_rms_step=0.25))
    leaves["x"].grad = torch.tensor([[1e6] * 4, [1e-3] * 4])
    lbfgs.step(torch.zeros(2))
    lengths = leaves["x"].detach().square().mean(1).sqrt()
    torch.testing.assert_close(lengths, torch.tensor([0.25, 1e-3]), rtol=1e-5, atol=0)


def test_a_rejected_step_is_shortened_to_the_minimum_of_a_parabola():
    """From x = 0 with slope 1 and f = 0, one number: the book's line search, written down here."""
    leaves = {"x": torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)}
    lbfgs = Lbfgs(leaves)

    def next_x(value, slope=1.0):
        leaves["x"].grad = torch.full((1, 1), slope, dtype=torch.float64)
        lbfgs.step(torch.tensor([value], dtype=torch.float64))
        return float(leaves["x"].detach())

    assert next_x(0.0) == pytest.approx(-0.3), "no longer than 0.3, whatever the slope"
    assert next_x(0.3) == pytest.approx(-0.3 * 0.3 / (2 * (0.3 + 0.3))), "a parabola"
    assert next_x(1e9) == pytest.approx(-0.075 * 0.1), "a tenth at least"
    assert next_x(torch.nan) == pytest.approx(-0.075 * 0.01), "a tenth where there is no value"
    rejected = [next_x(torch.nan) for _ in range(5)]
    assert abs(rejected[3]) < 1e-6
    assert rejected[4] == pytest.approx(-0.3), "the eighth rejection in a row starts over"
