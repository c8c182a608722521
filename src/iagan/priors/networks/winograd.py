r"""Padded 3×3 convolutions on a CPU by Winograd's algorithm, in a quarter of the products.

A tile of 4×4 outputs is $A^\top [(G w G^\top) \odot (B^\top x B)] A$ of its 6×6 inputs, so that 36
products a tile and pair of channels do what takes 144 otherwise; and since $\odot$ is summed over
the channels, they are 36 products of matrices. Rounding is some ten times that of the direct way:
2e-6 of the result. Processors with AVX-512 are quicker directly: torch's convolutions use it to the
full, its products of matrices do not on all of them.

**Source:** Lavin and Gray, Fast algorithms for convolutional neural networks (CVPR 2016), F(4×4,
3×3).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from iagan.priors.switch import switched_on

TILE, WINDOW = 4, 6
"""Side of a tile of outputs, and of the inputs that it depends on."""
LEAST_SIDE, LEAST_CHANNELS, PIXELS_A_CHANNEL = 32, 64, 8
"""Below, what it takes to transform tiles and filters outweighs the products that it saves."""
TILES_AT_ONCE = 64
"""So few that they stay in the processor's cache."""
WIDE_VECTORS = torch.backends.cpu.get_cpu_capability() == "AVX512"
"""Whether the direct way is the quicker one whatever the size."""

_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
_QUICK = ContextVar("iagan_quick", default=False)


def _both_axes(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    rows = torch.tensor(matrix, dtype=torch.float32, device="cpu")
    return torch.kron(rows, rows)


INPUT, FILTER, OUTPUT = _both_axes(_INPUT), _both_axes(_FILTER), _both_axes(_OUTPUT)
"""$B^\\top$, $G$ and $A^\\top$ along both axes: (36, 36), (36, 9) and (16, 36)."""


def quick_convolutions() -> AbstractContextManager[None]:
    """Inside, `convolve` takes the algorithm where it pays, and knows first derivatives alone.

    Outside, all that torch can do with convolutions works: second derivatives, `torch.func`,
    compilation.
    """
    return switched_on(_QUICK)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 3×3 convolution with a border of zeros.

    **Shapes:** `x` is `(batch, inputs, h, w)`, `weight` `(outputs, inputs, 3, 3)`, `bias`
    `(outputs,)`; the result is `(batch, outputs, h, w)`.
    """
    if not (_may_be_quick(x) and _pays(x, weight)):
        return F.conv2d(x, weight, bias, padding=1)
    return _Convolution.apply(x, weight, weight.new_zeros(len(weight)) if bias is None else bias)


def _may_be_quick(x: Tensor) -> bool:
    """On one thread: several are busier in torch's convolution than in the small steps here."""
    return (
        _QUICK.get()
        and not WIDE_VECTORS
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.get_num_threads() == 1
    )


def _pays(x: Tensor, weight: Tensor) -> bool:
    return (
        min(x.shape[2:]) >= LEAST_SIDE
        and all(side % TILE == 0 for side in x.shape[2:])
        and min(weight.shape[:2]) >= LEAST_CHANNELS
        and math.prod(x.shape[2:]) >= PIXELS_A_CHANNEL * max(weight.shape[:2])
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolution(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        adjoint, none = weight.transpose(0, 1).flip(2, 3), weight.new_zeros(weight.shape[1])
        return (
            _convolution(gradient, adjoint, none) if of_x else None,
            _weight_gradient(x, gradient) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
        )


def _convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    outputs, inputs = weight.shape[:2]
    batch, _, height, width = x.shape
    taps = weight.permute(2, 3, 1, 0).reshape(9, inputs * outputs)
    filters = (FILTER @ taps).view(-1, inputs, outputs)
    result = torch.empty(  # no view of another tensor: what follows may change it in place
        (batch, outputs, height, width),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    windows = _Windows(x)
    columns, tiles = windows.columns, windows.rows * windows.columns
    products = x.new_empty(WINDOW**2, tiles, outputs)
    pixels = x.new_empty(TILE**2, tiles * outputs)
    for image, target in zip(x, result.permute(0, 2, 3, 1), strict=True):
        for top in range(0, height, TILE * windows.rows):
            torch.bmm(windows.transformed(image, top), filters, out=products)
            torch.mm(OUTPUT, products.view(WINDOW**2, -1), out=pixels)
            of_pixels = pixels.view(TILE, TILE, windows.rows, columns, outputs)
            torch.add(of_pixels, bias, out=_squares(target, top, windows.rows, TILE))
    return result


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    outputs, inputs = gradient.shape[1], x.shape[1]
    windows = _Windows(x)
    tiles = windows.rows * windows.columns
    pixels = x.new_empty(TILE**2, tiles * outputs)
    spread = x.new_empty(WINDOW**2, tiles * outputs)
    found = x.new_zeros(WINDOW**2, inputs, outputs)
    for image, target in zip(x, gradient.permute(0, 2, 3, 1).contiguous(), strict=True):
        for top in range(0, x.shape[2], TILE * windows.rows):
            _copy_squares(target, top, windows.rows, TILE, pixels)
            torch.mm(OUTPUT.T, pixels, out=spread)
            transformed = windows.transformed(image, top).transpose(1, 2)
            found.baddbmm_(transformed, spread.view(-1, tiles, outputs))
    taps = FILTER.T @ found.view(WINDOW**2, -1)
    return taps.view(3, 3, inputs, outputs).permute(3, 2, 0, 1).contiguous()


class _Windows:
    """The windows of some rows of tiles at a time, in memory that is used again and again."""

    def __init__(self, x: Tensor) -> None:
        _, inputs, height, width = x.shape
        self.rows, self.columns = _rows_at_once(height, width), width // TILE
        self.strip = x.new_zeros(TILE * self.rows + 2, width + 2, inputs)
        self.gathered = x.new_empty(WINDOW**2, self.rows * self.columns * inputs)
        self.result = x.new_empty(WINDOW**2, self.rows * self.columns, inputs)

    def transformed(self, image: Tensor, top: int) -> Tensor:
        r"""$B^\top x B$ of the tiles from pixel row `top` on: `(36, tiles, inputs)`."""
        pixels = image.permute(1, 2, 0)
        begin, end = max(top - 1, 0), min(top - 1 + len(self.strip), len(pixels))
        self.strip[0].zero_()
        self.strip[-1].zero_()
        self.strip[begin - top + 1 : end - top + 1, 1:-1] = pixels[begin:end]
        _copy_squares(self.strip, 0, self.rows, WINDOW, self.gathered)
        torch.mm(INPUT, self.gathered, out=self.result.view(WINDOW**2, -1))
        return self.result


def _rows_at_once(height: int, width: int) -> int:
    """Rows of tiles: a divisor of all of them, for about `TILES_AT_ONCE` tiles."""
    rows = height // TILE
    most = max(1, TILES_AT_ONCE * TILE // width)
    return next(count for count in range(min(most, rows), 0, -1) if rows % count == 0)


def _copy_squares(image: Tensor, top: int, rows: int, side: int, into: Tensor) -> None:
    """Into `(side², squares · channels)`."""
    squares = _squares(image, top, rows, side)
    into.view(squares.shape).copy_(squares)


def _squares(image: Tensor, top: int, rows: int, side: int) -> Tensor:
    """A view of the squares of `side` that begin every `TILE` pixels, from pixel row `top` on.

    **Shapes:** `(h, w, channels)` → `(side, side, rows, columns, channels)`.
    """
    down, right, _ = image.stride()
    columns = (image.shape[1] - side) // TILE + 1
    return image.as_strided(
        (side, side, rows, columns, image.shape[2]),
        (down, right, TILE * down, TILE * right, 1),
        image.storage_offset() + top * down,
    )
