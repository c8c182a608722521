"""Problems at once as the memory allows: counted before, fewer when it does not suffice."""

import weakref

import pytest
import torch

import iagan
from iagan.engine import Execution, memory
from iagan.errors import SettingError
from iagan.methods import phase, preferred_batch_size
from iagan.methods.networks import AdaptedNetworks
from iagan.priors import Began, Pggan
from toys import images, nonlinear_generator, run


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


def test_problems_that_fit_shrink_with_the_memory_and_never_reach_zero(monkeypatch):
    """A problem of 1,000 numbers: six copies, and twice what exp keeps, in 60 % of the memory."""
    leaves = {"x": torch.ones(1, 1000, requires_grad=True)}
    fits = []
    for free in (10, 10**6, 10**7):
        monkeypatch.setattr(memory, "available_memory", lambda device, free=free: free)
        fits.append(memory.problems_that_fit(torch.device("cpu"), leaves, leaves["x"].exp))
    assert fits == [1, 600_000 // 32_000, 6_000_000 // 32_000]


def _machine(root, cgroup: str, groups: dict[str, dict[str, str]]):
    """A file system with 8 GiB free, and control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 8388608 kB\n")
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, files in groups.items():
        folder = root / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text)


GIB = 2**30


@pytest.mark.parametrize(
    ("cgroup", "groups", "expected"),
    [
        ("", {}, 8 * GIB),
        ("0::/\n", {}, 8 * GIB),
        (
            "0::/job/step\n",
            {
                "job": {
                    "memory.max": str(4 * GIB),
                    "memory.current": str(3 * GIB),
                    "memory.stat": f"anon 5\ninactive_file {GIB}\n",
                },
                "job/step": {"memory.max": "max", "memory.current": "0", "memory.stat": ""},
            },
            2 * GIB,
        ),
        (
            "3:cpu,memory:/docker\n1:name=systemd:/\n",
            {
                "memory/docker": {
                    "memory.limit_in_bytes": str(GIB),
                    "memory.usage_in_bytes": str(GIB // 4),
                    "memory.stat": "total_inactive_file 0\n",
                }
            },
            3 * GIB // 4,
        ),
    ],
    ids=["no groups", "no limit", "of a group above, less its file cache", "version 1"],
)
def test_the_memory_is_that_of_the_container(tmp_path, cgroup, groups, expected):
    _machine(tmp_path, cgroup, groups)
    assert memory.available_memory(torch.device("cpu"), tmp_path) == expected


def _scarce(monkeypatch, at_most: int):
    """Let a batch of more than `at_most` problems fail as torch's allocator does."""
    minimize = phase.minimize
    sizes = []

    def scarce(objective, start, options, count, on_step=None):
        sizes.append(count)
        if count > at_most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return minimize(objective, start, options, count, on_step)

    monkeypatch.setattr(phase, "minimize", scarce)
    return sizes


def test_a_batch_that_is_too_large_is_halved_with_the_same_results(monkeypatch, caplog):
    observation = iagan.observe(images(5), iagan.operators.BicubicDownsample((3, 16, 16), 4))
    whole = run(observation, nonlinear_generator(), "csgm", csgm_steps=3)
    sizes = _scarce(monkeypatch, 2)
    halved = run(observation, nonlinear_generator(), "csgm", csgm_steps=3)
    assert "out of memory with 4 problems at once; falling back to 2" in caplog.text
    assert sizes == [4, 1, 2, 2], "what was done before is kept"
    torch.testing.assert_close(halved.image, whole.image)
    torch.testing.assert_close(halved.trace, whole.trace)


@pytest.mark.parametrize("network", [Began(4, 32, 6), Pggan([8, 8, 8, 8, 4, 4], latent=6)])
def test_checkpointing_gives_the_same_gradients_and_keeps_less(network):
    shape = (6, 1, 1) if isinstance(network, Pggan) else (6,)
    generator = iagan.Generator(network, iagan.NormalLatent(shape))
    z = torch.ones(1, *shape)
    usual, checkpointed = (
        AdaptedNetworks([generator], Execution(), flag) for flag in (False, True)
    )

    def misfit(networks):
        return lambda: networks(networks.leaves, z).square().sum()

    gradients = [
        torch.autograd.grad(misfit(each)(), list(each.leaves.values()))
        for each in (usual, checkpointed)
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    much, little = (memory.saved_bytes(misfit(each)) for each in (usual, checkpointed))
    assert little < 0.7 * much


def test_one_problem_that_does_not_fit_goes_on_with_checkpointing(monkeypatch, caplog):
    """The allocator fails until layers are checkpointed."""
    torch.manual_seed(0)
    generator = iagan.Generator(Began(4, 32, 6), iagan.UniformLatent((6,)))
    y = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    observation = iagan.Observation(y, iagan.operators.BicubicDownsample((3, 32, 32), 4))
    options = {"csgm_steps": 3, "steps": 3, "effort": "paper"}
    whole = run(observation, generator, "iagan", **options)
    attempt = phase.Phase._attempt

    def scarce(self, *given):
        return attempt(self, *given) if self.checkpointing else None

    monkeypatch.setattr(phase.Phase, "_attempt", scarce)
    checkpointed = run(observation, generator, "iagan", **options)
    assert "out of memory with one problem; falling back to activation checkpointing" in caplog.text
    torch.testing.assert_close(checkpointed.image, whole.image)
    torch.testing.assert_close(checkpointed.trace, whole.trace)


def test_too_little_memory_for_one_image_ends_in_words(monkeypatch):
    def never(*others):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")

    monkeypatch.setattr(phase, "minimize", never)
    observation = iagan.observe(images(1), iagan.operators.BicubicDownsample((3, 16, 16), 4))
    with pytest.raises(SettingError, match="at least one image") as caught:
        iagan.reconstruct(observation, nonlinear_generator(), "csgm")
    assert "\n" not in str(caught.value)


def test_another_error_is_not_taken_for_want_of_memory(monkeypatch):
    def broken(*others):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(phase, "minimize", broken)
    observation = iagan.observe(images(2), iagan.operators.BicubicDownsample((3, 16, 16), 4))
    with pytest.raises(RuntimeError, match="shapes"):
        iagan.reconstruct(observation, nonlinear_generator(), iagan.CSGM(steps=1))


def test_so_many_images_together_as_there_is_room_on_the_threads(monkeypatch):
    """Four small ones a thread, fewer of large ones or where each has several starts."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def images_of(side, restarts=1):
        law = iagan.UniformLatent((8,))
        return preferred_batch_size(iagan.Generator(Began(4, side, 8), law), restarts)

    assert [images_of(32), images_of(64), images_of(128), images_of(256)] == [8, 8, 2, 1]
    assert [images_of(64, 2), images_of(64, 5), images_of(64, 50)] == [4, 1, 1]
