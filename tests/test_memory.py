"""Batches sized by the memory that is free, and halved when it does not suffice."""

import os
import platform
import subprocess
import sys
import weakref

import pytest
import torch

import iagan
from iagan.errors import SettingError
from iagan.priors import Began, Pggan
from iagan.priors.networks.recompute import is_recomputing, recomputing
from iagan.reconstruction import allocator, memory, task, worth_together
from toys import images, nonlinear_generator


def test_saved_bytes_are_counted_once():
    """exp keeps its result, a product both factors; the same tensor twice is one."""
    x = torch.ones(1000, dtype=torch.float64, requires_grad=True)
    assert memory.saved_bytes(lambda: x.exp()) == 8000
    assert memory.saved_bytes(lambda: (x * x).exp()) == 16000


def test_counting_bytes_keeps_nothing():
    """A result that its own node keeps for the backward pass is gone when nobody expects it."""
    kept = []

    def forward():
        result = torch.ones(3, requires_grad=True).exp()
        kept.append(weakref.ref(result))
        return result

    memory.saved_bytes(forward)
    assert kept[0]() is None


_RESIDENT = """
import resource
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20
"""
_KEPT = """
import torch
from iagan.reconstruction.allocator import memory_kept

def after_use():
    torch.ones(2**26)
    return resident()

before = after_use()
try:
    with memory_kept():
        inside = after_use()
        raise KeyError
except KeyError:
    print(inside - before, resident() - before, after_use() - before)
"""
_OVERLAPPING = """
import threading
import torch
from iagan.reconstruction.allocator import memory_kept

def enter_and_leave():
    with memory_kept():
        pass

with memory_kept():
    other = threading.Thread(target=enter_and_leave)
    other.start()
    other.join()
    torch.ones(2**26)
    inside = resident()
print(inside - resident())
"""
_AFTERWARDS = """
import ctypes
import resource
import torch
from iagan.reconstruction.allocator import memory_kept

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p

def moves():
    ends = []
    for _ in range(200):
        libc.malloc(8192)
        ends.append(libc.sbrk(0))
    return len(set(ends))

before = moves()
with memory_kept():
    pass
print(moves() - before)
for _ in range(8):
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(6 * 2**20)  # 24 MiB, 6144 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def _printed(program: str) -> list[int]:
    """In a process of its own: what other tests left free would be taken first."""
    plain = {
        name: value
        for name, value in os.environ.items()
        if name not in ("LD_PRELOAD", "GLIBC_TUNABLES") and not name.startswith("MALLOC_")
    }
    ran = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, env=plain
    )
    return [int(number) for number in ran.stdout.split()]


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


@glibc
def test_memory_is_kept_inside_and_goes_back_after():
    """256 MiB that are free again: still there inside, gone after it, be it by an error."""
    inside, after, used_after = _printed(_RESIDENT + _KEPT)
    assert inside > 200
    assert after < 50
    assert used_after < 50


@glibc
def test_memory_is_kept_while_another_thread_ends_its_block():
    assert _printed(_RESIDENT + _OVERLAPPING)[0] > 200


@glibc
def test_afterwards_the_allocator_does_as_it_did():
    """Small pieces do not move the heap's end one by one, medium ones are used again: as glibc does
    by itself, which no longer moves its thresholds once they are set.
    """
    more_moves, pages = _printed(_AFTERWARDS)
    assert more_moves < 10
    assert pages < 100


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator, "_glibc", allocator._glibc.__wrapped__)
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    with allocator.memory_kept():
        pass


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
    options = {"csgm_steps": 3, "steps": 3, "batch_size": 5}
    whole = iagan.reconstruct(observation, generator, method, **options)
    minimize = task.minimize_on_threads

    def scarce(objective, start, *others):
        if len(next(iter(start.values()))) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return minimize(objective, start, *others)

    monkeypatch.setattr(task, "minimize_on_threads", scarce)
    halved = iagan.reconstruct(observation, generator, method, **options)
    assert "out of memory with 5 rows; going on with 2" in caplog.text
    torch.testing.assert_close(halved.image, whole.image)
    torch.testing.assert_close(halved.trace, whole.trace)


@pytest.mark.parametrize("network", [Began(4, 32, 6), Pggan([8, 8, 8, 8, 4, 4], latent=6)])
def test_layers_computed_twice_give_the_same_and_keep_less(network):
    """With weights of functional_call: in the backward pass the module has its own again."""
    shape = (6, 1, 1) if isinstance(network, Pggan) else (6,)
    generator = iagan.Generator(network, iagan.LatentLaw("normal", shape))
    theta = {name: 1.1 * value for name, value in generator.parameters().items()}
    variables = [torch.ones(1, *shape), *theta.values()]
    for value in variables:
        value.requires_grad_()

    def misfit():
        return generator.synthesize(theta, variables[0]).square().sum()

    usual = torch.autograd.grad(misfit(), variables)
    much = memory.saved_bytes(misfit)
    with recomputing():
        again = torch.autograd.grad(misfit(), variables)
        little = memory.saved_bytes(misfit)
    for a, b in zip(usual, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert little < 0.7 * much


def test_one_row_that_does_not_fit_goes_on_with_layers_computed_twice(monkeypatch, caplog):
    """The allocator fails until layers are recomputed; afterwards they are kept again."""
    torch.manual_seed(0)
    generator = iagan.Generator(Began(4, 32, 6), iagan.LatentLaw("uniform", (6,)))
    y = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    observation = iagan.Observation(y, iagan.operators.BicubicDownsample((3, 32, 32), 4))
    options = {"csgm_steps": 3, "steps": 3, "effort": "paper"}
    whole = iagan.reconstruct(observation, generator, "iagan", **options)
    minimize = task.minimize_on_threads

    def scarce(*others):
        if not is_recomputing():
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return minimize(*others)

    monkeypatch.setattr(task, "minimize_on_threads", scarce)
    thrifty = iagan.reconstruct(observation, generator, "iagan", **options)
    assert "out of memory with one row; going on with its layers computed twice" in caplog.text
    assert not is_recomputing()
    torch.testing.assert_close(thrifty.image, whole.image)
    torch.testing.assert_close(thrifty.trace, whole.trace)


def test_too_little_memory_for_one_image_ends_in_words(monkeypatch):
    def never(*others):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")

    monkeypatch.setattr(task, "minimize_on_threads", never)
    observation = iagan.observe(images(1), iagan.operators.BicubicDownsample((3, 16, 16), 4))
    with pytest.raises(SettingError, match="one image at least") as caught:
        iagan.reconstruct(observation, nonlinear_generator(), "csgm")
    assert "\n" not in str(caught.value)


def test_another_error_is_not_taken_for_want_of_memory(monkeypatch):
    def broken(*others):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(task, "minimize_on_threads", broken)
    observation = iagan.observe(images(2), iagan.operators.BicubicDownsample((3, 16, 16), 4))
    with pytest.raises(RuntimeError, match="shapes"):
        iagan.reconstruct(observation, nonlinear_generator(), "csgm", csgm_steps=1)


def test_so_many_images_together_as_there_is_room_on_the_threads(monkeypatch):
    """Four small ones a thread, fewer of large ones or where each has several starts."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def images_of(side, restarts=1):
        law = iagan.LatentLaw("uniform", (8,))
        return worth_together(iagan.Generator(Began(4, side, 8), law), restarts)

    assert [images_of(32), images_of(64), images_of(128), images_of(256)] == [8, 8, 2, 1]
    assert [images_of(64, 2), images_of(64, 5), images_of(64, 50)] == [4, 1, 1]
