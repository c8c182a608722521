"""The one loop: it is Adam, it keeps the best iterate of every row, and no row disturbs another."""

import pytest
import torch

from iagan.reconstruction import optimize
from iagan.reconstruction.adam import BatchedAdam
from iagan.reconstruction.optimize import Rules, minimize


@pytest.fixture(autouse=True, params=["row by row", "together"])
def _by_rows(request, monkeypatch):
    """As on a CPU, and as on a GPU."""
    monkeypatch.setattr(optimize, "by_rows", lambda device: request.param == "row by row")


def _quadratic(target):
    def objective(variables, step, rows):
        x = torch.stack(list(variables["x"]))
        return (x - target).square().flatten(1).sum(1), x[:, None, None, :]

    return objective


def test_every_row_takes_the_steps_of_torchs_adam():
    """Against torch.optim.Adam run on each row alone."""
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, generator=rng, dtype=torch.float64)
    target = torch.randn(3, 5, generator=rng, dtype=torch.float64)
    kind = list if optimize.by_rows(start.device) else torch.Tensor.detach
    current = {"x": start.clone()}
    adam = BatchedAdam(current, {"x": 0.1})
    alone = [row.clone().requires_grad_() for row in start]
    optimizers = [torch.optim.Adam([row], lr=0.1) for row in alone]
    for _ in range(25):
        gradient = 4 * (current["x"] - target) ** 3
        adam.step({"x": kind(current["x"])}, {"x": kind(gradient)}, torch.zeros(3))
        for row, goal, optimizer in zip(alone, target, optimizers, strict=True):
            optimizer.zero_grad()
            (row - goal).pow(4).sum().backward()
            optimizer.step()
    torch.testing.assert_close(current["x"], torch.stack(alone).detach(), rtol=1e-12, atol=1e-12)


def test_the_iterate_of_smallest_objective_is_kept():
    """A rate so large that Adam jumps about: the last iterate is not the best."""
    target = torch.tensor([[1.0, -2.0], [0.3, 0.1]])
    found = minimize(_quadratic(target), {"x": torch.zeros(2, 2)}, Rules(7, {"x": 0.9}))
    assert found.trace.shape == (2, 8)
    torch.testing.assert_close(found.objective, found.trace.min(1).values)
    assert (found.trace[:, -1] > found.objective).any(), "the test's rate must overshoot"
    value, _ = _quadratic(target)({"x": list(found.variables["x"])}, 0, torch.arange(2))
    torch.testing.assert_close(value, found.objective)


def test_a_row_that_turns_nan_goes_on_from_its_best_and_the_others_do_not_notice():
    target = torch.tensor([[1.0, -2.0], [0.3, 0.1]])

    def sick(variables, step, rows):
        value, image = _quadratic(target)(variables, step, rows)
        poison = torch.tensor([torch.nan if step == 5 else 1.0, 1.0])
        return value * poison, image

    start, rate = {"x": torch.zeros(2, 2)}, {"x": 0.05}
    healthy = minimize(_quadratic(target), start, Rules(30, rate))
    found = minimize(sick, start, Rules(30, rate))
    assert found.recoveries.tolist() == [1, 0]
    torch.testing.assert_close(found.trace[1], healthy.trace[1], rtol=0, atol=0)
    assert torch.isnan(found.trace[0, 5])
    assert found.objective[0] < found.trace[0, 4], "it must go on improving after the recovery"
    back = found.trace[0, 6]
    torch.testing.assert_close(back, found.trace[0, :5].min())


def test_a_row_that_never_was_finite_says_so():
    def hopeless(variables, step, rows):
        value, image = _quadratic(torch.ones(2, 2))(variables, step, rows)
        return value * torch.tensor([torch.inf, 1.0]), image

    found = minimize(hopeless, {"x": torch.zeros(2, 2)}, Rules(3, {"x": 0.1}))
    assert torch.isinf(found.objective[0])
    assert torch.isfinite(found.objective[1])
    assert found.recoveries.tolist() == [4, 0]


def test_no_steps_give_the_start_back():
    start = {"x": torch.tensor([[3.0, 4.0]])}
    found = minimize(_quadratic(torch.zeros(1, 2)), start, Rules(0, {"x": 0.1}))
    torch.testing.assert_close(found.variables["x"], start["x"])
    assert found.trace.tolist() == [[25.0]]


def _leaving(goal, rows, steps=60):
    """Rows of a quadratic, each with a goal, minimized together."""
    target = torch.linspace(0.5, 3, 5)[:, None].expand(-1, 2)

    def objective(variables, step, which):
        value, image = _quadratic(target[which])(variables, step, which)
        return value, image

    rules = Rules(steps, {"x": 0.05}, goal=torch.tensor(goal)[rows])
    return minimize(objective, {"x": torch.zeros(len(rows), 2)}, rules, torch.tensor(rows))


def test_a_row_ends_at_the_first_iterate_that_reaches_its_goal():
    """The same with or without the others, whenever they leave; the trace stays where it ended."""
    goal = [0.3, 0.1, -1.0, 4.0, 1e9]
    together = _leaving(goal, [0, 1, 2, 3, 4])
    free = _leaving([-1.0] * 5, [0, 1, 2, 3, 4])
    for row, expected in enumerate(goal):
        reached = (free.trace[row] <= expected).nonzero()
        end = int(reached[0]) if len(reached) else 60
        assert together.steps[row] == end
        assert together.objective[row] == free.trace[row, : end + 1].min()
        assert (together.trace[row, : end + 1] == free.trace[row, : end + 1]).all()
        assert (together.trace[row, end:] == together.trace[row, end]).all()
        alone = _leaving(goal, [row])
        torch.testing.assert_close(alone.variables["x"][0], together.variables["x"][row])
        assert alone.steps == end
    assert together.steps.tolist()[4] == 0
    assert together.trace.shape == (5, 61)


def test_when_all_rows_are_done_the_loop_ends():
    evaluated = []
    target = torch.ones(2, 2)

    def objective(variables, step, rows):
        evaluated.append(step)
        return _quadratic(target)(variables, step, rows)

    rules = Rules(500, {"x": 0.1}, goal=torch.full((2,), 0.5))
    found = minimize(objective, {"x": torch.zeros(2, 2)}, rules)
    assert len(evaluated) < 30
    assert (found.objective <= 0.5).all()


def test_the_schedule_scales_adams_rate():
    """Adam's first step is the rate, whatever the gradient's size."""
    target = torch.full((1, 2), 9.0)
    for factor in (1.0, 0.25):
        rules = Rules(1, {"x": 0.2}, schedule=lambda step, factor=factor: factor)
        found = minimize(_quadratic(target), {"x": torch.zeros(1, 2)}, rules)
        torch.testing.assert_close(found.variables["x"], torch.full((1, 2), 0.2 * factor))
