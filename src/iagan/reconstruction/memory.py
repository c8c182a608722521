"""How many rows of a batch fit into the memory that is free."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

USED = 0.6
"""Share of the free memory that a batch may take: allocators waste, and others want some."""
COPIES = 6
"""Of every variable: itself, its gradient, Adam's two moments, the best so far, a temporary."""
WORKSPACE = 2.0
"""What a step takes, over what its forward pass keeps for the backward pass."""


def rows_that_fit(
    device: torch.device, variables: Mapping[str, Tensor], forward: Callable[[], object]
) -> int:
    """Rows like the one that `variables` and `forward` stand for; at least 1.

    `forward` evaluates the objective of that row once, with gradients.
    """
    state = sum(value.numel() * value.element_size() for value in variables.values())
    row = COPIES * state + WORKSPACE * saved_bytes(forward)
    return max(1, int(USED * free_memory(device) / max(row, 1)))


def saved_bytes(forward: Callable[[], object]) -> int:
    """Bytes of the tensors that `forward` keeps for a backward pass, shared ones counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # else an output that its own node keeps holds the graph for ever

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        result = forward()
    del result
    return sum(kept.values())


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on `device`; where nobody tells, as on a Mac, more than any."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + idle)
    if device.type == "cpu" and sys.platform == "linux":
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found["MemAvailable"].split()[0]) * 1024
    return sys.maxsize


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed for want of memory, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
