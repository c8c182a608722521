"""Validation of the operators' options; every error is one line."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iagan.errors import SettingError, ShapeError

SMALLEST, LARGEST = 1e-12, 1e12
"""Range of an operator's largest entry: beyond it, squares leave single precision's range."""


def is_of_range(*values: float) -> bool:
    """Whether all values are finite and the largest magnitude is in [`SMALLEST`, `LARGEST`]."""
    largest = max(map(abs, values), default=0)
    return SMALLEST <= largest <= LARGEST and all(math.isfinite(value) for value in values)


def as_int(who: str, name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an integer in [low, high]; floats and booleans are rejected."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise SettingError(f"{who} expects {name} as an integer {span}; got {value!r}.")
    return number


def as_tensor(who: str, value: Any) -> Tensor:
    """A tensor as it is; a NumPy array copied to a CPU tensor of the same dtype."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        native = np.array(value, dtype=value.dtype.newbyteorder("="))
        try:
            return torch.from_numpy(native)
        except TypeError:
            pass  # long double, which PyTorch does not have
    got = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise SettingError(f"{who} expects a tensor or a NumPy array of numbers; got {got}.")


def image_shape_for(who: str, shape: Any) -> tuple[int, int, int]:
    """`shape` as `(channels, height, width)`."""
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise SettingError(
            f"{who} expects image_shape as three positive integers (channels, height, width); "
            f"got {shape!r}."
        )
    channels, height, width = (as_int(who, "each side of image_shape", side, 1) for side in shape)
    return (channels, height, width)


def count_at(who: str, ratio: float, total: int, what: str) -> int:
    """round(ratio · total), for a ratio in (0, 1] that keeps at least one item."""
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        raise SettingError(f"{who} expects a ratio in (0, 1]; got {ratio!r}.")
    count = round(ratio * total)
    if count < 1:
        raise SettingError(
            f"{who} expects a ratio that keeps one of the {total} {what} or more; "
            f"got {ratio!r}. Use a larger ratio."
        )
    return count


def mask_for(who: str, mask: Any, image_shape: tuple[int, int, int]) -> Tensor:
    """A boolean CPU copy of a nonempty mask `(height, width)`, array or tensor."""
    mask = as_tensor(who, mask) if isinstance(mask, np.ndarray) else mask
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise SettingError(
            f"{who} expects its mask as a torch.bool tensor; got {got}. Threshold it: mask > 0."
        )
    if mask.shape != image_shape[1:]:
        raise ShapeError(
            f"{who} expects a mask of the image's (height, width) = {image_shape[1:]}; "
            f"got {tuple(mask.shape)}. Make a mask of this size."
        )
    if not bool(mask.any()):
        raise SettingError(
            f"{who} expects a mask with at least one measured pixel; got one that is all False."
        )
    return mask.detach().cpu().clone().contiguous()


def taps_for(who: str, name: str, taps: Any, side: int) -> tuple[float, ...]:
    """A kernel of one axis as finite floats `is_of_range`, no longer than the image's `side`."""
    values = taps.tolist() if hasattr(taps, "tolist") else taps
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise SettingError(f"{who} expects {name} as a list of numbers; got {type(taps).__name__}.")
    listed = tuple(values)
    good = all(isinstance(t, int | float) and not isinstance(t, bool) for t in listed)
    if not good or not is_of_range(*listed):
        raise SettingError(
            f"{who} expects {name} as finite numbers that are not all zero, the largest from "
            f"{SMALLEST:g} to {LARGEST:g}; got {listed!r:.80}."
        )
    if len(listed) > side:
        raise SettingError(
            f"{who} expects {name} no longer than the image's {side} pixels; got {len(listed)}. "
            "Use a smaller kernel or a larger image."
        )
    return tuple(float(t) for t in listed)


def check_returned(function: Callable[..., object], shape: tuple[int, ...], value: Any) -> Tensor:
    """The value returned by a subclass's method, checked to be a tensor of `shape`.

    **Raises:** `ShapeError` if not.
    """
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ShapeError(
            f"{function.__qualname__} is expected to return a tensor of shape {shape}; got {got}. "
            "Correct it."
        )
    return value
