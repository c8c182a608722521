"""The operators by name, and their specs."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping
from typing import Any

from iagan.errors import IaganError, SettingError
from iagan.operators.base import LinearOperator
from iagan.operators.blur import FFTBlur, SeparableBlur, UniformBlur
from iagan.operators.encoding import MAX_SIDE, decode
from iagan.operators.fourier import SubsampledFourier
from iagan.operators.gaussian import Gaussian
from iagan.operators.identity import Identity
from iagan.operators.inpaint import Inpaint
from iagan.operators.resize import BicubicDownsample

OPERATORS: dict[str, type[LinearOperator]] = {
    kind.name: kind
    for kind in (
        BicubicDownsample,
        UniformBlur,
        SeparableBlur,
        FFTBlur,
        SubsampledFourier,
        Gaussian,
        Inpaint,
        Identity,
    )
}
"""Name in specs and on the command line → class."""


def from_spec(spec: Mapping[str, Any]) -> LinearOperator:
    """The operator that `LinearOperator.spec` described.

    A spec may come from a stranger's file: nothing in it is run, no image side is longer than
    `MAX_SIDE`, and no matrix is made before it is used.

    **Raises:** `SettingError`, one line, for everything that is not such a spec.
    """
    name = spec.get("operator") if isinstance(spec, Mapping) else None
    kind = OPERATORS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise SettingError(
            f"An operator's spec expects 'operator', one of {', '.join(OPERATORS)}; got "
            f"{name!r:.80}."
        )
    expected = {field.name for field in dc.fields(kind)}
    given = set(spec) - {"operator"}
    if given != expected:
        raise SettingError(
            f"The spec of operator '{name}' expects exactly {', '.join(sorted(expected))}; "
            f"got {', '.join(sorted(map(str, given)))[:200] or 'none'}."
        )
    try:
        fields = {key: decode(spec[key]) for key in expected}
        _check_sides(fields["image_shape"])
        return kind(**fields)
    except (IaganError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise SettingError(f"The spec of operator '{name}' cannot be used: {reason}") from error


def _check_sides(shape: Any) -> None:
    sides = shape if isinstance(shape, tuple) else ()
    if any(isinstance(side, int) and side > MAX_SIDE for side in sides):
        raise SettingError(f"Images in a spec may be at most {MAX_SIDE} pixels a side.")
