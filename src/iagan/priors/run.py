"""The ways to run a network: with its own weights, with others, with others for every image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from iagan.errors import SettingError
from iagan.priors.switch import switched_on

Run: TypeAlias = Callable[[nn.Module, Mapping[str, Tensor], Tensor], Tensor]
"""`(network, weights, z) → x`, as the network gives it."""

MOST_VARIANTS = 64
"""Of what one way of running is compiled to: of every network, precision and kind of batch one."""
_EAGER = ContextVar("iagan_eager", default=False)


def as_it_is_written() -> AbstractContextManager[None]:
    """Inside, a compiled network runs uncompiled: for a call that will not be repeated."""
    return switched_on(_EAGER)


def is_as_written() -> bool:
    """Whether this is inside `as_it_is_written()`."""
    return _EAGER.get()


def pretrained(module: nn.Module, theta: Mapping[str, Tensor], z: Tensor) -> Tensor:
    """With its own weights; `theta` is empty."""
    found: Tensor = module(z)
    return found


def with_weights(module: nn.Module, theta: Mapping[str, Tensor], z: Tensor) -> Tensor:
    """With `theta` for all images."""
    found: Tensor = functional_call(module, dict(theta), (z,))
    return found


def with_weights_each(module: nn.Module, theta: Mapping[str, Tensor], z: Tensor) -> Tensor:
    """With weights of its own for every image: grouped convolutions."""
    each = vmap(lambda weights, latent: with_weights(module, weights, latent[None])[0])
    return each(dict(theta), z)


@cache
def compiled(run: Run) -> Run:
    """One of the above as `torch.compile` makes it; what it made is kept for the next call.

    **Raises:** (the result, when called) `SettingError` where torch cannot compile.
    """
    import torch._dynamo as dynamo
    from torch._dynamo.exc import TorchDynamoException

    dynamo.config.recompile_limit = max(MOST_VARIANTS, dynamo.config.recompile_limit)
    quick = torch.compile(run)

    def checked(module: nn.Module, theta: Mapping[str, Tensor], z: Tensor) -> Tensor:
        try:
            found: Tensor = quick(module, theta, z)
        except TorchDynamoException as error:
            raise SettingError(
                "A compiled prior expects what torch.compile needs here (a C++ compiler; for a "
                f"GPU, Triton); got: {str(error).strip().splitlines()[0]}. Go on without compiling."
            ) from error
        return found

    return checked
