"""Less memory for more time: blocks whose inner tensors are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from iagan.priors.switch import switched_on

_RECOMPUTE = ContextVar("iagan_recompute", default=False)


def recomputing() -> AbstractContextManager[None]:
    """Inside, every `block` of a network keeps its input alone; the results are the same."""
    return switched_on(_RECOMPUTE)


def is_recomputing() -> bool:
    """Whether this is inside `recomputing()`."""
    return _RECOMPUTE.get()


def block(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`. What else it uses it must hold itself: in the backward pass the weights that
    `torch.func.functional_call` put into a module are gone.
    """
    if not (is_recomputing() and torch.is_grad_enabled()):
        return function(x)
    found = checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)
    assert isinstance(found, Tensor)
    return found
