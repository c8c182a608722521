"""The generator of progressive growing of GANs (Karras et al. 2018, arXiv 1710.10196)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iagan.errors import SettingError
from iagan.priors.networks.layers import enlarge_and_convolve, run_block
from iagan.priors.networks.settings import check_choice, check_count, check_features
from iagan.types import Image, Latent

CELEBA_HQ = (512,) * 8 + (256,) * 2 + (128,) * 2 + (64,) * 2 + (32,) * 2 + (16,) * 2
"""Channels of the published 1024×1024 network's 18 blocks."""


class Pggan(nn.Module):
    r"""Blocks of pixel norm → (×2) → convolution → $\cdot\, s + b$ → leaky ReLU 0.2.

    $$\operatorname{norm}(x) = x / \sqrt{\operatorname{mean}_c x^2 + 10^{-8}}$$

    Block 0 is the dense layer, written as a 4×4 convolution with padding 3 on the 1×1 latent; the
    others are 3×3. Blocks 2, 4, … first upsample ×2 by nearest neighbour. After the last block:
    pixel norm, 1×1 convolution, $\cdot\, s + b$, no tanh. The run-time scales $s$ of "equalized
    learning rate" are parameters like $b$, hence adapted with the weights, as in the network used
    by the IAGAN paper (arXiv 1906.05284).

    **Arguments:**
    - `channels`: output channels of each block; two blocks per resolution, from 4×4 up.
    - `latent`: length of z.
    - `pixel_bias`: whether block 0's b has one value per channel and pixel of the 4×4 features, as
      in Facebook's pytorch_GAN_zoo, instead of one per channel.

    **Shapes:** `(batch, latent, 1, 1)` → `(batch, 3, side, side)`, side = 4 · 2^(blocks/2 - 1),
    nominally in [-1, 1].
    **Raises:** `SettingError` for an odd number of blocks or sides above 1024.
    """

    checkpointing = False
    """Whether the activations of each block are recomputed in the backward pass."""

    def __init__(
        self,
        channels: Sequence[int] = CELEBA_HQ,
        latent: int = 512,
        pixel_bias: bool = False,
    ) -> None:
        super().__init__()
        check_count("Pggan", "latent", latent, 65536)
        check_choice("Pggan", "pixel_bias", pixel_bias, (False, True))
        if len(channels) not in range(2, 19, 2):
            raise SettingError(
                "Pggan expects two blocks per resolution, 2 to 18 in all; got "
                f"{len(channels)} channels."
            )
        for i, count in enumerate(channels):
            check_count("Pggan", "channels", count, 4096)
            check_features("Pggan", count, 4 * 2 ** (i // 2))
        self.settings: dict[str, Any] = {
            "channels": list(channels),
            "latent": latent,
            "pixel_bias": pixel_bias,
        }
        first = ScaledConv(latent, channels[0], 4, padding=3, bias_side=4 if pixel_bias else None)
        rest = [
            ScaledConv(before, after, 3, padding=1)
            for before, after in zip(channels, channels[1:], strict=False)
        ]
        self.blocks = nn.ModuleList([first, *rest])
        self.rgb = ScaledConv(channels[-1], 3, 1, gain=1.0)

    def forward(self, z: Latent) -> Image:
        """G(z), approximately in [-1, 1]."""
        x = z
        for index, conv in enumerate(self.blocks):
            enlarge = index > 0 and index % 2 == 0
            x = run_block(self.checkpointing, _block, x, conv, enlarge)
        image: Tensor = self.rgb(pixel_norm(x))
        return image


class ScaledConv(nn.Module):
    r"""$(W * x)\, s + b$, initialised with W ~ N(0, 1) and s = gain / √fan_in (section 4.1).

    b has shape `(outputs,)`, or `(outputs, bias_side, bias_side)`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        padding: int = 0,
        gain: float = math.sqrt(2),
        bias_side: int | None = None,
    ) -> None:
        super().__init__()
        spread = () if bias_side is None else (bias_side, bias_side)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale = nn.Parameter(torch.full((1,), gain / math.sqrt(inputs * kernel**2)))
        self.b = nn.Parameter(torch.zeros(outputs, *spread))
        self.padding = padding

    def forward(self, x: Tensor, enlarge: bool = False) -> Tensor:
        """Convolve x; with `enlarge`, x upsampled ×2 by nearest neighbour."""
        if enlarge:
            y = enlarge_and_convolve(x, self.weight)
        else:
            y = F.conv2d(x, self.weight, padding=self.padding)
        b = self.b if self.b.ndim == 3 else self.b[:, None, None]
        return y * self.scale + b


def _block(x: Tensor, conv: ScaledConv, enlarge: bool) -> Tensor:
    return F.leaky_relu_(conv(pixel_norm(x), enlarge), 0.2)


def pixel_norm(x: Tensor) -> Tensor:
    """x divided by its root mean square over the channels (section 4.2)."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)
