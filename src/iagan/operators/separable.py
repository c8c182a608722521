"""Operators that treat rows and columns of an image apart, each by one small matrix."""

from __future__ import annotations

import abc
import dataclasses as dc
from functools import cached_property

import torch
from torch import Tensor

from iagan.operators.base import LinearOperator
from iagan.operators.linalg import truncated_inverse, wide
from iagan.types import Measurement


@dc.dataclass(frozen=True, eq=False)
class Separable(LinearOperator):
    r"""$A X = R_h X R_w^\top$ for each channel X of the image, so $A = R_h \otimes R_w$.

    Two small SVDs, $R = U S V^\top$, give everything else: the singular values are all products
    $s_i t_j$, and

    $$A^\dagger Y = V_h \bigl[(U_h^\top Y U_w) \oslash (s\, t^\top)\bigr] V_w^\top.$$

    Products of at most `RCOND` times the largest are left out, so a vanishing product is not
    inverted though both of its factors are large enough. Neither A nor A† is ever stored.

    **Shapes:** `x` is `(batch, channels, h, w)`, `y` is `(batch, channels, h', w')`.
    """

    @property
    @abc.abstractmethod
    def rows(self) -> Tensor:
        """$R_h$, `(h', h)`, float64 on the CPU."""

    @property
    @abc.abstractmethod
    def columns(self) -> Tensor:
        """$R_w$, `(w', w)`, float64 on the CPU."""

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.image_shape[0], self.rows.shape[0], self.columns.shape[0])

    def _forward(self, x: Tensor) -> Tensor:
        rows, columns = (self._cast(name, x.device, x.dtype) for name in ("rows", "columns"))
        return rows @ (x @ columns.T)

    def _adjoint(self, y: Tensor) -> Tensor:
        rows, columns = (self._cast(name, y.device, y.dtype) for name in ("rows", "columns"))
        return rows.T @ (y @ columns)

    def _pinv(self, y: Tensor) -> Tensor:
        coefficients = self._analyse(y) * self._wide("_inverse", y)
        return (self._wide("_v_h", y) @ coefficients @ self._wide("_v_w", y).T).to(y.dtype)

    def solve_gram(self, y: Measurement) -> Measurement:
        coefficients = self._analyse(y) * self._wide("_inverse", y).square()
        return (self._wide("_u_h", y) @ coefficients @ self._wide("_u_w", y).T).to(y.dtype)

    def singular_values(self) -> Tensor:
        return self._values.clone()

    # The inverse of a blur multiplies rounding by up to 1/RCOND: it works in double precision.

    def _wide(self, name: str, y: Tensor) -> Tensor:
        return self._cast(name, y.device, wide(y.device))

    def _analyse(self, y: Tensor) -> Tensor:
        return self._wide("_u_h", y).T @ y.to(wide(y.device)) @ self._wide("_u_w", y)

    @cached_property
    def _svd_h(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.linalg.svd(self.rows, full_matrices=False)

    @cached_property
    def _svd_w(self) -> tuple[Tensor, Tensor, Tensor]:
        if torch.equal(self.rows, self.columns):
            return self._svd_h
        return torch.linalg.svd(self.columns, full_matrices=False)

    @property
    def _u_h(self) -> Tensor:
        return self._svd_h[0]

    @property
    def _u_w(self) -> Tensor:
        return self._svd_w[0]

    @property
    def _v_h(self) -> Tensor:
        return self._svd_h[2].T

    @property
    def _v_w(self) -> Tensor:
        return self._svd_w[2].T

    @property
    def _products(self) -> Tensor:
        return torch.outer(self._svd_h[1], self._svd_w[1])

    @property
    def _inverse(self) -> Tensor:
        return truncated_inverse(self._products, float(self._products[0, 0]))

    @cached_property
    def _values(self) -> Tensor:
        values = self._products.flatten().sort(descending=True).values
        return values.repeat_interleave(self.image_shape[0])


def mirrored(index: Tensor, side: int) -> Tensor:
    """Indices beyond the border, reflected with the edge pixel repeated: … 1 0 | 0 1 2 …"""
    folded = index % (2 * side)
    return torch.minimum(folded, 2 * side - 1 - folded)


def filter_matrix(index: Tensor, weights: Tensor, side: int) -> Tensor:
    """Rows that sum `weights` at the pixels `index`, both `(rows, taps)`: `(rows, side)`."""
    zeros = torch.zeros(index.shape[0], side, dtype=torch.float64, device="cpu")
    return zeros.scatter_add(1, index, weights.double())
