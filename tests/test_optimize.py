"""The one loop: it is Adam, it keeps the best iterate of every row, and no row disturbs another."""

import torch

from iagan.reconstruction.optimize import BatchedAdam, minimize


def _quadratic(target):
    def objective(variables, step):
        x = variables["x"]
        return (x - target).square().flatten(1).sum(1), x[:, None, None, :]

    return objective


def test_every_row_takes_the_steps_of_torchs_adam():
    """Against torch.optim.Adam run on each row alone."""
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, generator=rng, dtype=torch.float64)
    target = torch.randn(3, 5, generator=rng, dtype=torch.float64)
    current = {"x": start.clone()}
    adam = BatchedAdam(current, {"x": 0.1})
    alone = [row.clone().requires_grad_() for row in start]
    optimizers = [torch.optim.Adam([row], lr=0.1) for row in alone]
    for _ in range(25):
        adam.step(current, {"x": 4 * (current["x"] - target) ** 3})
        for row, goal, optimizer in zip(alone, target, optimizers, strict=True):
            optimizer.zero_grad()
            (row - goal).pow(4).sum().backward()
            optimizer.step()
    torch.testing.assert_close(current["x"], torch.stack(alone).detach(), rtol=1e-12, atol=1e-12)


def test_the_iterate_of_smallest_objective_is_kept():
    """A rate so large that Adam jumps about: the last iterate is not the best."""
    target = torch.tensor([[1.0, -2.0], [0.3, 0.1]])
    found = minimize(_quadratic(target), {"x": torch.zeros(2, 2)}, {"x": 0.9}, steps=7)
    assert found.trace.shape == (2, 8)
    torch.testing.assert_close(found.objective, found.trace.min(1).values)
    assert (found.trace[:, -1] > found.objective).any(), "the test's rate must overshoot"
    value, _ = _quadratic(target)(found.variables, 0)
    torch.testing.assert_close(value, found.objective)


def test_a_row_that_turns_nan_goes_on_from_its_best_and_the_others_do_not_notice():
    target = torch.tensor([[1.0, -2.0], [0.3, 0.1]])

    def sick(variables, step):
        value, image = _quadratic(target)(variables, step)
        poison = torch.tensor([torch.nan if step == 5 else 1.0, 1.0])
        return value * poison, image

    start, rate = {"x": torch.zeros(2, 2)}, {"x": 0.05}
    healthy = minimize(_quadratic(target), start, rate, steps=30)
    found = minimize(sick, start, rate, steps=30)
    assert found.recoveries.tolist() == [1, 0]
    torch.testing.assert_close(found.trace[1], healthy.trace[1], rtol=0, atol=0)
    assert torch.isnan(found.trace[0, 5])
    assert found.objective[0] < found.trace[0, 4], "it must go on improving after the recovery"
    back = found.trace[0, 6]
    torch.testing.assert_close(back, found.trace[0, :5].min())


def test_a_row_that_never_was_finite_says_so():
    def hopeless(variables, step):
        value, image = _quadratic(torch.ones(2, 2))(variables, step)
        return value * torch.tensor([torch.inf, 1.0]), image

    found = minimize(hopeless, {"x": torch.zeros(2, 2)}, {"x": 0.1}, steps=3)
    assert torch.isinf(found.objective[0])
    assert torch.isfinite(found.objective[1])
    assert found.recoveries.tolist() == [4, 0]


def test_no_steps_give_the_start_back():
    start = {"x": torch.tensor([[3.0, 4.0]])}
    found = minimize(_quadratic(torch.zeros(1, 2)), start, {"x": 0.1}, steps=0)
    torch.testing.assert_close(found.variables["x"], start["x"])
    assert found.trace.tolist() == [[25.0]]
