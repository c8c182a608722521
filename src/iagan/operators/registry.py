"""The registry of operators, and specs."""

from __future__ import annotations

import dataclasses as dc
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from iagan.errors import IaganError, SettingError
from iagan.operators.base import LinearOperator
from iagan.operators.blur import FFTBlur, SeparableBlur, UniformBlur
from iagan.operators.composite import Compose, Stack, Sum
from iagan.operators.encoding import MAX_SIDE, decode
from iagan.operators.fourier import SubsampledFourier
from iagan.operators.gaussian import Gaussian
from iagan.operators.identity import Identity
from iagan.operators.inpaint import Inpaint
from iagan.operators.matrix import Matrix
from iagan.operators.resize import BicubicDownsample
from iagan.operators.scaled import Scaled

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
        Matrix,
        Compose,
        Sum,
        Scaled,
        Stack,
    )
}
"""Operator classes by their name in specs; extended by `register`."""

MAX_DEPTH, MAX_PARTS = 16, 256
"""Largest nesting depth and number of operators in a spec."""

Kind = TypeVar("Kind", bound=type[LinearOperator])


def register(kind: Kind) -> Kind:
    """Make a class of your own known to specs, so that its observations can be saved and loaded.

    A class decorator, the outermost. Registering a class again (in a notebook) replaces it.
    `from_spec` constructs it from the fields in a file, which may not be trustworthy: validate them
    in `__post_init__`.

    **Arguments:**
    - `kind`: a concrete subclass of `LinearOperator` with a `name` of its own.

    **Raises:** `SettingError` for anything else, or a name already in use.
    """
    is_operator = isinstance(kind, type) and issubclass(kind, LinearOperator)
    if not is_operator or inspect.isabstract(kind):
        raise SettingError(
            f"register expects a concrete subclass of LinearOperator; got {kind!r:.80}."
        )
    if not isinstance(kind.name, str) or not kind.name:
        raise SettingError(f"register expects {kind.__name__}.name, the name in specs; got none.")
    if any(field.name == "operator" for field in dc.fields(kind)):
        raise SettingError(
            f"register expects no field called 'operator' in {kind.__name__}: in a spec it is the "
            "class's name. Rename the field."
        )
    before = OPERATORS.get(kind.name, kind)
    if (before.__module__, before.__qualname__) != (kind.__module__, kind.__qualname__):
        raise SettingError(
            f"register expects a name that is free; got {kind.name!r}, which is that of "
            f"{before.__name__}. Give {kind.__name__} another."
        )
    OPERATORS[kind.name] = kind
    return kind


def from_spec(spec: Mapping[str, Any]) -> LinearOperator:
    """The operator described by a `LinearOperator.spec`.

    Specs are not trusted: no code in them is run, image sides are at most `MAX_SIDE`, matrices are
    only generated on use, and operators are nested at most `MAX_DEPTH` deep and at most `MAX_PARTS`
    in all.

    **Raises:** `SettingError`, one line, for everything that is not such a spec.
    """
    _check_nesting(spec)
    return _from_spec(spec)


def _from_spec(spec: Mapping[str, Any]) -> LinearOperator:
    name = spec.get("operator") if isinstance(spec, Mapping) else None
    kind = OPERATORS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise SettingError(
            f"An operator's spec expects 'operator', one of {', '.join(OPERATORS)}; got "
            f"{name!r:.80}."
        )
    expected = {field.name for field in dc.fields(kind) if field.init}
    given = set(spec) - {"operator"}
    if given != expected:
        raise SettingError(
            f"The spec of operator '{name}' expects exactly {', '.join(sorted(expected))}; "
            f"got {', '.join(sorted(map(str, given)))[:200] or 'none'}."
        )
    try:
        fields = {key: decode(spec[key], _from_spec) for key in expected}
        _check_sides(fields.get("image_shape"))
        return kind(**fields)
    except (IaganError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise SettingError(f"The spec of operator '{name}' cannot be used: {reason}") from error


def _check_nesting(spec: Any) -> None:
    level, count = [spec], 0
    for _ in range(MAX_DEPTH):
        level = [part for one in level for part in _parts(one)]
        count += len(level)
        if not level:
            return
        if count >= MAX_PARTS:
            break
    raise SettingError(
        f"An operator's spec expects at most {MAX_PARTS} operators, nested at most {MAX_DEPTH} "
        "deep; got more."
    )


def _parts(spec: Any) -> Iterator[Any]:
    """The specs directly inside a spec, also within nested lists."""
    pending = list(spec.values()) if isinstance(spec, Mapping) else []
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, Mapping) and "operator" in value:
            yield value


def _check_sides(shape: Any) -> None:
    sides = shape if isinstance(shape, tuple) else ()
    if any(isinstance(side, int) and side > MAX_SIDE for side in sides):
        raise SettingError(f"Images in a spec may be at most {MAX_SIDE} pixels a side.")
