"""Linearity and adjointness of an operator, measured on random images."""

from __future__ import annotations

import torch

from iagan.operators.base import LinearOperator
from iagan.operators.linalg import inner


def adjoint_gap(operator: LinearOperator, seed: int = 0, dtype: torch.dtype | None = None) -> float:
    r"""Relative deviation of `adjoint` from the adjoint of `forward`; about 1e-7 by rounding alone.

    $$\frac{|\langle A x, y \rangle - \langle x, A^\top y \rangle|}{‖A x‖\, ‖y‖}$$

    for a random x and y = A x + r, with r random and ‖r‖ = ‖A x‖: r reveals any wrong entry of the
    adjoint, A x a wrong factor.

    **Arguments:**
    - `seed`: seed of x and r.
    - `dtype`: dtype of x; torch's default, or torch.float64 for a stricter check.
    """
    rng = torch.Generator().manual_seed(seed)
    dtype = dtype or torch.get_default_dtype()
    x = torch.randn(1, *operator.image_shape, generator=rng, dtype=dtype, device="cpu")
    x = x.to(operator._device)
    Ax = operator(x)
    r = torch.randn(Ax.shape, generator=rng, dtype=Ax.dtype, device="cpu").to(Ax.device)
    y = Ax + r * float((inner(Ax, Ax) / inner(r, r)).sqrt())
    gap = inner(Ax, y) - inner(x, operator.adjoint(y))
    scale = (inner(Ax, Ax) * inner(y, y)).sqrt()
    return float(gap.abs() / scale.clamp(min=torch.finfo(torch.float32).tiny))


def linearity_gap(
    operator: LinearOperator, seed: int = 0, dtype: torch.dtype | None = None
) -> float:
    r"""Relative deviation of `forward` from linearity; about 1e-7 by rounding alone.

    $$\frac{‖A(2x - 3z) - (2 A x - 3 A z)‖}{‖2 A x - 3 A z‖}$$

    for random x and z, in one batch on the right and separately on the left: this also reveals
    dependence between the images of a batch, an offset (the factors do not sum to 1), and
    randomness in `forward`.

    **Arguments:**
    - `seed`: seed of x and z.
    - `dtype`: dtype of x and z; torch's default, or torch.float64 for a stricter check.
    """
    rng = torch.Generator().manual_seed(seed)
    dtype = dtype or torch.get_default_dtype()
    x = torch.randn(2, *operator.image_shape, generator=rng, dtype=dtype, device="cpu")
    x = x.to(operator._device)
    images = operator(x)
    expected = 2 * images[:1] - 3 * images[1:]
    gap = operator(2 * x[:1] - 3 * x[1:]) - expected
    scale = inner(expected, expected).clamp(min=torch.finfo(torch.float32).tiny)
    return float((inner(gap, gap) / scale).sqrt())
