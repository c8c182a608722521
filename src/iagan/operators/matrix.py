"""Linear measurements given by a matrix."""

from __future__ import annotations

import dataclasses as dc
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from iagan.errors import SettingError, ShapeError
from iagan.operators.base import LinearOperator
from iagan.operators.checks import LARGEST, SMALLEST, as_tensor, is_of_range
from iagan.operators.encoding import MAX_SIDE
from iagan.operators.linalg import to_double, truncated_inverse
from iagan.types import Measurement

SVD_ENTRIES = 2**22
"""Largest m·n for which the SVD is computed (seconds at 2048 × 2048); A† of a larger matrix is
computed by iteration."""

SPEC_ENTRIES = 2**22
"""Largest m·n of a matrix in a spec (45 MB of text); no side may exceed `MAX_SIDE`."""


@dc.dataclass(frozen=True, eq=False)
class Matrix(LinearOperator):
    r"""A given real matrix: $y = A x$ with x the pixels channel by channel, row by row.

    A† is computed by an SVD in double precision if m·n ≤ `SVD_ENTRIES`, else by iteration (see
    `pinv`). `spec` includes the matrix if m·n ≤ `SPEC_ENTRIES`.

    **Arguments:**
    - `matrix`: A, `(m, n)` with n = channels · height · width; a real tensor or NumPy array, kept
      as a float64 tensor.

    **Shapes:** `y` is `(batch, m)`.
    **Raises:** `ShapeError` for a matrix of another width; `SettingError` for one that is complex,
    not finite or all zero.
    """

    matrix: Tensor

    name: ClassVar[str] = "matrix"

    def __post_init__(self) -> None:
        super().__post_init__()
        matrix = as_tensor("Matrix", self.matrix)
        if matrix.ndim != 2 or matrix.shape[1] != self.n or not len(matrix):
            raise ShapeError(
                f"Matrix expects a matrix (m, n) with n = {self.n}, the image's size; got "
                f"{tuple(matrix.shape)}."
            )
        if matrix.is_complex():
            raise SettingError(
                "Matrix expects real numbers; got complex ones. Stack their real and imaginary "
                "parts as rows."
            )
        matrix = matrix.detach().cpu().double().clone().contiguous()
        if not is_of_range(*(float(end) for end in matrix.aminmax())):
            raise SettingError(
                "Matrix expects finite numbers that are not all zero, the largest from "
                f"{SMALLEST:g} to {LARGEST:g}."
            )
        object.__setattr__(self, "matrix", matrix)

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (len(self.matrix),)

    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self._cast("matrix", x.device, x.dtype).T

    def _adjoint(self, y: Tensor) -> Tensor:
        return (y @ self._cast("matrix", y.device, y.dtype)).unflatten(1, self.image_shape)

    def _pinv(self, y: Tensor) -> Tensor:
        if not self._decomposed:
            return super()._pinv(y)
        inverse, v = self._double("_inverse", y), self._double("_v", y)
        x = (self._analyse(y) * inverse) @ v.T
        return x.to(y.dtype).unflatten(1, self.image_shape)

    def solve_gram(self, y: Measurement) -> Measurement:
        if not self._decomposed:
            return super().solve_gram(y)
        coefficients = self._analyse(y) * self._double("_inverse", y).square()
        return (coefficients @ self._double("_u", y).T).to(y.dtype)

    def singular_values(self) -> Tensor | None:
        return self._svd[1].clone() if self._decomposed else None

    def spec(self) -> dict[str, Any]:
        """A JSON object from which `from_spec` recreates the operator, including the matrix.

        **Raises:** `SettingError` if the matrix is too large.
        """
        if self.matrix.numel() > SPEC_ENTRIES or max(self.matrix.shape) > MAX_SIDE:
            raise SettingError(
                f"Matrix.spec expects at most {SPEC_ENTRIES} entries and {MAX_SIDE} per side; got "
                f"{self.matrix.shape[0]} × {self.matrix.shape[1]}. Save the matrix to a separate "
                "file and recreate the operator from it."
            )
        return super().spec()

    @property
    def _derived_bytes(self) -> int:
        return 8 * self.matrix.numel()

    @property
    def _decomposed(self) -> bool:
        return self.matrix.numel() <= SVD_ENTRIES

    def _analyse(self, y: Tensor) -> Tensor:
        return to_double(y) @ self._double("_u", y)

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.linalg.svd(self.matrix, full_matrices=False)

    @property
    def _u(self) -> Tensor:
        return self._svd[0]

    @property
    def _v(self) -> Tensor:
        return self._svd[2].T

    @property
    def _inverse(self) -> Tensor:
        values = self._svd[1]
        return truncated_inverse(values, float(values[0]))
