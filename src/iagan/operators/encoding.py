"""Conversion of an operator's fields to JSON and back; the JSON to decode is untrusted."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iagan.errors import SettingError
from iagan.limits import Limits

MAX_SIDE = 8192
"""Longest side of a tensor or image allowed in a spec, in pixels."""


def encode(value: Any) -> Any:
    """Encode numbers and strings unchanged, tuples as lists, operators as specs, tensors as base64.

    A tensor becomes its shape and its data: packed bits (big-endian within a byte) if boolean,
    little-endian float64 if real.

    **Raises:** `SettingError` for anything else.
    """
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if hasattr(value, "spec"):
        return value.spec()
    if value is None or isinstance(value, str | int | float):
        return value
    if not isinstance(value, Tensor):
        raise SettingError(
            "An operator's spec expects numbers, texts, tuples, tensors and operators in its "
            f"fields; got others, of type {type(value).__name__}."
        )
    array = value.detach().cpu().numpy()
    bits = value.dtype == torch.bool
    raw = np.packbits(array).tobytes() if bits else array.astype("<f8").tobytes()
    text = base64.b64encode(raw).decode("ascii")
    return {"shape": list(array.shape), "bits" if bits else "float64": text}


def decode(value: Any, operator_of: Callable[[dict[str, Any]], Any], limits: Limits) -> Any:
    """The inverse of `encode`; `operator_of` converts the specs of operators.

    **Raises:** `SettingError` if a tensor's shape, dtype or amount of data is wrong, or exceeds
    `limits`.
    """
    if isinstance(value, list):
        return tuple(decode(item, operator_of, limits) for item in value)
    if not isinstance(value, dict):
        return value
    return operator_of(value) if "operator" in value else _tensor(value, limits)


def _tensor(entry: dict[str, Any], limits: Limits) -> Tensor:
    shape: Any = entry.get("shape")
    bits, floats = entry.get("bits"), entry.get("float64")
    if not _is_shape(shape) or len(entry) != 2 or not isinstance(bits or floats, str):
        raise SettingError(
            "A tensor in an operator's spec expects two sides of at most "
            f"{MAX_SIDE} as 'shape' and base64 text as 'bits' or 'float64'."
        )
    count = math.prod(shape)
    size, most = (count, limits.pixels) if bits else (8 * count, limits.array_bytes)
    if size > most:
        raise SettingError(
            f"A tensor of shape {tuple(shape)} in an operator's spec is above the limit of {most} "
            f"{'pixels' if bits else 'bytes'}."
        )
    raw = np.frombuffer(base64.b64decode(bits or floats or "", validate=True), dtype=np.uint8)
    expected = math.ceil(count / 8) if bits else 8 * count
    if raw.size != expected:
        raise SettingError(
            f"A tensor of shape {tuple(shape)} in an operator's spec expects {expected} bytes of "
            f"data; got {raw.size}."
        )
    array = np.unpackbits(raw, count=count).view(bool) if bits else raw.view("<f8").astype("f8")
    return torch.from_numpy(array.reshape(shape))


def _is_shape(shape: Any) -> bool:
    sides = shape if isinstance(shape, list) and len(shape) == 2 else [0]
    return all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides)
