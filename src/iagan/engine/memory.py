"""The number of problems that fit into the available memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

SHARE = 0.6
"""Fraction of the available memory that a batch may use; the rest is left to fragmentation and
other programs."""
COPIES = 6
"""Number of tensors per variable: itself, its gradient, Adam's two moments, its best value and a
temporary."""
WORKSPACE = 2.0
"""Measured ratio of a step's peak memory to the activations saved for the backward pass."""


def problems_that_fit(
    device: torch.device, leaves: Mapping[str, Tensor], forward: Callable[[], object]
) -> int:
    """Number of problems like the one of `leaves`, evaluated by `forward`, that fit; at least 1."""
    state = sum(leaf.numel() * leaf.element_size() for leaf in leaves.values())
    problem = COPIES * state + WORKSPACE * saved_bytes(forward)
    return max(1, int(SHARE * available_memory(device) / max(problem, 1)))


def saved_bytes(forward: Callable[[], object]) -> int:
    """Bytes of the tensors that `forward` saves for the backward pass, shared ones counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output saved by its own node would keep the graph alive

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        result = forward()
    del result
    return sum(kept.values())


def available_memory(device: torch.device, root: Path = Path("/")) -> int:
    """Free bytes on `device`, or `sys.maxsize` if the platform does not report it.

    On Linux, the kernel's estimate for the machine, or the bytes left below the limit of a control
    group (a container, a batch job) if less. `root` is the root of the file system.
    """
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + idle)
    if device.type == "cpu" and sys.platform == "linux":
        return min(_of_the_machine(root), *_of_control_groups(root))
    return sys.maxsize


def _of_the_machine(root: Path) -> int:
    lines = (root / "proc/meminfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024


def _of_control_groups(root: Path) -> list[int]:
    """Bytes left below the limits of this process's group and of its ancestors."""
    left = [sys.maxsize]
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return left
    for line in groups:
        _, controllers, path = line.split(":", 2)
        mount = root / "sys/fs/cgroup"
        if controllers == "":
            names = ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            mount, names = mount / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = mount / path.strip("/")
        for folder in (group, *group.parents):
            left.append(_left_in(folder, *names))
            if folder == mount:
                break
    return left


def _left_in(folder: Path, limit: str, usage: str) -> int:
    try:
        most, used = (folder / limit).read_text().strip(), (folder / usage).read_text().strip()
        cache = _reclaimable(folder)
    except OSError:
        return sys.maxsize
    return sys.maxsize if most == "max" else max(0, int(most) - int(used) + cache)


def _reclaimable(folder: Path) -> int:
    """Bytes of page cache that the kernel reclaims before it refuses an allocation."""
    fields = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
    return int(fields.get("inactive_file", fields.get("total_inactive_file", "0")))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
