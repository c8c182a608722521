"""Inner products, least squares, conjugate gradients and norms, image by image."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from iagan.types import PerImage

RCOND = 1e-10
"""Singular values at or below this fraction of the largest count as zero in A†, everywhere."""

LinearMap = Callable[[Tensor], Tensor]
"""A linear map over the reals of tensors whose first axis is the batch."""


def widest_real_dtype(device: torch.device) -> torch.dtype:
    """The widest real dtype of a device: float64, or float32 on Apple's GPU."""
    return torch.float32 if device.type == "mps" else torch.float64


def like(y: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The real `dtype`, or its complex counterpart if `y` is complex."""
    return dtype.to_complex() if y.is_complex() else dtype


def to_double(y: Tensor) -> Tensor:
    """`y`, real or complex, in double precision (single on Apple's GPU)."""
    return y.to(like(y, widest_real_dtype(y.device)))


def truncated_inverse(values: Tensor, largest: float) -> Tensor:
    """1/s where |s| exceeds `RCOND` of the largest singular value, else 0."""
    kept = values.abs() > RCOND * largest
    return torch.where(kept, 1 / torch.where(kept, values, 1), 0)


def inner(a: Tensor, b: Tensor) -> PerImage:
    r"""$\operatorname{Re} \sum \bar a\, b$ over all axes but the first, summed in double precision.

    The inner product over the reals: a complex number is a pair of reals.
    """
    dtype = widest_real_dtype(a.device)
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    return (a.flatten(1).to(dtype) * b.flatten(1).to(dtype)).sum(dim=1)


@dc.dataclass(frozen=True)
class Solution:
    """The result of a solver.

    - `solution`: the solutions of the batch.
    - `steps`: number of iterations of the slowest image.
    - `relative_residual`: `(batch,)`, the quantity compared with the tolerance, by the recurrence.
    """

    solution: Tensor
    steps: int
    relative_residual: PerImage


def conjugate_gradient(
    apply: LinearMap,
    b: Tensor,
    tolerance: float = 1e-12,
    max_steps: int = 1000,
    precondition: LinearMap = lambda residual: residual,
) -> Solution:
    r"""Solve $H u = b$ for a symmetric positive semidefinite H, starting at 0.

    The images of a batch are solved at once, each with its own step lengths; one that has converged
    no longer changes. If H is singular and b in its range, the result is the solution of smallest
    norm.

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
        Hp = apply(direction)
        curvature = inner(direction, Hp)
        active = (squared > tolerance**2 * start) & (curvature > 0)
        if not bool(active.any()):
            break
        alpha = torch.where(active, slope / torch.where(active, curvature, 1), 0)
        u = u + _scale(alpha, direction)
        residual = residual - _scale(alpha, Hp)
        steepest = precondition(residual)
        after = inner(residual, steepest)
        beta = torch.where(active, after / torch.where(active, slope, 1), 0)
        direction = steepest + _scale(beta, direction)
        squared, slope, steps = inner(residual, residual), after, steps + 1
    relative = (squared / torch.where(start > 0, start, 1)).sqrt()
    return Solution(u, steps, relative)


def least_squares(
    forward: LinearMap,
    adjoint: LinearMap,
    b: Tensor,
    tolerance: float = 1e-12,
    max_steps: int = 1000,
) -> Solution:
    r"""$A^\dagger b$, the smallest x of those that minimise $‖b - A x‖$, by CGLS.

    Unlike conjugate gradients on $A^\top A$ it updates $b - A x$ itself, so that rounding errors do
    not grow in the null space of A. The images of a batch are independent. An image also stops at a
    direction whose gain by A is at most `RCOND` of the largest: it counts as null space.

    **Arguments:**
    - `forward`, `adjoint`: $x \mapsto A x$ and $y \mapsto A^\top y$, over the reals.
    - `b`: real or complex, the batch first.
    - `tolerance`: an image stops at $‖A^\top(b - A x)‖ \le$ tolerance · ‖Aᵀ b‖.

    **Reference:** Å. Björck, "Numerical Methods for Least Squares Problems", 1996, alg. 7.4.1.
    """
    gradient = adjoint(b)
    x, residual, direction = torch.zeros_like(gradient), b, gradient
    start = inner(gradient, gradient)
    squared, largest, steps = start, torch.zeros_like(start), 0
    while steps < max_steps:
        Ap = forward(direction)
        curvature, length = inner(Ap, Ap), inner(direction, direction)
        largest = torch.maximum(largest, curvature / torch.where(length > 0, length, 1))
        active = (squared > tolerance**2 * start) & (curvature > RCOND**2 * largest * length)
        if not bool(active.any()):
            break
        alpha = torch.where(active, squared / torch.where(active, curvature, 1), 0)
        x = x + _scale(alpha, direction)
        residual = residual - _scale(alpha, Ap)
        gradient = adjoint(residual)
        after = torch.where(active, inner(gradient, gradient), squared)
        beta = torch.where(active, after / torch.where(active, squared, 1), 0)
        direction = gradient + _scale(beta, direction)
        squared, steps = after, steps + 1
    relative = (squared / torch.where(start > 0, start, 1)).sqrt()
    return Solution(x, steps, relative)


def pseudoinverse(
    forward: LinearMap, adjoint: LinearMap, b: Tensor, tolerance: float = 1e-12
) -> Tensor:
    r"""$A^\dagger b$ by `least_squares`, in the precision of `b`, and differentiable by `b`.

    The derivative is again a least-squares problem, $(A^\dagger)^\top = (A^\top)^\dagger$: no graph
    of the steps is kept.

    **Arguments:**
    - `forward`, `adjoint`: $x \mapsto A x$ and $y \mapsto A^\top y$, over the reals.
    - `b`: real or complex, `(batch, ...)`.
    - `tolerance`: tolerance of `least_squares`; at least the machine epsilon of `b`.
    """
    within = max(tolerance, torch.finfo(b.dtype).eps)
    return linear_map(
        lambda y: least_squares(forward, adjoint, y, within).solution,
        lambda x: least_squares(adjoint, forward, x, within).solution,
        b,
    )


def linear_map(apply: LinearMap, transpose: LinearMap, x: Tensor) -> Tensor:
    """`apply(x)`, differentiated by `transpose` instead of through the operations of `apply`.

    Thus `apply`, which is called with x detached, may iterate or leave PyTorch.
    """
    result: Tensor = _LinearMap.apply(x, apply, transpose)
    return result


class _LinearMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, apply: LinearMap, transpose: LinearMap) -> Tensor:
        ctx.maps = (transpose, apply)
        return apply(x.detach())

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        transpose, apply = ctx.maps
        return linear_map(transpose, apply, slope), None, None


def largest_singular_value(
    forward: LinearMap, adjoint: LinearMap, x: Tensor, steps: int = 100
) -> float:
    """A lower bound on the largest singular value, by power iterations from `x`.

    Within 1 % after 100 steps unless the largest singular values are clustered; 0 if A x is 0.
    """
    for _ in range(steps):
        length = torch.linalg.vector_norm(x)
        if not float(length) > 0:
            return 0.0
        x = adjoint(forward(x / length))
    return float(torch.linalg.vector_norm(x).sqrt())


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """`(batch,)` → `(batch, 1, …)`, to broadcast over `like`, `(batch, ...)`.

    A single value broadcasts over a tensor of any shape.
    """
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _scale(factors: PerImage, vectors: Tensor) -> Tensor:
    return per_image(factors.to(vectors.real.dtype), vectors) * vectors
