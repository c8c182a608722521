"""Any linear measurement at all, as its matrix."""

from __future__ import annotations

import dataclasses as dc
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from iagan.errors import SettingError, ShapeError
from iagan.operators.base import LinearOperator
from iagan.operators.checks import as_tensor
from iagan.operators.encoding import MAX_SIDE
from iagan.operators.linalg import truncated_inverse, wide
from iagan.types import Measurement

SVD_ENTRIES = 2**22
"""Up to this m·n the SVD is computed (seconds at 2048 × 2048); above, A† is by iteration."""

SPEC_ENTRIES = 2**22
"""Up to this m·n, and with no side above `MAX_SIDE`, a spec holds the matrix (45 MB of text)."""


@dc.dataclass(frozen=True, eq=False)
class Matrix(LinearOperator):
    r"""A given real matrix: $y = A x$ with x the image's numbers, channel by channel, row by row.

    A† is by an SVD in double precision while m·n is at most `SVD_ENTRIES`; by iteration above (see
    `pinv`). `spec` writes the matrix while m·n is at most `SPEC_ENTRIES`.

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
                f"Matrix expects a matrix (m, n) with n = {self.n}, an image's numbers; got "
                f"{tuple(matrix.shape)}."
            )
        if matrix.is_complex():
            raise SettingError(
                "Matrix expects real numbers; got complex ones. Stack their real and imaginary "
                "parts as rows."
            )
        matrix = matrix.detach().cpu().double().clone().contiguous()
        if not bool(matrix.isfinite().all()) or not bool(matrix.any()):
            raise SettingError("Matrix expects finite numbers that are not all zero.")
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
        inverse, v = self._wide("_inverse", y), self._wide("_v", y)
        x = (self._analyse(y) * inverse) @ v.T
        return x.to(y.dtype).unflatten(1, self.image_shape)

    def solve_gram(self, y: Measurement) -> Measurement:
        if not self._decomposed:
            return super().solve_gram(y)
        coefficients = self._analyse(y) * self._wide("_inverse", y).square()
        return (coefficients @ self._wide("_u", y).T).to(y.dtype)

    def singular_values(self) -> Tensor | None:
        return self._svd[1].clone() if self._decomposed else None

    def spec(self) -> dict[str, Any]:
        """As of every operator, with the matrix in it.

        **Raises:** `SettingError` where the matrix is too large for that.
        """
        if self.matrix.numel() > SPEC_ENTRIES or max(self.matrix.shape) > MAX_SIDE:
            raise SettingError(
                f"Matrix.spec expects at most {SPEC_ENTRIES} entries and {MAX_SIDE} a side; got "
                f"{self.matrix.shape[0]} × {self.matrix.shape[1]}. Keep the matrix in a file of "
                "its own and make the operator again."
            )
        return super().spec()

    @property
    def _decomposed(self) -> bool:
        return self.matrix.numel() <= SVD_ENTRIES

    def _wide(self, name: str, y: Tensor) -> Tensor:
        return self._cast(name, y.device, wide(y.device))

    def _analyse(self, y: Tensor) -> Tensor:
        return y.to(wide(y.device)) @ self._wide("_u", y)

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
