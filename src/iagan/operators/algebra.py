"""The algebra of operators: the functions behind `@`, `+` and `*` of `LinearOperator`."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from iagan.errors import SettingError
from iagan.operators.base import LinearOperator
from iagan.operators.composite import Compose, OfParts, Sum
from iagan.operators.deepinv_bridge import as_operator
from iagan.operators.identity import Identity
from iagan.operators.scaled import Scaled


def compose(outer: Any, inner: Any) -> LinearOperator:
    """`outer @ inner`, for operators or deepinv physics.

    Scalars move to the front and identities are dropped, which preserves closed forms: `(2 * A) @
    Identity(shape)` is `2 * A`. A subclass of `Identity` is kept: it may override anything.
    """
    for value in (outer, inner):
        if isinstance(value, Tensor | np.ndarray):
            raise SettingError(
                f"A @ B expects two operators; got numbers of shape {tuple(value.shape)}. "
                "Call the operator to measure an image: A(x)."
            )
    right = as_operator(inner)
    left = as_operator(outer, right.measurement_shape)
    (factor, left), (other, right) = _factor_of(left), _factor_of(right)
    parts = _parts_of(left, Compose) + _parts_of(right, Compose)
    Compose(parts)  # checks the shapes, identities included
    kept = tuple(part for part in parts if type(part) is not Identity) or parts[:1]
    product = Compose(kept) if len(kept) > 1 else kept[0]
    return scale(product, factor * other)


def add(left: Any, right: Any, sign: int = 1) -> LinearOperator:
    """`left + sign · right`; one of them may be a deepinv physics."""
    shape = next(one for one in (left, right) if isinstance(one, LinearOperator)).image_shape
    first, second = as_operator(left, shape), as_operator(right, shape)
    return Sum(_parts_of(first, Sum) + _parts_of(scale(second, sign), Sum))


def scale(operator: LinearOperator, factor: float) -> LinearOperator:
    """`factor · operator`; a multiple of a multiple is one multiple."""
    inner, base = _factor_of(operator)
    return base if inner * factor == 1 else Scaled(base, inner * factor)


def _factor_of(operator: LinearOperator) -> tuple[float, LinearOperator]:
    if type(operator) is Scaled:
        return operator.factor, operator.base
    return 1.0, operator


def _parts_of(operator: LinearOperator, kind: type[OfParts]) -> tuple[LinearOperator, ...]:
    return operator.parts if type(operator) is kind else (operator,)
