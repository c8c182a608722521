"""Running a prior's network: with its pretrained weights, or with weights adapted to each image."""

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
"""A map `(batch, *latent)` → `(batch, channels, height, width)`."""

WEIGHT = "weight."
"""Prefix of the names of network weights among the variables."""

MAX_VARIANTS = 64
"""Number of compiled variants torch caches per function: one per network, precision and batch."""


def synthesis(prior: Generator, execution: Execution, exact: bool = False) -> Synthesis:
    """G with its pretrained weights under `execution`; `exact`: in the weights' precision."""
    bfloat16 = execution.precision != "float32" and not exact
    network = _compiled(_pretrained) if execution.compile else _pretrained

    def run(z: Latent) -> Image:
        with _autocast(z, bfloat16):
            output = network(prior.module, z)
        return prior.to_unit_range(output.to(z.dtype))

    return run


class AdaptedNetworks:
    """Copies of networks, one per image, whose weights are variables; the originals do not change.

    A single image uses a copy of the module; several, on a GPU, share one batched call with stacked
    weights (`torch.func.vmap`).

    **Arguments:**
    - `networks`: one per image, all of the same architecture.
    - `checkpointing`: for a single image, recompute activations in the backward pass.
    """

    def __init__(
        self, networks: Sequence[Generator], execution: Execution, checkpointing: bool = False
    ) -> None:
        first = networks[0]
        self._range = first.to_unit_range
        self._bfloat16 = execution.precision == "bfloat16"
        self._stacked = len(networks) > 1 or execution.compile
        self._call = _compiled(_with_weights_each) if execution.compile else _with_weights_each
        if self._stacked:
            each = [dict(network.module.named_parameters()) for network in networks]
            own = {name: _stack([one[name].detach() for one in each]) for name in each[0]}
            self._module = _in_bfloat16(first) if self._bfloat16 else copy.deepcopy(first.module)
        else:
            self._module = copy.deepcopy(first.module).requires_grad_(True)
            own = dict(self._module.named_parameters())
            if checkpointing:
                _checkpoint_blocks(self._module)
        self.leaves: dict[str, Tensor] = {WEIGHT + name: value for name, value in own.items()}

    def __call__(self, leaves: Leaves, z: Tensor) -> Image:
        """$G_{\\theta_i}(z_i)$ for every image i."""
        if self._stacked:
            return self._range(self._run_stacked(leaves, z).to(z.dtype))
        with _autocast(z, self._bfloat16):
            output = self._module(z)  # the leaves are its own parameters
        return self._range(output.to(z.dtype))

    def _run_stacked(self, leaves: Leaves, z: Tensor) -> Tensor:
        """Cast explicitly: inside `vmap`, autocast leaves some features in another precision."""
        theta = {
            name.removeprefix(WEIGHT): value.bfloat16() if self._bfloat16 else value
            for name, value in leaves.items()
            if name.startswith(WEIGHT)
        }
        return self._call(self._module, theta, z.bfloat16() if self._bfloat16 else z)


def _stack(values: Sequence[Tensor]) -> Tensor:
    """Stack to `(batch, *shape)` with contiguous strides. With the other strides that a side of 1
    may have, as in channels-last 1×1 filters, torch 2.15's vmap computes wrong gradients on a CPU.
    """
    stacked = torch.stack(list(values))
    return stacked.reshape(-1).view(stacked.shape)  # `contiguous()` would keep such strides


def _in_bfloat16(prior: Generator) -> nn.Module:
    """A copy of the network in bfloat16.

    **Raises:** `SettingError` if it requires another precision.
    """
    module = copy.deepcopy(prior.module).bfloat16()
    weight = next(module.parameters(), torch.zeros((), dtype=torch.bfloat16, device="cpu"))
    try:
        with torch.no_grad():
            module(torch.zeros(1, *prior.latent.shape, device="cpu").to(weight))
    except RuntimeError as error:
        raise SettingError(
            "Execution(precision='bfloat16') expects a network that computes in the precision of "
            f"its latents; it raised: {str(error).splitlines()[0]} Use float32."
        ) from error
    return module


def _checkpoint_blocks(module: nn.Module) -> None:
    """Enable activation checkpointing where the network supports it."""
    if hasattr(module, "checkpointing"):
        module.checkpointing = True  # type: ignore[assignment]


def _autocast(z: Tensor, bfloat16: bool) -> AbstractContextManager[object]:
    return torch.autocast(z.device.type, torch.bfloat16, enabled=bfloat16)


def _pretrained(module: nn.Module, z: Tensor) -> Tensor:
    output: Tensor = module(z)
    return output


def _with_weights_each(module: nn.Module, theta: Mapping[str, Tensor], z: Tensor) -> Tensor:
    """The network with separate weights for each latent, as grouped convolutions."""

    def one(weights: Mapping[str, Tensor], latent: Tensor) -> Tensor:
        output: Tensor = functional_call(module, dict(weights), (latent[None],))
        return output[0]

    return vmap(one)(dict(theta), z)


@functools.cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function compiled by `torch.compile`, cached."""
    import torch._dynamo as dynamo
    from torch._dynamo.exc import TorchDynamoException

    compiled = torch.compile(function)

    def checked(*arguments: object) -> Tensor:
        try:
            with dynamo.config.patch(recompile_limit=MAX_VARIANTS):
                output: Tensor = compiled(*arguments)
        except TorchDynamoException as error:
            raise SettingError(
                "Execution(compile=True) expects what torch.compile needs here (a C++ compiler; "
                f"for a GPU, Triton); got: {str(error).strip().splitlines()[0]}. Use compile=False."
            ) from error
        return output

    return checked
