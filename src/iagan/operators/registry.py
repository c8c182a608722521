"""The registry of operators, and specs."""

from __future__ import annotations

import dataclasses as dc
import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from iagan.errors import SettingError, shown, shown_value
from iagan.limits import LIMITS, Limits
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

MAX_PARTS = 256
"""Largest number of operators in a spec."""

Kind = TypeVar("Kind", bound=type[LinearOperator])


def register(kind: Kind) -> Kind:
    """A class decorator for your own operators, so that their observations can be saved and loaded.

    It must be the outermost decorator. Registering a class again (in a notebook) replaces it.
    `from_spec` constructs it from the fields in a file, which may be untrusted: validate them in
    `__post_init__`.

    **Arguments:**
    - `kind`: a concrete subclass of `LinearOperator` with its own `name`.

    **Raises:** `SettingError` for anything else, or a name that is already in use.
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
            f"register expects no field called 'operator' in {kind.__name__}: in a spec that is "
            "the class's name. Rename the field."
        )
    before = OPERATORS.get(kind.name, kind)
    if not _is_same(before, kind):
        raise SettingError(
            f"register expects a name that is not in use; got {kind.name!r}, which is used by "
            f"{before.__name__}. Give {kind.__name__} another."
        )
    OPERATORS[kind.name] = kind
    return kind


def _is_same(one: type, other: type) -> bool:
    """Whether they are the same class, or two definitions of it (a notebook cell run twice)."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def loadable_spec(operator: LinearOperator) -> dict[str, Any]:
    """`operator.spec()`, after checking that `from_spec` can read it.

    **Raises:** `SettingError` if the operator has no spec, or its class or that of an operator
    inside it is not registered.
    """
    spec = operator.spec()
    pending: list[Any] = [operator]
    while pending:
        value = pending.pop()
        if isinstance(value, tuple):
            pending.extend(value)
        elif isinstance(value, LinearOperator):
            if not _is_same(OPERATORS.get(value.name, object), type(value)):
                raise SettingError(
                    f"A file expects a registered operator; got {type(value).__name__}. Decorate "
                    "the class with @iagan.operators.register."
                )
            pending.extend(getattr(value, field.name) for field in dc.fields(value) if field.init)
    return spec


def from_spec(spec: Mapping[str, Any], limits: Limits = LIMITS) -> LinearOperator:
    """The operator described by a `LinearOperator.spec`.

    Specs are untrusted: no code in them is run, image sides are at most `MAX_SIDE`, and there are
    at most `MAX_PARTS` operators in all.

    **Arguments:**
    - `limits`: `pixels` bounds images; `array_bytes` an image in single precision, and the tensors
      derived by all operators, such as matrices, which are computed on use; `nesting` the nesting
      depth of operators.

    **Raises:** `SettingError`, one line, for anything else.
    """
    _check_nesting(spec, limits)
    return _Builder(limits).operator(spec)


class _Builder:
    """Builds the operators of one spec, with a joint limit on their tensors."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.left = limits.array_bytes

    def operator(self, spec: Mapping[str, Any]) -> LinearOperator:
        """An operator and, inside it, its parts."""
        name = spec.get("operator") if isinstance(spec, Mapping) else None
        kind = OPERATORS.get(name) if isinstance(name, str) else None
        if kind is None:
            raise SettingError(
                f"An operator's spec expects 'operator', one of {', '.join(OPERATORS)}; got "
                f"{shown_value(name)}."
            )
        expected = {field.name for field in dc.fields(kind) if field.init}
        given = set(spec) - {"operator"}
        if given != expected:
            raise SettingError(
                f"The spec of operator '{name}' expects exactly {', '.join(sorted(expected))}; "
                f"got {shown(', '.join(sorted(map(str, given)))) or 'none'}."
            )
        try:
            fields = {key: decode(spec[key], self.operator, self.limits) for key in expected}
            self._check_image(fields.get("image_shape"))
            operator = kind(**fields)
        except Exception as error:  # a user's class may raise anything
            reason = shown(error, 300) or type(error).__name__
            raise SettingError(f"The spec of operator '{name}' cannot be used: {reason}") from error
        self.left -= operator._derived_bytes
        if self.left < 0:
            raise SettingError(
                f"The spec of operator '{name}' requires matrices or tables above the limit of "
                f"{self.limits.array_bytes} bytes. Use fewer measurements or smaller images, or "
                "raise Limits.array_bytes (--limit on the command line)."
            )
        return operator

    def _check_image(self, shape: Any) -> None:
        sides = [side for side in shape if type(side) is int] if isinstance(shape, tuple) else []
        if any(side > MAX_SIDE for side in sides):
            raise SettingError(f"images in a spec may have at most {MAX_SIDE} pixels per side.")
        limits = self.limits
        if math.prod(sides[-2:]) > limits.pixels or 4 * math.prod(sides) > limits.array_bytes:
            raise SettingError(
                f"images of shape {shape} are above the limit of {limits.pixels} pixels or "
                f"{limits.array_bytes} bytes. Raise Limits.pixels and Limits.array_bytes."
            )


def _check_nesting(spec: Any, limits: Limits) -> None:
    level, count = [spec], 0
    for _ in range(limits.nesting):
        level = [part for one in level for part in _parts(one)]
        count += len(level)
        if not level:
            return
        if count >= MAX_PARTS:
            break
    raise SettingError(
        f"An operator's spec expects at most {MAX_PARTS} operators, nested at most "
        f"{limits.nesting} deep; got more."
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
