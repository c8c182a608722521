"""Building blocks of the networks: fused upsampling and convolution, activation checkpointing."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_FOLD = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""F: the taps of a 3-tap filter that are summed in each tap of the transposed one, per axis."""

_BOTH_AXES = [
    [_FOLD[a][p] * _FOLD[b][q] for a in range(4) for b in range(4)]
    for p in range(3)
    for q in range(3)
]
"""Kronecker square of F: the matrix from the nine taps to the sixteen."""


def enlarge_and_convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Nearest-neighbour upsampling ×2, then a padded 3×3 convolution, in 4/9 of the operations.

    After upsampling, the nine taps cover only four different pixels. Adding the taps that cover the
    same pixel first leaves one transposed convolution of stride 2 with the 4×4 filter

    $$\tilde W = F W F^\top$$

    so the upsampled features are never formed. Equal to the two steps up to rounding.

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
    """`block(x, *others)`; with `checkpointing` only x is stored and the block is recomputed in the
    backward pass: less memory, more time, the same result.
    """
    if not (checkpointing and torch.is_grad_enabled()):
        return block(x, *others)
    output: Tensor = checkpoint(block, x, *others, use_reentrant=False, preserve_rng_state=False)
    return output
