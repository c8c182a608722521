"""Compressed sensing with a dense Gaussian matrix."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from iagan.errors import SettingError
from iagan.operators.base import LinearOperator
from iagan.operators.checks import as_int, count_at, image_shape_for
from iagan.operators.linalg import conjugate_gradient, to_double, widest_real_dtype
from iagan.types import Measurement

MAX_ENTRIES = 2**32
"""Largest m·n allowed: 16 GiB of float32. The paper's largest (Figure 2, m/n = 0.61) is 1.5e9."""

DOUBLE_ENTRIES = 2**26
"""Largest m·n with a double-precision copy for double-precision inputs (512 MiB)."""

CHOLESKY_SIZE = 4096
"""Largest m for which A Aᵀ is factorised; above, conjugate gradients are faster than forming it."""

STEEP_RATIO, STEEP_SIZE = 0.8, 2**13 + 2**12
"""m/n above which conjugate gradients would take hundreds of steps, and the largest m for which
they are then preconditioned by a single-precision factor of A Aᵀ (no larger than A; half a minute
to compute on two cores)."""

RIDGE = 1e-5
"""Added to the diagonal of A Aᵀ, about 1, to keep it positive definite under rounding."""

ENTRIES_AT_ONCE = 2**19
"""Entries of A per block of a thread: 2 MiB in single precision, to fit into a CPU's cache."""

SVD_ENTRIES = 2**22
"""Largest m·n for which the singular values are computed."""


class _Misfit(torch.autograd.Function):
    r"""$\|A x - y\|^2$ and its gradient in one pass over A, by blocks of rows that stay in the
    cache.

    A is split into one part per thread.

    **Shapes:** `(batch, n)`, `(batch, m)` and `(m, n)` → `(batch,)`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, matrix: Tensor) -> Tensor:
        misfit, gradient = x.new_zeros(len(x)), torch.zeros_like(x)
        for part, of_y in _parts(matrix, y):
            each = x.expand(len(part), *x.shape)
            slopes = torch.zeros_like(each, memory_format=torch.contiguous_format)
            rows = max(1, ENTRIES_AT_ONCE // matrix.shape[1])
            for block, measured in zip(part.split(rows, 1), of_y.split(rows, 2), strict=True):
                gap = torch.bmm(each, block.transpose(1, 2)) - measured
                misfit += gap.square().sum((0, 2))
                if ctx.needs_input_grad[0]:
                    slopes.baddbmm_(gap, block, alpha=2)
            gradient += slopes.sum(0)
        ctx.save_for_backward(gradient)
        return misfit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return outer[:, None] * gradient, None, None


def _parts(matrix: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Equal parts of A and y, one per thread, then the remaining rows.

    **Shapes:** `(m, n)` and `(batch, m)` → `(parts, rows, n)` and `(parts, batch, rows)`.
    """
    count = torch.get_num_threads()
    even = len(matrix) // count * count
    for rows, parts in ((slice(even), count), (slice(even, None), 1)):
        block, measured = matrix[rows], y[:, rows]
        if len(block):
            yield block.unflatten(0, (parts, -1)), measured.unflatten(1, (parts, -1)).movedim(1, 0)


@dc.dataclass(frozen=True, eq=False)
class Gaussian(LinearOperator):
    r"""$A_{ij} \sim N(0, 1/m)$, one dense matrix over all channels, never stored in a file.

    Row i is drawn by the counter-based Philox generator keyed by (seed, i), so it does not depend
    on m, except for the factor $1/\sqrt m$. The matrix is stored in single precision.
    Double-precision inputs are multiplied in double precision if m·n is at most `DOUBLE_ENTRIES`,
    else in single precision.

    A Aᵀ is solved by Cholesky, in double precision, for m up to `CHOLESKY_SIZE`; otherwise by
    conjugate gradients to a relative residual of 1e-7 in single precision (about 40 steps at m/n =
    0.61), preconditioned for m/n above `STEEP_RATIO` and m up to `STEEP_SIZE` (larger matrices that
    are nearly square do not converge).

    **Arguments:**
    - `m`: number of measurements, at most n.
    - `seed`: seed of the rows.

    **Shapes:** `y` is `(batch, m)`.
    **Raises:** `SettingError` if m > n, or m·n is more than `MAX_ENTRIES`.
    **Reference:** arXiv 1906.05284, Figure 2.
    """

    m: int = dc.field()  # without a default, although the base has an attribute `m`
    seed: int

    name: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "m", as_int("Gaussian", "m", self.m, 1))
        object.__setattr__(self, "seed", as_int("Gaussian", "seed", self.seed, 0, 2**63 - 1))
        if self.m > self.n:
            raise SettingError(
                f"Gaussian expects m of at most n = {self.n}, the image's size; got {self.m}."
            )
        if self.m * self.n > MAX_ENTRIES:
            raise SettingError(
                f"Gaussian expects at most {MAX_ENTRIES} entries in its matrix; got {self.m} × "
                f"{self.n}. Use fewer measurements or smaller images."
            )

    @classmethod
    def from_ratio(cls, image_shape: tuple[int, int, int], ratio: float, seed: int) -> Gaussian:
        """m = round(ratio · n), for a ratio m/n in (0, 1]."""
        n = math.prod(image_shape_for("Gaussian", image_shape))
        return cls(image_shape, count_at("Gaussian", ratio, n, "measurements"), seed)

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.m,)

    @property
    def _derived_bytes(self) -> int:
        return 4 * self.m * self.n

    @cached_property
    def matrix(self) -> Tensor:
        """A, `(m, n)`, float32 on the CPU; generated on first use."""
        rows = np.empty((self.m, self.n), dtype=np.float32)
        for index, row in enumerate(rows):
            stream = np.random.Philox(key=np.array([self.seed, index], dtype=np.uint64))
            np.random.Generator(stream).standard_normal(dtype=np.float32, out=row)
        return torch.from_numpy(rows).div_(math.sqrt(self.m))

    def _forward(self, x: Tensor) -> Tensor:
        matrix = self._matrix_for(x)
        return (x.flatten(1).to(matrix.dtype) @ matrix.T).to(x.dtype)

    def _adjoint(self, y: Tensor) -> Tensor:
        matrix = self._matrix_for(y)
        return (y.to(matrix.dtype) @ matrix).to(y.dtype).unflatten(1, self.image_shape)

    def _pinv(self, y: Tensor) -> Tensor:
        return self._adjoint(self.solve_gram(to_double(y))).to(y.dtype)

    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        if x.device.type != "cpu" or y.requires_grad:
            return super()._misfit(x, y)
        matrix = self._matrix_for(x)
        misfit: Tensor = _Misfit.apply(x.flatten(1).to(matrix.dtype), y.to(matrix.dtype), matrix)
        return misfit.to(x.dtype)

    def solve_gram(self, y: Measurement) -> Measurement:
        double = to_double(y)
        if self._factorised:
            return self._by_cholesky(double).to(y.dtype)
        exact = self._matrix_for(double).dtype == torch.float64
        options: dict[str, Any] = {"tolerance": 1e-12 if exact else 1e-7}
        if self.m > STEEP_RATIO * self.n and self.m <= STEEP_SIZE:
            options["precondition"] = self._by_cholesky
        return conjugate_gradient(self._gram, double, **options).solution.to(y.dtype)

    def _by_cholesky(self, y: Tensor) -> Tensor:
        dtype = widest_real_dtype(y.device) if self._factorised else torch.float32
        factor = self._cast("_cholesky", y.device, dtype)
        return torch.cholesky_solve(y.T.to(factor.dtype), factor).T.to(y.dtype)

    def singular_values(self) -> Tensor | None:
        return None if self.m * self.n > SVD_ENTRIES else self._values.clone()

    def norm(self) -> float:
        r"""The largest singular value if the singular values are computed, else an upper bound.

        $(\sqrt n + \sqrt m + 6) / \sqrt m$ is exceeded with probability below $e^{-18}$ (Davidson
        and Szarek, "Local operator theory, random matrices and Banach spaces", 2001, th. II.13).
        """
        values = self.singular_values()
        if values is not None:
            return float(values[0])
        return (math.sqrt(self.n) + math.sqrt(self.m) + 6) / math.sqrt(self.m)

    @property
    def _factorised(self) -> bool:
        """Whether the Cholesky factor is exact and solves A Aᵀ; else it is a preconditioner."""
        return self.m <= CHOLESKY_SIZE

    def _gram(self, y: Tensor) -> Tensor:
        return self._forward(self._adjoint(y))

    def _matrix_for(self, like: Tensor) -> Tensor:
        double = like.dtype == torch.float64 and self.m * self.n <= DOUBLE_ENTRIES
        return self._cast("matrix", like.device, torch.float64 if double else torch.float32)

    @cached_property
    def _cholesky(self) -> Tensor:
        """Cholesky factor of A Aᵀ in double precision, or of A Aᵀ + `RIDGE` I in single."""
        dtype = torch.float64 if self._factorised else torch.float32
        gram = torch.zeros(self.m, self.m, dtype=dtype, device="cpu")
        for block in self.matrix.split(4096, dim=1):
            gram.addmm_(block.to(dtype), block.to(dtype).T)
        if not self._factorised:
            gram.diagonal().add_(RIDGE)
        return torch.linalg.cholesky(gram)

    @cached_property
    def _values(self) -> Tensor:
        return torch.linalg.svdvals(self.matrix.double())
