"""Read NVIDIA's pickled networks without running anything that the pickle names.

A pickle is a program; `find_class` decides what it may call. Here it may call nothing of numpy or
TensorFlow, only inert stand-ins defined in this file, which record their arguments.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from iagan.errors import CheckpointError, shown
from iagan.priors.weights.pickles import Readable


class Network:
    """Stand-in for `tfutil.Network` that only stores the pickled state."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class PickledDtype:
    """Stand-in for `numpy.dtype`."""

    def __init__(self, code: object, *flags: object) -> None:
        self.code = code
        self.order: object = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def resolve(self) -> np.dtype:
        """The dtype.

        **Raises:** `ValueError` if it is not one of plain numbers.
        """
        if not (isinstance(self.code, str) and re.fullmatch("f[248]|[iu][1248]|b1", self.code)):
            raise ValueError("an array whose type is not one of plain numbers")
        if self.order not in ("<", ">", "|", "="):
            raise ValueError("an array with an unknown byte order")
        return np.dtype(f"{self.order}{self.code}")


class PickledArray:
    """Stand-in for `numpy.ndarray` that stores shape, type and bytes."""

    shape: object = None
    dtype: object = None
    fortran: object = False
    data: object = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    @property
    def bytes(self) -> int:
        """Size of its data in bytes; 0 if there are none."""
        return len(self.data) if isinstance(self.data, (str, bytes, bytearray)) else 0

    def resolve(self) -> np.ndarray:
        """A copy as a NumPy array in native byte order.

        **Raises:** `ValueError` if shape, type and bytes disagree.
        """
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        if not isinstance(self.dtype, PickledDtype) or not isinstance(data, (bytes, bytearray)):
            raise ValueError("an array without plain bytes")
        if not isinstance(self.shape, tuple) or not all(isinstance(n, int) for n in self.shape):
            raise ValueError("an array whose shape is not a tuple of integers")
        dtype = self.dtype.resolve()
        if len(data) != math.prod(self.shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {self.shape} in {len(data)} bytes")
        flat = np.frombuffer(bytes(data), dtype).astype(dtype.newbyteorder("="))
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


def _empty(kind: object, shape: object, code: object) -> PickledArray:
    return PickledArray()


def _scalar(dtype: object, data: object) -> PickledArray:
    return _from_buffer(data, dtype, (), "C")


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> PickledArray:
    array = PickledArray()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _encode(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("text in an encoding other than latin1")
    return text.encode("latin1")


_ADMITTED: dict[str, Callable[..., object]] = {
    "numpy.ndarray": PickledArray,
    "numpy.dtype": PickledDtype,
    "_codecs.encode": _encode,
    "collections.OrderedDict": dict,
    "tfutil.Network": Network,
}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray._reconstruct"] = _empty
    _ADMITTED[f"{_core}.multiarray.scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric._frombuffer"] = _from_buffer


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[f"{module}.{name}"]
        except KeyError:
            named = shown(f"{module}.{name}", 80)
            raise CheckpointError(
                f"it would run {named}, which is not needed to store weights"
            ) from None


def read_pickle(stream: Readable) -> object:
    """The pickled value, made of plain containers and the stand-ins of this file.

    Call `pickles.check_pickle` first, which refuses pickles that would hang or exhaust the memory.

    **Raises:** `CheckpointError` with the name of a class or function that is not allowed; any
    exception of `pickle` for a damaged file.
    """
    return _Restricted(stream, encoding="latin1").load()
