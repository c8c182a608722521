"""Batches sized by the memory that is free, and halved when it does not suffice."""

import pytest
import torch

import iagan
from iagan.errors import SettingError
from iagan.reconstruction import memory, task
from toys import images, nonlinear_generator


def test_saved_bytes_are_counted_once():
    """exp keeps its result, a product both factors; the same tensor twice is one."""
    x = torch.ones(1000, dtype=torch.float64, requires_grad=True)
    assert memory.saved_bytes(lambda: x.exp()) == 8000
    assert memory.saved_bytes(lambda: (x * x).exp()) == 16000


def test_rows_that_fit_shrink_with_the_memory_and_never_reach_zero(monkeypatch):
    variables = {"x": torch.ones(1, 1000, requires_grad=True)}
    fits = []
    for free in (10, 10**6, 10**7):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: free)
        fits.append(memory.rows_that_fit(torch.device("cpu"), variables, variables["x"].exp))
    row = memory.COPIES * 4000 + memory.WORKSPACE * 4000
    assert fits == [1, int(0.6e6 / row), int(0.6e7 / row)]


def test_the_free_memory_of_this_machine_is_a_plausible_number():
    assert memory.free_memory(torch.device("cpu")) > 2**20


@pytest.mark.parametrize("method", ["csgm", "iagan", "dip"])
def test_a_batch_that_is_too_large_is_halved_with_the_same_results(method, monkeypatch, caplog):
    """The allocator fails for more than 2 rows; 5 images go through all the same."""
    generator = nonlinear_generator()
    observation = iagan.observe(images(5), iagan.operators.BicubicDownsample((3, 16, 16), 4))
    options = {"csgm_steps": 3, "steps": 3}
    whole = iagan.reconstruct(observation, generator, method, **options)
    minimize = task.minimize

    def scarce(objective, start, *others):
        if len(next(iter(start.values()))) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return minimize(objective, start, *others)

    monkeypatch.setattr(task, "minimize", scarce)
    halved = iagan.reconstruct(observation, generator, method, **options)
    assert "out of memory with 5 rows; going on with 2" in caplog.text
    torch.testing.assert_close(halved.image, whole.image)
    torch.testing.assert_close(halved.trace, whole.trace)


def test_too_little_memory_for_one_image_ends_in_words(monkeypatch):
    def never(*others):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")

    monkeypatch.setattr(task, "minimize", never)
    observation = iagan.observe(images(1), iagan.operators.BicubicDownsample((3, 16, 16), 4))
    with pytest.raises(SettingError, match="one image at least") as caught:
        iagan.reconstruct(observation, nonlinear_generator(), "csgm")
    assert "\n" not in str(caught.value)


def test_another_error_is_not_taken_for_want_of_memory(monkeypatch):
    def broken(*others):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(task, "minimize", broken)
    observation = iagan.observe(images(2), iagan.operators.BicubicDownsample((3, 16, 16), 4))
    with pytest.raises(RuntimeError, match="shapes"):
        iagan.reconstruct(observation, nonlinear_generator(), "csgm", csgm_steps=1)
