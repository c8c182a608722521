"""What the networks share: enlarging and convolving at once, and activation checkpointing."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_FOLD = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""F: which taps of a 3-tap filter meet in each tap of the transposed one, along one axis."""

_BOTH_AXES = [
    [_FOLD[a][p] * _FOLD[b][q] for a in range(4) for b in range(4)]
    for p in range(3)
    for q in range(3)
]
"""The matrix from nine taps to sixteen."""


def enlarge_and_convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""A padded 3×3 convolution of `x` enlarged ×2 by repeating pixels, in 4/9 of its operations.

    After the repetition the nine taps meet only four different pixels. Taps that meet the same
    pixel are added first, which leaves one transposed convolution of stride 2 with the 4×4 filter

    $$\tilde W = F W F^\top$$

    so that the enlarged features are never formed. Equal to the two steps up to rounding.

    **Shapes:** `x` is `(batch, inputs, h, w)`, `weight` `(outputs, inputs, 3, 3)`, `bias`
    `(outputs,)`; the result is `(batch, outputs, 2h, 2w)`.
    """
    outputs, inputs = weight.shape[:2]
    taps = weight.transpose(0, 1).reshape(inputs * outputs, 9)
    both_axes = torch.tensor(_BOTH_AXES, dtype=weight.dtype, device=weight.device)
    folded = (taps @ both_axes).view(inputs, outputs, 4, 4)
    return F.conv_transpose2d(x, folded, bias, stride=2, padding=1)


def run_block(
    checkpointing: bool, block: Callable[..., Tensor], x: Tensor, *others: object
) -> Tensor:
    """`block(x, *others)`; with `checkpointing` it keeps x alone, and is computed again in the
    backward pass: less memory for more time, the same result.
    """
    if not (checkpointing and torch.is_grad_enabled()):
        return block(x, *others)
    output: Tensor = checkpoint(block, x, *others, use_reentrant=False, preserve_rng_state=False)
    return output
