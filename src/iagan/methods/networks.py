"""How a prior's network is run: with its own weights, or with weights of each image's own."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from iagan.engine import Execution
from iagan.engine.minimize import Leaves
from iagan.errors import SettingError
from iagan.priors import Generator
from iagan.types import Image, Latent

Synthesis: TypeAlias = Callable[[Latent], Image]
"""`(batch, *latent)` → `(batch, channels, height, width)`."""

WEIGHT = "weight."
"""Prefix of the network's weights among the variables."""

MAX_VARIANTS = 64
"""Compiled variants that torch keeps of a function: one for each network, precision and batch."""


def synthesis(prior: Generator, execution: Execution, exact: bool = False) -> Synthesis:
    """G with the pretrained weights, as `execution` has it; `exact`: in the weights' precision."""
    quick = execution.precision != "float32" and not exact
    network = _compiled(_pretrained) if execution.compile else _pretrained

    def run(z: Latent) -> Image:
        with _precision(z, quick):
            output = network(prior.module, z)
        return prior.to_unit_range(output.to(z.dtype))

    return run


class AdaptedNetworks:
    """Copies of networks, one an image, whose weights are variables; the originals never change.

    One image has a copy of the module itself; several, on a GPU, share one batched call of their
    stacked weights (`torch.func.vmap`).

    **Arguments:**
    - `networks`: an image's each; of the same architecture.
    - `checkpointing`: of a single image, compute blocks again in the backward pass.
    """

    def __init__(
        self, networks: Sequence[Generator], execution: Execution, checkpointing: bool = False
    ) -> None:
        first = networks[0]
        self._range = first.to_unit_range
        self._quick = execution.precision == "bfloat16"
        self._stacked = len(networks) > 1 or execution.compile
        self._call = _compiled(_with_weights_each) if execution.compile else _with_weights_each
        if self._stacked:
            each = [network.parameters() for network in networks]
            own = {name: _stack([one[name] for one in each]) for name in each[0]}
            self._module = _in_bfloat16(first) if self._quick else copy.deepcopy(first.module)
        else:
            self._module = copy.deepcopy(first.module).requires_grad_(True)
            own = dict(self._module.named_parameters())
            if checkpointing:
                _checkpoint_blocks(self._module)
        self.leaves: dict[str, Tensor] = {WEIGHT + name: value for name, value in own.items()}

    def __call__(self, leaves: Leaves, z: Tensor) -> Image:
        """$G_{\\theta_i}(z_i)$, of every weight and z as many as images."""
        if self._stacked:
            return self._range(self._run_stacked(leaves, z).to(z.dtype))
        with _precision(z, self._quick):
            output = self._module(z)  # whose own parameters the leaves are
        return self._range(output.to(z.dtype))

    def _run_stacked(self, leaves: Leaves, z: Tensor) -> Tensor:
        """Cast by hand: inside `vmap`, autocast leaves some features in another precision."""
        theta = {
            name.removeprefix(WEIGHT): value.bfloat16() if self._quick else value
            for name, value in leaves.items()
            if name.startswith(WEIGHT)
        }
        return self._call(self._module, theta, z.bfloat16() if self._quick else z)


def _stack(values: Sequence[Tensor]) -> Tensor:
    """`(batch, *shape)` with the strides of that shape: with those that a side of 1 may have
    besides, as in channels-last 1×1 filters, torch 2.15's vmap computes wrong gradients on a CPU.
    """
    whole = torch.stack(list(values))
    return whole.reshape(-1).view(whole.shape)  # `contiguous()` would keep such strides


def _in_bfloat16(prior: Generator) -> nn.Module:
    """A copy of the network.

    **Raises:** `SettingError` for one that insists on another precision.
    """
    module = copy.deepcopy(prior.module).bfloat16()
    weight = next(module.parameters())
    try:
        with torch.no_grad():
            module(torch.zeros(1, *prior.latent.shape).to(weight))
    except RuntimeError as error:
        raise SettingError(
            "Execution(precision='bfloat16') expects a network that computes in the precision of "
            f"its latents; it raised: {str(error).splitlines()[0]} Go on in float32."
        ) from error
    return module


def _checkpoint_blocks(module: nn.Module) -> None:
    """Let the blocks of our own networks keep their inputs alone."""
    if hasattr(module, "checkpointing"):
        module.checkpointing = True  # type: ignore[assignment]


def _precision(z: Tensor, quick: bool) -> AbstractContextManager[object]:
    return torch.autocast(z.device.type, torch.bfloat16, enabled=quick)


def _pretrained(module: nn.Module, z: Tensor) -> Tensor:
    output: Tensor = module(z)
    return output


def _with_weights_each(module: nn.Module, theta: Mapping[str, Tensor], z: Tensor) -> Tensor:
    """Grouped convolutions."""

    def one(weights: Mapping[str, Tensor], latent: Tensor) -> Tensor:
        output: Tensor = functional_call(module, dict(weights), (latent[None],))
        return output[0]

    return vmap(one)(dict(theta), z)


@functools.cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As `torch.compile` makes it; kept for the next call."""
    import torch._dynamo as dynamo
    from torch._dynamo.exc import TorchDynamoException

    quick = torch.compile(function)

    def checked(*arguments: object) -> Tensor:
        try:
            with dynamo.config.patch(recompile_limit=MAX_VARIANTS):
                output: Tensor = quick(*arguments)
        except TorchDynamoException as error:
            raise SettingError(
                "Execution(compile=True) expects what torch.compile needs here (a C++ compiler; "
                f"for a GPU, Triton); got: {str(error).strip().splitlines()[0]}. Go on without."
            ) from error
        return output

    return checked
