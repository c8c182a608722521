"""Rows on threads of their own: the results of one batch, and one end for all."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import iagan
from iagan.reconstruction import task
from iagan.reconstruction.optimize import LEAVE_EVERY, Rules, minimize
from iagan.reconstruction.threads import minimize_on_threads
from toys import nonlinear_generator, observe

ROWS = torch.arange(5)
START = {"z": torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)}


@pytest.fixture(autouse=True)
def _three_threads():
    """And as many when the work is done: no other test is to have fewer."""
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)


def _quartic(variables, step, rows):
    """Of every row another one, by its number."""
    z = torch.stack(list(variables["z"]))
    value = (z - rows[:, None].double()).pow(4).sum(1)
    return value, z[:, :, None, None]


RULES = {
    "Adam": Rules(25, {"z": 0.1}),
    "Adam, to a goal": Rules(
        60, {"z": 0.3}, goal=torch.tensor([1.0, 0.1, 1e9, 0.5, 20.0]).double()
    ),
    "L-BFGS, to a plateau": Rules(60, None, plateau=1e-2),
}


@pytest.mark.parametrize("name", RULES)
def test_the_results_are_those_of_one_batch(name):
    whole = minimize(_quartic, START, RULES[name], ROWS)
    found = minimize_on_threads(_quartic, START, RULES[name], ROWS)
    for field in ("objective", "image", "steps", "recoveries", "trace"):
        torch.testing.assert_close(getattr(found, field), getattr(whole, field))
    torch.testing.assert_close(found.variables["z"], whole.variables["z"])


def test_the_rows_are_on_several_threads_with_the_cores_between_them():
    at_work = {}

    def objective(variables, step, rows):
        at_work[threading.get_ident()] = (rows.tolist(), torch.get_num_threads())
        return _quartic(variables, step, rows)

    minimize_on_threads(objective, START, Rules(2, {"z": 0.1}), ROWS)
    assert sorted(at_work.values()) == [([0, 1], 1), ([2, 3], 1), ([4], 1)]
    at_work.clear()
    minimize_on_threads(objective, {"z": START["z"][:1]}, Rules(2, {"z": 0.1}), ROWS[:1])
    assert list(at_work.items()) == [(threading.get_ident(), ([0], 3))]


def test_threads_that_begin_meanwhile_have_all_cores():
    """Torch gives a new thread the number that was set last."""
    found = []

    def on_step(step, objective):
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        other.start()
        other.join()

    minimize_on_threads(_quartic, START, Rules(2, {"z": 0.1}), ROWS, on_step)
    assert found == [3, 3, 3]


def test_progress_comes_from_the_callers_thread_step_by_step():
    told = []

    def on_step(step, objective):
        told.append((threading.get_ident(), step, len(objective)))

    minimize_on_threads(_quartic, START, Rules(4, {"z": 0.1}), ROWS, on_step)
    assert told == [(threading.get_ident(), step, 5) for step in range(5)]


def test_progress_goes_on_when_a_part_has_reached_its_goal():
    """Rows 0 and 1 end at the first look, the others take all steps."""
    told = []
    goal = torch.tensor([1e9, 1e9, -1, -1, -1], dtype=torch.float64)
    rules = Rules(2 * LEAVE_EVERY, {"z": 0.1}, goal=goal)
    minimize_on_threads(_quartic, START, rules, ROWS, lambda step, objective: told.append(step))
    assert told == sorted(set(told)) and told[-1] == 2 * LEAVE_EVERY


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_an_error_in_one_part_ends_all(error):
    """The other parts would take a million steps."""

    def objective(variables, step, rows):
        if 4 in rows and step == 3:
            raise error
        return _quartic(variables, step, rows)

    with pytest.raises(type(error)):
        minimize_on_threads(objective, START, Rules(10**6, {"z": 0.1}), ROWS)


@pytest.mark.parametrize("error", [ValueError("no more"), KeyboardInterrupt()])
def test_whoever_is_told_of_a_step_may_end_it(error):
    def on_step(step, objective):
        if step == 3:
            raise error

    with pytest.raises(type(error)):
        minimize_on_threads(_quartic, START, Rules(10**6, {"z": 0.1}), ROWS, on_step)


def test_a_thread_that_cannot_begin_ends_the_others(monkeypatch):
    """They wait for it."""
    submit = ThreadPoolExecutor.submit
    begun = []

    def scarce(pool, *given):
        begun.append(1)
        if len(begun) == 3:
            raise RuntimeError("can't start new thread")
        return submit(pool, *given)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", scarce)
    with pytest.raises(RuntimeError, match="start new thread"):
        minimize_on_threads(_quartic, START, Rules(4, {"z": 0.1}), ROWS)


def test_want_of_memory_in_one_part_halves_the_batch(monkeypatch, caplog):
    """Of four images on three threads the part of two fails."""
    options = {"csgm_steps": 3, "steps": 3, "batch_size": 4}
    whole = iagan.reconstruct(observe(4), nonlinear_generator(), "iagan", **options)
    misfit = task.Task.misfit

    def scarce(self, image, rows):
        if len(image) == 2 and threading.active_count() > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return misfit(self, image, rows)

    monkeypatch.setattr(task.Task, "misfit", scarce)
    halved = iagan.reconstruct(observe(4), nonlinear_generator(), "iagan", **options)
    assert "out of memory with 4 rows; going on with 2" in caplog.text
    torch.testing.assert_close(halved.image, whole.image)


class _Meeting(nn.Module):
    """z → weight · z, as soon as two threads are in here."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.barrier = None

    def forward(self, z):
        if self.barrier is not None:
            self.barrier.wait(10)
        return (self.weight * z)[:, :, None, None].expand(-1, -1, 2, 2)

    def __deepcopy__(self, memo):
        """Locks cannot be copied; the barrier is to be the same one."""
        twin = _Meeting()
        twin.weight = memo.get(id(self.weight), self.weight)
        twin.barrier = self.barrier
        return twin


def test_threads_do_not_see_each_others_weights():
    """Both are inside the network at once, each with weights of its own."""
    generator = iagan.Generator(_Meeting(), iagan.LatentLaw("normal", (1,)))
    generator.module.barrier = threading.Barrier(2)
    found = {}

    def work(number):
        weights = {"weight": torch.full((1,), float(number))}
        found[number] = generator.synthesize(weights, torch.ones(1, 1))

    threads = [threading.Thread(target=work, args=(number,)) for number in (3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (3, 5):
        torch.testing.assert_close(found[number], torch.full((1, 1, 2, 2), (number + 1) / 2))
    assert generator.module.weight.item() == 1
