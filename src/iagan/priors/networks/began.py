"""The generator of BEGAN (Berthelot, Schumm, Metz 2017, arXiv 1703.10717)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iagan.priors.networks.layers import enlarge_and_convolve, run_block
from iagan.priors.networks.settings import check_choice, check_count, check_features
from iagan.types import Image, Latent

_OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "linear": lambda x: x,
    "elu": F.elu,
}
_SIDE = 8
"""Side of the feature map that the latent becomes."""


class Began(nn.Module):
    r"""z → Linear → $n \times 8 \times 8$ → two 3×3 convolutions per resolution → RGB.

    ELU follows every convolution except the last, but not the linear layer; between resolutions the
    features are upsampled ×2 by nearest neighbour. All convolutions have $n$ channels.

    **Arguments:**
    - `channels`: n, 64 or 128 in the published networks.
    - `size`: side of the images: 32, 64, 128 or 256.
    - `latent`: length of z.
    - `output`: activation after the last convolution: `"tanh"`, `"linear"` (none), or `"elu"`, used
      only by carpedm20's PyTorch version.

    **Shapes:** `(batch, latent)` → `(batch, 3, size, size)`, nominally in [-1, 1].
    **Raises:** `SettingError` for a size or output that is not listed.
    """

    checkpointing = False
    """Whether the activations of each resolution are recomputed in the backward pass."""

    def __init__(
        self, channels: int = 64, size: int = 64, latent: int = 64, output: str = "tanh"
    ) -> None:
        super().__init__()
        check_count("Began", "channels", channels, 4096)
        check_count("Began", "latent", latent, 65536)
        check_choice("Began", "output", output, tuple(_OUTPUTS))
        check_choice("Began", "size", size, (32, 64, 128, 256))
        check_features("Began", channels, size)
        self.settings: dict[str, Any] = {
            "channels": channels,
            "size": size,
            "latent": latent,
            "output": output,
        }
        resolutions = (size // _SIDE).bit_length()
        self.linear = nn.Linear(latent, channels * _SIDE**2)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2 * resolutions)
        )
        self.rgb = nn.Conv2d(channels, 3, 3, padding=1)
        self._output = output

    def forward(self, z: Latent) -> Image:
        """G(z); only `output="tanh"` restricts it to [-1, 1]."""
        x = self.linear(z).unflatten(1, (-1, _SIDE, _SIDE))
        for index in range(0, len(self.convs), 2):
            first, second = self.convs[index : index + 2]
            x = run_block(self.checkpointing, _resolution, x, first, second, index > 0)
        return _OUTPUTS[self._output](self.rgb(x))


def _resolution(x: Tensor, first: nn.Conv2d, second: nn.Conv2d, enlarge: bool) -> Tensor:
    """Both layers of one resolution; with `enlarge`, x has half its side."""
    before = enlarge_and_convolve(x, first.weight, first.bias) if enlarge else first(x)
    return F.elu_(second(F.elu_(before)))
