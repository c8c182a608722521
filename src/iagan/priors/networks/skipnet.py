"""The network of the deep image prior (Ulyanov, Vedaldi, Lempitsky 2018, arXiv 1711.10925)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from iagan.errors import ShapeError
from iagan.priors.networks.settings import check_choice, check_count
from iagan.types import Image


class SkipNet(nn.Module):
    r"""An hourglass with narrow skip connections; the authors' default for their main tasks.

    Down, at each scale: 3×3 convolution of stride 2, then 3×3. Up: upsample ×2, concatenate with
    the skip branch (1×1 convolution of the scale's input), normalise, 3×3, then 1×1. Each
    convolution is followed by normalisation and leaky ReLU 0.2; padding is by reflection; the end
    is 1×1 and a sigmoid. If sides are odd, concatenated maps are cropped about their centres to the
    smaller one.

    The authors use batch normalisation with batches of one image. Instance normalisation without
    running statistics is the same function, and keeps the images of a batch independent.

    **Arguments:**
    - `inputs`, `outputs`: channels of the fixed random input and of the image.
    - `channels`, `skip_channels`, `scales`: 128, 4, 5 in the authors' code.
    - `upsample`: `"bilinear"` or `"nearest"`.

    **Shapes:** `(batch, inputs, h, w)` → `(batch, outputs, h, w)` in [0, 1]; h, w > 2^scales.
    **Raises:** `ShapeError` for smaller sides.
    """

    def __init__(
        self,
        inputs: int = 32,
        outputs: int = 3,
        channels: int = 128,
        skip_channels: int = 4,
        scales: int = 5,
        upsample: str = "bilinear",
    ) -> None:
        super().__init__()
        for name, count in (("inputs", inputs), ("outputs", outputs), ("channels", channels)):
            check_count("SkipNet", name, count, 4096)
        check_count("SkipNet", "skip_channels", skip_channels, 4096)
        check_count("SkipNet", "scales", scales, 10)
        check_choice("SkipNet", "upsample", upsample, ("bilinear", "nearest"))
        widths = [inputs] + [channels] * (scales - 1)
        self.down = nn.ModuleList(
            nn.Sequential(_layer(width, channels, 3, stride=2), _layer(channels, channels, 3))
            for width in widths
        )
        self.skip = nn.ModuleList(_layer(width, skip_channels, 1) for width in widths)
        self.up = nn.ModuleList(
            nn.Sequential(
                _Norm(skip_channels + channels, affine=True, dtype=torch.float32),
                _layer(skip_channels + channels, channels, 3),
                _layer(channels, channels, 1),
            )
            for _ in widths
        )
        self.rgb = nn.Conv2d(channels, outputs, 1, dtype=torch.float32)
        self._upsample = upsample

    def forward(self, u: Float[Tensor, "batch inputs height width"]) -> Image:
        """The image in [0, 1] generated from the fixed input u."""
        if min(u.shape[-2:]) <= 2 ** len(self.down):
            raise ShapeError(
                f"SkipNet with {len(self.down)} scales expects sides above {2 ** len(self.down)}; "
                f"got {tuple(u.shape[-2:])}. Enlarge the image or use fewer scales."
            )
        x, branches = u, []
        for down, skip in zip(self.down, self.skip, strict=True):
            branches.append(skip(x))
            x = down(x)
        for up, branch in zip(reversed(self.up), reversed(branches), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode=self._upsample)
            x = up(torch.cat(_same_size((branch, x)), 1))
        return torch.sigmoid(self.rgb(x))


class _Norm(nn.InstanceNorm2d):
    """Instance normalisation, as batch normalisation of single images.

    It makes no copies; torch 2.15's own computes wrong gradients of its weights if the incoming
    gradient is channels-last.
    """

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            return torch.cat([self(one[None]) for one in x])
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride,
        padding=kernel // 2,
        padding_mode="reflect",
        dtype=torch.float32,
    )
    norm = _Norm(outputs, affine=True, dtype=torch.float32)
    return nn.Sequential(conv, norm, nn.LeakyReLU(0.2))


def _same_size(maps: Sequence[Tensor]) -> list[Tensor]:
    """Crop the maps about their centres to the smallest height and width among them."""
    height, width = (min(x.shape[axis] for x in maps) for axis in (-2, -1))
    cropped = []
    for x in maps:
        top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
        cropped.append(x[..., top : top + height, left : left + width])
    return cropped
