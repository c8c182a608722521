"""Inner products, conjugate gradients, and a check that an adjoint is one; a number an image."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable

import torch
from torch import Tensor

from iagan.operators.base import LinearOperator, wide
from iagan.types import PerImage


def inner(a: Tensor, b: Tensor) -> PerImage:
    r"""$\operatorname{Re} \sum \bar a\, b$ over all axes but the first, summed in double precision.

    It is the inner product over the reals: complex numbers count as pairs of reals.
    """
    dtype = wide(a.device)
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    return (a.flatten(1).to(dtype) * b.flatten(1).to(dtype)).sum(dim=1)


@dc.dataclass(frozen=True)
class Solution:
    """What a solver found.

    - `solution`: of the whole batch.
    - `steps`: how many were taken for the slowest image.
    - `relative_residual`: what the tolerance is compared with, of each image, by the recurrence.
    """

    solution: Tensor
    steps: int
    relative_residual: PerImage


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    tolerance: float = 1e-12,
    max_steps: int = 1000,
    precondition: Callable[[Tensor], Tensor] = lambda residual: residual,
) -> Solution:
    r"""Solve $H u = b$ for a symmetric positive semidefinite H, starting at 0.

    The images of a batch are solved at once with steps of their own: one that has converged stands
    still, so the others change nothing about it. Where H is singular and b in its range, the
    solution is the one of smallest norm.

    **Arguments:**
    - `apply`: $u \mapsto H u$, for tensors shaped as `b`; symmetric over the reals.
    - `b`: real or complex, the batch first.
    - `tolerance`: an image stops at $‖b - Hu‖ \le$ tolerance · ‖b‖.
    - `precondition`: $r \mapsto M r$, M symmetric positive definite and near $H^{-1}$.

    **Reference:** M. Hestenes and E. Stiefel, "Methods of conjugate gradients", 1952; with M: Y.
    Saad, "Iterative Methods for Sparse Linear Systems", 2003, alg. 9.1.
    """
    u, residual, direction = torch.zeros_like(b), b, precondition(b)
    start = inner(b, b)
    squared, slope, steps = start, inner(b, direction), 0
    while steps < max_steps:
        image = apply(direction)
        curvature = inner(direction, image)
        active = (squared > tolerance**2 * start) & (curvature > 0)
        if not bool(active.any()):
            break
        alpha = torch.where(active, slope / torch.where(active, curvature, 1), 0)
        u = u + _scale(alpha, direction)
        residual = residual - _scale(alpha, image)
        steepest = precondition(residual)
        after = inner(residual, steepest)
        beta = torch.where(active, after / torch.where(active, slope, 1), 0)
        direction = steepest + _scale(beta, direction)
        squared, slope, steps = inner(residual, residual), after, steps + 1
    relative = (squared / torch.where(start > 0, start, 1)).sqrt()
    return Solution(u, steps, relative)


def least_squares(
    forward: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    b: Tensor,
    tolerance: float = 1e-12,
    max_steps: int = 1000,
) -> Solution:
    r"""$A^\dagger b$, the smallest x of those that minimise $‖b - A x‖$, by CGLS.

    Unlike conjugate gradients on $A^\top A$ it keeps $b - A x$ itself, so that rounding does not
    grow in the null space of A. Each image of a batch is solved on its own.

    **Arguments:**
    - `forward`, `adjoint`: $x \mapsto A x$ and $y \mapsto A^\top y$, over the reals.
    - `b`: real or complex, the batch first.
    - `tolerance`: an image stops at $‖A^\top(b - A x)‖ \le$ tolerance · ‖Aᵀ b‖.

    **Reference:** Å. Björck, "Numerical Methods for Least Squares Problems", 1996, alg. 7.4.1.
    """
    gradient = adjoint(b)
    x, residual, direction = torch.zeros_like(gradient), b, gradient
    start = inner(gradient, gradient)
    squared, steps = start, 0
    while steps < max_steps:
        image = forward(direction)
        curvature = inner(image, image)
        active = (squared > tolerance**2 * start) & (curvature > 0)
        if not bool(active.any()):
            break
        alpha = torch.where(active, squared / torch.where(active, curvature, 1), 0)
        x = x + _scale(alpha, direction)
        residual = residual - _scale(alpha, image)
        gradient = adjoint(residual)
        after = torch.where(active, inner(gradient, gradient), squared)
        beta = torch.where(active, after / torch.where(active, squared, 1), 0)
        direction = gradient + _scale(beta, direction)
        squared, steps = after, steps + 1
    relative = (squared / torch.where(start > 0, start, 1)).sqrt()
    return Solution(x, steps, relative)


def adjoint_gap(operator: LinearOperator, seed: int = 0, dtype: torch.dtype | None = None) -> float:
    r"""How far `adjoint` is from the adjoint of `forward`; rounding alone gives about 1e-7.

    $$\frac{|\langle A x, y \rangle - \langle x, A^\top y \rangle|}{‖A x‖\, ‖y‖}$$

    for one random x and y, in `dtype` (torch's default; torch.float64 for a sharper look).
    """
    rng = torch.Generator().manual_seed(seed)
    dtype = dtype or torch.get_default_dtype()
    x = torch.randn(1, *operator.image_shape, generator=rng, dtype=dtype, device="cpu")
    image = operator(x)
    y = torch.randn(image.shape, generator=rng, dtype=image.dtype, device="cpu")
    gap = inner(image, y) - inner(x, operator.adjoint(y))
    scale = (inner(image, image) * inner(y, y)).sqrt()
    return float(gap.abs() / scale.clamp(min=torch.finfo(torch.float32).tiny))


def _scale(factors: PerImage, vectors: Tensor) -> Tensor:
    return factors.to(vectors.real.dtype).view(-1, *[1] * (vectors.ndim - 1)) * vectors
