"""Layouts of published BEGAN checkpoints, for `iagan.priors.networks.began`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor

from iagan.priors.base import UniformLatent
from iagan.priors.weights.checks import Tensors
from iagan.priors.weights.convert import CELEBA_CROP, Layout

_NO_LICENSE = "none stated by its repository"


def _pairs(modules: list[str], weight: str = "weight", bias: str = "bias") -> dict[str, str]:
    """Map their modules, from the linear layer to the last convolution, to our parameter names."""
    ours = ["linear", *(f"convs.{i}" for i in range(len(modules) - 2)), "rgb"]
    names = {}
    for theirs, mine in zip(modules, ours, strict=True):
        names[f"{theirs}{weight}"] = f"{mine}.weight"
        names[f"{theirs}{bias}"] = f"{mine}.bias"
    return names


def _torch_pairs(modules: list[str]) -> dict[str, str]:
    return _pairs(modules, ".weight", ".bias")


def _latent(length: int) -> UniformLatent:
    return UniformLatent((length,))


def _settings(output: str | Callable[[int], str]) -> Callable[[Tensors], dict[str, Any]]:
    def settings(tensors: Tensors) -> dict[str, Any]:
        convolutions = sum(name.startswith("convs.") for name in tensors) // 2
        size = 8 * 2 ** (convolutions // 2 - 1)
        return {
            "channels": tensors["rgb.weight"].shape[1],
            "size": size,
            "latent": tensors["linear.weight"].shape[1],
            "output": output if isinstance(output, str) else output(size),
        }

    return settings


def _anantzoid(keys: Collection[str]) -> dict[str, str]:
    large = any(key.startswith(("l10.", "l11.")) for key in keys)
    numbers = [*range(9), *([10, 11] if large else []), 9]
    return _torch_pairs([f"l{number}" for number in numbers])


def _sunshineatnoon(keys: Collection[str]) -> dict[str, str]:
    groups = 5 if any(key.startswith("deconv5.") for key in keys) else 4
    convs = [f"deconv{group}.{i}" for group in range(1, groups + 1) for i in (0, 2)]
    return _torch_pairs(["embed1", *convs, f"deconv{groups}.4"])


def _resolutions(convolutions: int) -> int:
    """Number of resolutions for a number of convolutions; four (64 px) if that is implausible."""
    return (convolutions - 1) // 2 if 5 <= convolutions <= 13 else 4


def _carpedm20(keys: Collection[str]) -> dict[str, str]:
    count = _resolutions(sum(re.fullmatch(r"conv\.\d+\.weight", key) is not None for key in keys))
    # conv, ELU, conv, ELU, Up: five indices of the sequence per resolution.
    convs = [f"conv.{5 * level + i}" for level in range(count) for i in (0, 2)]
    return _torch_pairs(["fc", *convs, f"conv.{5 * count - 1}"])


_TF_VARIABLE = re.compile(
    r"(?:.*/)?G/(fully_connected|conv(?:2d)?)(_\d+)?/(weights?|kernel|bias(?:es)?)(?::0)?",
    re.IGNORECASE,
)


def _tf_canonical(key: str) -> str:
    """TF-Slim's `G/Conv_3/weights` or tf.layers' `G/conv2d_3/kernel:0` → `G/conv2d_3/weights`."""
    match = _TF_VARIABLE.fullmatch(key)
    if match is None:
        return key
    module, number, kind = match.groups()
    module = "fully_connected" if module.lower().startswith("f") else "conv2d"
    return f"G/{module}{number or ''}/{'biases' if kind.startswith('b') else 'weights'}"


def _carpedm20_tf(keys: Collection[str]) -> dict[str, str]:
    count = sum(re.fullmatch(r"G/conv2d(_\d+)?/weights", key) is not None for key in keys)
    convs = [f"G/conv2d_{i}" for i in range(1, 2 * _resolutions(count) + 1)]
    return _pairs(["G/fully_connected", "G/conv2d", *convs], "/weights", "/biases")


def _tf_arrange(key: str, tensor: Tensor) -> Tensor:
    """Permute filters HWIO → OIHW; transpose matrices.

    The outputs of the linear layer are assumed to be ordered (channel, row, column), as by the
    program on a GPU, where the published networks were trained. On a CPU its order is (row, column,
    channel); the file does not record which.
    """
    if not key.endswith("weights"):
        return tensor
    return tensor.T if tensor.ndim == 2 else tensor.permute(3, 2, 0, 1)


BEGAN_LAYOUTS = (
    Layout(
        name="anantzoid/BEGAN-pytorch",
        source="https://github.com/anantzoid/BEGAN-pytorch",
        license=_NO_LICENSE,
        architecture="began",
        names=_anantzoid,
        settings=_settings("tanh"),
        latent=_latent,
        crop={64: CELEBA_CROP},
    ),
    Layout(
        name="sunshineatnoon/Paper-Implementations",
        source="https://github.com/sunshineatnoon/Paper-Implementations",
        license=_NO_LICENSE,
        architecture="began",
        names=_sunshineatnoon,
        settings=_settings(lambda size: "tanh" if size == 64 else "linear"),
        latent=_latent,
        crop={64: CELEBA_CROP},
    ),
    Layout(
        name="carpedm20/BEGAN-pytorch",
        source="https://github.com/carpedm20/BEGAN-pytorch",
        license="unknown",
        architecture="began",
        names=_carpedm20,
        settings=_settings("elu"),
        latent=_latent,
    ),
    Layout(
        name="carpedm20/BEGAN-tensorflow",
        source="https://github.com/carpedm20/BEGAN-tensorflow",
        license="unknown",
        architecture="began",
        names=_carpedm20_tf,
        settings=_settings("linear"),
        latent=_latent,
        canonical=_tf_canonical,
        arrange=_tf_arrange,
        extras=True,
    ),
)
