"""Layouts of published PGGAN checkpoints, for `iagan.priors.networks.pggan`."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from iagan.priors.base import SphericalLatent
from iagan.priors.weights.checks import Tensors
from iagan.priors.weights.convert import Layout

_CC_BY_NC = "CC BY-NC 4.0 (the published weights)"
_RESOLUTIONS = 9
"""Number of resolutions, 4 … 1024, assumed if the keys do not determine it."""


def _latent(length: int) -> SphericalLatent:
    return SphericalLatent((length, 1, 1))


def _settings(tensors: Tensors) -> dict[str, Any]:
    blocks = sum(re.fullmatch(r"blocks\.\d+\.weight", name) is not None for name in tensors)
    weights = [tensors[f"blocks.{i}.weight"] for i in range(blocks)]
    return {
        "channels": [int(weight.shape[0]) for weight in weights],
        "latent": int(weights[0].shape[1]),
        "pixel_bias": tensors["blocks.0.b"].ndim == 3,
    }


def _count(pattern: str, keys: Collection[str], otherwise: int) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in keys) or otherwise


# -- ptrblck/prog_gans_pytorch_inference ------------------------------------------------------


def _ptrblck(keys: Collection[str]) -> dict[str, str]:
    blocks = _count(r"features\.\d+\.conv\.weight", keys, 2 * _RESOLUTIONS)
    modules = {f"features.{i}": f"blocks.{i}" for i in range(blocks)} | {"output": "rgb"}
    parts = {"conv.weight": "weight", "wscale.scale": "scale", "wscale.b": "b"}
    return {f"{m}.{p}": f"{modules[m]}.{parts[p]}" for m in modules for p in parts}


# -- NVIDIA -----------------------------------------------------------------------------------


def _nvidia(keys: Collection[str]) -> dict[str, str]:
    count = _count(r"\d+x\d+/Conv1/weight", keys, _RESOLUTIONS - 1)
    modules = ["4x4/Dense", "4x4/Conv"]
    for side in (4 * 2**level for level in range(1, count + 1)):
        fused = f"{side}x{side}/Conv0_up"
        unfused = f"{side}x{side}/Conv0"
        modules += [fused if f"{fused}/weight" in keys else unfused, f"{side}x{side}/Conv1"]
    names = {}
    for theirs, ours in [
        *((m, f"blocks.{i}") for i, m in enumerate(modules)),
        ("ToRGB_lod0", "rgb"),
    ]:
        names[f"{theirs}/weight"] = f"{ours}.weight"
        names[f"{theirs}/bias"] = f"{ours}.b"
    return names


def _nvidia_arrange(key: str, tensor: Tensor) -> Tensor:
    """Permute TensorFlow's axes to (out, in, row, column), so that one formula covers all blocks.

    - Dense, (in, out·4·4): becomes a convolution of the 1×1 latent with padding 3, whose kernel is
      flipped.
    - Conv0_up, (row, column, out, in): a transposed convolution of stride 2 whose kernel is summed
      with its three shifts by a pixel. A transposed convolution flips its kernel, and the sum is
      nearest-neighbour upsampling; so it equals ×2, then a convolution with the flipped kernel.
    - otherwise (row, column, in, out).
    """
    if key.endswith("bias"):
        return tensor
    if key.endswith("Dense/weight"):
        return tensor.reshape(len(tensor), -1, 4, 4).permute(1, 0, 2, 3).flip(2, 3)
    if key.endswith("Conv0_up/weight"):
        return tensor.permute(2, 3, 0, 1).flip(2, 3)
    return tensor.permute(3, 2, 0, 1)


def _nvidia_complete(tensors: Tensors) -> Tensors:
    """Add the run-time scales: gain / √fan_in, gain √2, for Dense √2/4, for ToRGB 1."""
    scales = {}
    for name, weight in tensors.items():
        if not name.endswith(".weight"):
            continue
        fan_in = weight[0].numel()
        # Dense: (√2/4) / √inputs = √2 / √(inputs·16), as for the others.
        gain = 1.0 if name == "rgb.weight" else math.sqrt(2)
        scales[name.removesuffix("weight") + "scale"] = torch.tensor(
            [gain / math.sqrt(fan_in)], dtype=torch.float32, device="cpu"
        )
    return tensors | scales


# -- Facebook's pytorch_GAN_zoo ---------------------------------------------------------------


def _zoo_canonical(key: str) -> str:
    """The key without `module`, which DataParallel and the zoo's equalized layers insert."""
    return ".".join(part for part in key.split(".") if part != "module")


def _zoo(keys: Collection[str]) -> dict[str, str]:
    scales = _count(r"scaleLayers\.\d+\.0\.weight", keys, 5)
    modules = ["formatLayer", "groupScale0.0"]
    modules += [f"scaleLayers.{scale}.{i}" for scale in range(scales) for i in (0, 1)]
    ours = {module: f"blocks.{i}" for i, module in enumerate(modules)}
    ours[f"toRGBLayers.{scales}"] = "rgb"
    parts = {"weight": "weight", "bias": "b"}
    return {f"{m}.{p}": f"{ours[m]}.{parts[p]}" for m in ours for p in parts}


def _zoo_arrange(key: str, tensor: Tensor) -> Tensor:
    """The linear layer (out·4·4, in) as the convolution that `_nvidia_arrange` describes."""
    if key != "formatLayer.weight":
        return tensor
    return tensor.reshape(-1, 4, 4, tensor.shape[-1]).permute(0, 3, 1, 2).flip(2, 3)


def _zoo_complete(tensors: Tensors) -> Tensors:
    r"""(W x + b)·√(2 / fan_in), the linear layer's fan_in not counting the 4×4 pixels."""
    ours: Tensors = {}
    for name in [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]:
        weight, b = tensors[f"{name}.weight"], tensors[f"{name}.b"]
        fan_in = weight.shape[1] if name == "blocks.0" else weight[0].numel()
        scale = math.sqrt(2 / fan_in)
        b = b.reshape(-1, 4, 4) if name == "blocks.0" else b
        ours |= {
            f"{name}.weight": weight,
            f"{name}.scale": torch.tensor([scale], dtype=torch.float32, device="cpu"),
            f"{name}.b": b * scale,
        }
    return ours


PGGAN_LAYOUTS = (
    Layout(
        name="ptrblck/prog_gans_pytorch_inference",
        source="https://github.com/ptrblck/prog_gans_pytorch_inference",
        license=_CC_BY_NC,
        architecture="pggan",
        names=_ptrblck,
        settings=_settings,
        latent=_latent,
    ),
    Layout(
        name="NVIDIA's progressive_growing_of_gans",
        source="https://github.com/tkarras/progressive_growing_of_gans",
        license=_CC_BY_NC,
        architecture="pggan",
        names=_nvidia,
        settings=_settings,
        latent=_latent,
        arrange=_nvidia_arrange,
        complete=_nvidia_complete,
        extras=True,
    ),
    Layout(
        name="facebookresearch/pytorch_GAN_zoo",
        source="https://github.com/facebookresearch/pytorch_GAN_zoo",
        license="unknown",
        architecture="pggan",
        names=_zoo,
        settings=_settings,
        latent=_latent,
        canonical=_zoo_canonical,
        arrange=_zoo_arrange,
        complete=_zoo_complete,
        extras=True,
    ),
)
