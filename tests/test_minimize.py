"""The one loop: it is torch's Adam, it keeps the best iterate, and no problem disturbs another."""

import pytest
import torch

from iagan.engine.minimize import CHECK_EVERY, MinimizeOptions, minimize


def _quadratic(target):
    def objective(leaves, step, problems):
        x = leaves["x"]
        return (x - target[problems]).square().flatten(1).sum(1), x[:, None, None, :]

    return objective


def _minimize(objective, start, options):
    return minimize(objective, {"x": start.clone()}, options, len(start))


def test_each_problem_takes_the_steps_of_torchs_adam():
    """Against torch.optim.Adam run on each problem alone."""
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, generator=rng, dtype=torch.float64)
    target = torch.randn(3, 5, generator=rng, dtype=torch.float64)

    def quartic(x, goal):
        return (x - goal).pow(4).flatten(1).sum(1)

    def objective(leaves, step, problems):
        return quartic(leaves["x"], target[problems]), leaves["x"][:, None, None, :]

    result = _minimize(objective, start, MinimizeOptions(25, {"x": 0.1}))
    for i in range(3):
        alone = start[i : i + 1].clone().requires_grad_()
        adam = torch.optim.Adam([alone], lr=0.1)
        trace = []
        for _ in range(26):
            adam.zero_grad()
            value = quartic(alone, target[i : i + 1])
            trace.append(value.detach())
            value.sum().backward()
            adam.step()
        torch.testing.assert_close(result.trace[i], torch.cat(trace), rtol=1e-12, atol=1e-12)


def test_the_iterate_of_smallest_objective_is_kept():
    """A rate so large that Adam jumps about: the last iterate is not the best."""
    target = torch.tensor([[1.0, -2.0], [0.3, 0.1]])
    result = _minimize(_quadratic(target), torch.zeros(2, 2), MinimizeOptions(7, {"x": 0.9}))
    assert result.trace.shape == (2, 8)
    torch.testing.assert_close(result.objective, result.trace.min(1).values)
    assert (result.trace[:, -1] > result.objective).any(), "the test's rate must overshoot"
    value, _ = _quadratic(target)(result.variables, 0, torch.arange(2))
    torch.testing.assert_close(value, result.objective)


def test_every_variable_is_returned():
    def objective(leaves, step, problems):
        value = (leaves["a"].sum(1) - leaves["b"].sum((1, 2)) - 1).square()
        return value, leaves["a"][:, None, None, :]

    start = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 2, 2)}
    result = minimize(objective, start, MinimizeOptions(3, {"a": 0.1, "b": 0.01}), 2)
    assert {name: value.shape for name, value in result.variables.items()} == {
        "a": (2, 3),
        "b": (2, 2, 2),
    }
    torch.testing.assert_close(objective(result.variables, 0, torch.arange(2))[0], result.objective)


def test_a_problem_that_turns_nan_goes_on_from_its_best_and_the_others_do_not_notice():
    target = torch.tensor([[1.0, -2.0], [0.3, 0.1]])

    def sick(leaves, step, problems):
        value, image = _quadratic(target)(leaves, step, problems)
        return value * torch.tensor([torch.nan if step == 5 else 1.0, 1.0]), image

    start, options = torch.zeros(2, 2), MinimizeOptions(30, {"x": 0.05})
    healthy = _minimize(_quadratic(target), start, options)
    result = _minimize(sick, start, options)
    assert result.recoveries.tolist() == [1, 0]
    torch.testing.assert_close(result.trace[1], healthy.trace[1])
    assert torch.isnan(result.trace[0, 5])
    torch.testing.assert_close(result.trace[0, 6], result.trace[0, :5].min())
    assert result.objective[0] < result.trace[0, 4], "it must go on improving after the recovery"
    step = (result.trace[0, 7] - result.trace[0, 6]).abs()
    first = (healthy.trace[0, 1] - healthy.trace[0, 0]).abs()
    assert 0.02 * first < step < 0.1 * first, "at a tenth of the rate"


def test_weights_without_a_batch_dimension_recover_too():
    """A single problem's variables may have any shape, as a module's parameters do."""

    def sick(leaves, step, problems):
        value = (leaves["w"] - 1).square().sum()[None]
        value = value * (torch.nan if step == 4 else 1.0)
        return value, leaves["w"].reshape(1, 1, 2, 3)

    start = {"w": torch.zeros(2, 3)}
    result = minimize(sick, start, MinimizeOptions(20, {"w": 0.05}), 1)
    assert result.recoveries.tolist() == [1]
    torch.testing.assert_close(result.trace[0, 5], result.trace[0, 3])
    assert result.objective[0] < result.trace[0, 3]


def test_a_problem_that_never_was_finite_says_so():
    def hopeless(leaves, step, problems):
        value, image = _quadratic(torch.ones(2, 2))(leaves, step, problems)
        return value * torch.tensor([torch.inf, 1.0]), image

    result = _minimize(hopeless, torch.zeros(2, 2), MinimizeOptions(3, {"x": 0.1}))
    assert torch.isinf(result.objective[0])
    assert torch.isfinite(result.objective[1])
    assert result.recoveries.tolist() == [4, 0]


def test_no_steps_give_the_start_back():
    start = torch.tensor([[3.0, 4.0]])
    result = _minimize(_quadratic(torch.zeros(1, 2)), start, MinimizeOptions(0, {"x": 0.1}))
    torch.testing.assert_close(result.variables["x"], start)
    assert result.trace.tolist() == [[25.0]]


def _to_goals(goal, problems, steps=60):
    target = torch.linspace(0.5, 3, 5)[:, None].expand(-1, 2)[problems]
    options = MinimizeOptions(steps, {"x": 0.05}, goal=torch.tensor(goal)[problems])
    return _minimize(_quadratic(target), torch.zeros(len(problems), 2), options)


def test_a_problem_ends_at_its_first_iterate_that_reaches_its_goal():
    """The same with or without the others, whenever they end; the trace stays where it ended."""
    goal = [0.3, 0.1, -1.0, 4.0, 1e9]
    together = _to_goals(goal, [0, 1, 2, 3, 4])
    free = _to_goals([-1.0] * 5, [0, 1, 2, 3, 4])
    for i, expected in enumerate(goal):
        reached = (free.trace[i] <= expected).nonzero()
        end = int(reached[0]) if len(reached) else 60
        assert together.steps[i] == end
        assert together.objective[i] == free.trace[i, : end + 1].min()
        assert (together.trace[i, : end + 1] == free.trace[i, : end + 1]).all()
        assert (together.trace[i, end:] == together.trace[i, end]).all()
        alone = _to_goals(goal, [i])
        torch.testing.assert_close(alone.variables["x"][0], together.variables["x"][i])
        assert alone.steps == end
    assert together.steps.tolist()[4] == 0
    assert together.trace.shape == (5, 61)


def test_when_all_problems_are_done_the_loop_ends():
    evaluated = []

    def objective(leaves, step, problems):
        evaluated.append(step)
        return _quadratic(torch.ones(2, 2))(leaves, step, problems)

    options = MinimizeOptions(500, {"x": 0.1}, goal=torch.full((2,), 0.5))
    result = _minimize(objective, torch.zeros(2, 2), options)
    assert len(evaluated) < 30
    assert (result.objective <= 0.5).all()


@pytest.mark.parametrize(("plateau", "ends"), [(0.02, True), (0.0, False)])
def test_a_plateau_ends_where_ten_steps_gain_less_than_that_share(plateau, ends):
    """The rule, written down here: the best objective at every tenth step against the last one."""

    def objective(leaves, step, problems):
        x = leaves["x"]
        return 1 + (x - 1).square().sum(1), x[:, None, None, :]

    result = _minimize(
        objective, torch.zeros(1, 2), MinimizeOptions(400, {"x": 0.02}, plateau=plateau)
    )
    best = result.trace[0].cummin(0).values[CHECK_EVERY - 1 :: CHECK_EVERY]
    gains = 1 - best[1:] / best[:-1]
    if ends:
        assert gains[-1] <= plateau < gains[:-1].min()
        assert result.steps[0] < 400
    else:
        assert result.steps[0] == 400


def test_the_schedule_scales_adams_rate():
    """Adam's first step is the rate, whatever the gradient's size."""
    target = torch.full((1, 2), 9.0)
    for factor in (1.0, 0.25):
        options = MinimizeOptions(1, {"x": 0.2}, schedule=lambda step, factor=factor: factor)
        result = _minimize(_quadratic(target), torch.zeros(1, 2), options)
        torch.testing.assert_close(result.variables["x"], torch.full((1, 2), 0.2 * factor))


def test_whoever_is_told_of_a_step_may_end_it_there():
    steps = []

    def on_step(step, best):
        steps.append(step)
        assert len(best.image) == len(best.objective) == 1
        return step == 3

    start = {"x": torch.zeros(1, 2)}
    options = MinimizeOptions(10**6, {"x": 0.1})
    result = minimize(_quadratic(torch.ones(1, 2)), start, options, 1, on_step)
    assert steps == [0, 1, 2, 3]
    assert result.trace.shape == (1, 4)
