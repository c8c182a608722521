"""A decoder with fewer channels at higher resolutions, and the matching encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from iagan.errors import SettingError
from iagan.priors.networks.layers import enlarge_and_convolve, run_block
from iagan.priors.networks.settings import check_count, check_features
from iagan.types import Image, Latent

SIDE = 4
"""Side of the decoder's first and the encoder's last feature map."""
CHANNELS = (192, 192, 160, 128, 64, 32)
"""Channels of the decoder at 4×4, 8×8, …, 128×128."""
ENCODER_CHANNELS = (32, 64, 128, 160, 128)
"""Channels of the encoder at 64×64, 32×32, …, 4×4."""
RESIDUAL_BELOW = 16
"""Side of the largest feature map to which the encoder applies a residual convolution."""
SLOPE = 0.2
"""Negative slope of the leaky ReLU."""


class Tapered(nn.Module):
    r"""z → Linear → 4×4 → a 3×3 convolution and a residual one per resolution → RGB.

    Between resolutions the features are upsampled ×2 by nearest neighbour; leaky ReLU (0.2) follows
    the linear layer, each first convolution and each residual sum. Since half of the operations
    would otherwise be spent at the highest resolution, the number of channels decreases towards it:
    with the defaults 2.5 million weights and 2.9 GFLOP per image of 128×128, unfused.

    **Arguments:**
    - `channels`: channels of each of k resolutions, 4×4 first; the side is $4 \cdot 2^{k-1}$.
    - `latent`: length of z.
    - `colours`: channels of the image: 3, or 1 for grey.

    **Shapes:** `(batch, latent)` → `(batch, colours, side, side)`, nominally in [-1, 1].
    **Raises:** `SettingError` for settings out of range.
    """

    checkpointing = False
    """Whether the activations of each resolution are recomputed in the backward pass."""

    def __init__(
        self, channels: Sequence[int] = CHANNELS, latent: int = 256, colours: int = 3
    ) -> None:
        super().__init__()
        _check_channels("Tapered", channels)
        check_count("Tapered", "latent", latent, 65536)
        check_count("Tapered", "colours", colours, 4096)
        for i, width in enumerate((*channels[:-1], max(channels[-1], colours))):
            check_features("Tapered", width, SIDE * 2**i)
        self.settings: dict[str, Any] = {
            "channels": list(channels),
            "latent": latent,
            "colours": colours,
        }
        seed = (channels[0] + 1) // 2  # input channels of the first convolution
        self.linear = nn.Linear(latent, seed * SIDE**2)
        before = (seed, *channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(before[i], width, 3, padding=1) for i, width in enumerate(channels)
        )
        self.residuals = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in channels)
        self.rgb = nn.Conv2d(channels[-1], colours, 3, padding=1)

    def forward(self, z: Latent) -> Image:
        """G(z), not restricted to [-1, 1]."""
        x = F.leaky_relu(self.linear(z).unflatten(1, (-1, SIDE, SIDE)), SLOPE)
        for index, (first, second) in enumerate(zip(self.convs, self.residuals, strict=True)):
            x = run_block(self.checkpointing, _resolution, x, first, second, index > 0)
        image: Tensor = self.rgb(x)
        return image


def _resolution(x: Tensor, first: nn.Conv2d, second: nn.Conv2d, enlarge: bool) -> Tensor:
    """Both layers of one resolution; with `enlarge`, x has half its side."""
    before = enlarge_and_convolve(x, first.weight, first.bias) if enlarge else first(x)
    x = F.leaky_relu(before, SLOPE)
    return F.leaky_relu(x + second(x), SLOPE)


class TaperedEncoder(nn.Module):
    r"""Image → 3×3 convolutions of stride 2 down to 4×4 → Linear → latent.

    A residual convolution follows those with outputs of 16×16 and 8×8. It provides an initial z for
    CSGM; in a variational autoencoder it outputs mean and log-variance, twice the latent's length.

    **Arguments:**
    - `channels`: channels of each resolution, half of the image's side first, 4×4 last.
    - `outputs`: number of outputs per image.
    - `colours`: channels of the image.

    **Shapes:** `(batch, colours, side, side)`, in [-1, 1] → `(batch, outputs)`.
    **Raises:** `SettingError` for settings out of range.
    """

    def __init__(
        self, channels: Sequence[int] = ENCODER_CHANNELS, outputs: int = 256, colours: int = 3
    ) -> None:
        super().__init__()
        _check_channels("TaperedEncoder", channels)
        check_count("TaperedEncoder", "outputs", outputs, 2 * 65536)
        check_count("TaperedEncoder", "colours", colours, 4096)
        for i, width in enumerate((colours, *channels)):
            check_features("TaperedEncoder", width, SIDE * 2 ** (len(channels) - i))
        self.settings: dict[str, Any] = {
            "channels": list(channels),
            "outputs": outputs,
            "colours": colours,
        }
        before = (colours, *channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(before[i], width, 3, stride=2, padding=1) for i, width in enumerate(channels)
        )
        sides = [SIDE * 2 ** (len(channels) - 1 - i) for i in range(len(channels))]
        self.residuals = nn.ModuleDict(
            {
                str(i): nn.Conv2d(width, width, 3, padding=1)
                for i, width in enumerate(channels)
                if SIDE < sides[i] <= RESIDUAL_BELOW
            }
        )
        self.linear = nn.Linear(channels[-1] * SIDE**2, outputs)

    def forward(self, x: Image) -> Tensor:
        """Encode images: `(batch, colours, side, side)` → `(batch, outputs)`."""
        for index, conv in enumerate(self.convs):
            x = F.leaky_relu(conv(x), SLOPE)
            if str(index) in self.residuals:
                x = F.leaky_relu(x + self.residuals[str(index)](x), SLOPE)
        code: Tensor = self.linear(x.flatten(1))
        return code


def side_of(channels: Sequence[int]) -> int:
    """Side of the images generated by a `Tapered` with these channels."""
    return SIDE * 2 ** (len(channels) - 1)


def _check_channels(who: str, channels: object) -> None:
    if not isinstance(channels, list | tuple) or not 1 <= len(channels) <= 9:
        raise SettingError(
            f"{who} expects channels as one to nine integers, one per resolution; got "
            f"{channels!r:.80}."
        )
    for width in channels:
        check_count(who, "every entry of channels", width, 4096)
