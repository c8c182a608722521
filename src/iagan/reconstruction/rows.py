"""What is fitted, for a batch of independent problems: all rows together, or row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Variables: TypeAlias = Mapping[str, Tensor]
"""`(batch, ...)` by name."""
Rows: TypeAlias = Mapping[str, Tensor | Sequence[Tensor]]
"""The same, or row by row: `batch` tensors of `(...)` by name."""


def by_rows(device: torch.device) -> bool:
    """Whether objectives get variables row by row there."""
    return device.type == "cpu"


def together(value: Tensor | Sequence[Tensor]) -> Tensor:
    """A variable, or a gradient, as `(batch, ...)`."""
    return value if isinstance(value, Tensor) else torch.stack(list(value))


def leaves_of(variables: Variables, apart: bool) -> Rows:
    """The variables, or their rows, in the same memory, as leaves of a graph."""
    if not apart:
        return {name: value.detach().requires_grad_() for name, value in variables.items()}
    return {
        name: [row.detach().requires_grad_() for row in value] for name, value in variables.items()
    }


def gradients_of(value_per_row: Tensor, leaves: Rows) -> Rows:
    """Of the sum, as `leaves` are."""
    every: list[Tensor] = []
    for value in leaves.values():
        every += [value] if isinstance(value, Tensor) else value
    found = iter(torch.autograd.grad(value_per_row.sum(), every))
    return {
        name: next(found) if isinstance(value, Tensor) else [next(found) for _ in value]
        for name, value in leaves.items()
    }


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """`(batch,)` → `(batch, 1, …)`, to broadcast over `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
