"""One number a problem, laid out so that it broadcasts over a batch of problems."""

from __future__ import annotations

from torch import Tensor


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """`(batch,)` → `(batch, 1, …)`, to broadcast over `like`, `(batch, ...)`.

    A batch of a single problem broadcasts over a tensor of any shape.
    """
    return values.reshape(-1, *[1] * (like.ndim - 1))
