"""Separable operators: one small matrix for the height of an image, one for its width."""

from __future__ import annotations

import abc
import dataclasses as dc
from functools import cached_property

import torch
from torch import Tensor

from iagan.operators.base import LinearOperator
from iagan.operators.linalg import to_double, truncated_inverse
from iagan.types import Measurement


@dc.dataclass(frozen=True, eq=False)
class Separable(LinearOperator):
    r"""$A X = R_h X R_w^\top$ for each channel X of the image, so $A = R_h \otimes R_w$.

    Two small SVDs, $R = U S V^\top$, determine everything else: the singular values are all
    products $s_i t_j$, and

    $$A^\dagger Y = V_h \bigl[(U_h^\top Y U_w) \oslash (s\, t^\top)\bigr] V_w^\top.$$

    Products of at most `RCOND` times the largest count as zero, even where both factors are larger.
    Neither A nor A† is ever stored.

    **Shapes:** `x` is `(batch, channels, h, w)`, `y` is `(batch, channels, h', w')`.
    """

    @property
    @abc.abstractmethod
    def filter_h(self) -> Tensor:
        """$R_h$, `(h', h)`, float64 on the CPU."""

    @property
    @abc.abstractmethod
    def filter_w(self) -> Tensor:
        """$R_w$, `(w', w)`, float64 on the CPU."""

    @property
    def _derived_bytes(self) -> int:
        return 8 * sum(side**2 for side in self.image_shape[1:])

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.image_shape[0], self.filter_h.shape[0], self.filter_w.shape[0])

    def _forward(self, x: Tensor) -> Tensor:
        r_h, r_w = (self._cast(f"filter_{side}", x.device, x.dtype) for side in "hw")
        return r_h @ (x @ r_w.T)

    def _adjoint(self, y: Tensor) -> Tensor:
        r_h, r_w = (self._cast(f"filter_{side}", y.device, y.dtype) for side in "hw")
        return r_h.T @ (y @ r_w)

    def _pinv(self, y: Tensor) -> Tensor:
        coefficients = self._analyse(y) * self._double("_inverse", y)
        return (self._double("_v_h", y) @ coefficients @ self._double("_v_w", y).T).to(y.dtype)

    def solve_gram(self, y: Measurement) -> Measurement:
        coefficients = self._analyse(y) * self._double("_inverse", y).square()
        return (self._double("_u_h", y) @ coefficients @ self._double("_u_w", y).T).to(y.dtype)

    def singular_values(self) -> Tensor:
        return self._values.clone()

    def _analyse(self, y: Tensor) -> Tensor:
        """In double precision: the inverse of a blur amplifies rounding errors by up to 1/RCOND."""
        return self._double("_u_h", y).T @ to_double(y) @ self._double("_u_w", y)

    @cached_property
    def _svd_h(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.linalg.svd(self.filter_h, full_matrices=False)

    @cached_property
    def _svd_w(self) -> tuple[Tensor, Tensor, Tensor]:
        if torch.equal(self.filter_h, self.filter_w):
            return self._svd_h
        return torch.linalg.svd(self.filter_w, full_matrices=False)

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
    """Reflect indices beyond the border, repeating the edge pixel: … 1 0 | 0 1 2 …"""
    folded = index % (2 * side)
    return torch.minimum(folded, 2 * side - 1 - folded)


def filter_matrix(index: Tensor, weights: Tensor, side: int) -> Tensor:
    """The matrix whose row i has `weights[i]` at the columns `index[i]`: `(new_side, side)`.

    **Shapes:** `index` and `weights` are `(new_side, taps)`.
    """
    zeros = torch.zeros(index.shape[0], side, dtype=torch.float64, device="cpu")
    return zeros.scatter_add(1, index, weights.double())
