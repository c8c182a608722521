"""The interface of methods: values that hold every setting and recover images."""

from __future__ import annotations

import abc
import dataclasses as dc
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from iagan.errors import SettingError, shown_value

if TYPE_CHECKING:
    from iagan.methods.estimate import Estimate
    from iagan.methods.task import Task

MAX_DEPTH = 8
"""Largest nesting depth of the methods in a spec."""

METHODS: dict[str, type[Method]] = {}
"""Method classes by `kind`, their name in specs; extended by `register`."""


class Method(abc.ABC):
    """A reconstruction method; a subclass is a frozen dataclass whose fields are its settings.

    It sets `kind` and `needs_prior` and implements `run`, and `iterations` if it iterates. With the
    decorator `register`, also outside this package, its specs can be read back.
    """

    kind: ClassVar[str] = ""
    """Name in specs; set by a concrete class."""
    needs_prior: ClassVar[bool] = True
    """Whether `run` uses `task.prior`, or `task.generator` where it fits latents."""

    @property
    def name(self) -> str:
        """Name in results and tables, such as `"csgm"` or `"iagan-bp"`."""
        return self.kind

    @abc.abstractmethod
    def run(self, task: Task) -> Estimate:
        """Recover the images of `task`; `task.estimate(other)` is the cached result of another
        method.
        """

    def iterations(self) -> dict[str, int]:
        """Maximum iterations per image by phase, such as `{"csgm": 1600}`; empty by default."""
        return {}

    def messages(self, task: Task) -> list[str]:
        """Warnings for the user about this method on this observation, one line each."""
        return []

    def spec(self) -> dict[str, Any]:
        """A JSON object from which `from_spec` recreates the method."""
        fields = {field.name: getattr(self, field.name) for field in dc.fields(self)}  # type: ignore[arg-type]
        return {"method": self.kind} | {
            name: value.spec() if isinstance(value, Method) else value
            for name, value in fields.items()
        }


Concrete = TypeVar("Concrete", bound=type[Method])


def register(method: Concrete) -> Concrete:
    """A class decorator that makes specs of `method.kind` readable.

    **Raises:** `SettingError` if another class has that kind.
    """
    if not method.kind:
        raise SettingError(
            f"register expects a kind, the name in specs; {method.__name__} has none."
        )
    known = METHODS.setdefault(method.kind, method)
    if known is not method and (known.__module__, known.__qualname__) != (
        method.__module__,
        method.__qualname__,
    ):
        raise SettingError(
            f"register expects a kind that is not in use; got {method.kind!r}, which is used by "
            f"{known.__name__}. Choose another."
        )
    METHODS[method.kind] = method
    return method


def from_spec(spec: Mapping[str, Any], depth: int = 0) -> Method:
    """The method described by a `Method.spec`. No code in a spec is run.

    **Raises:** `SettingError`, one line, for anything else.
    """
    kind = spec.get("method") if isinstance(spec, Mapping) else None
    if not isinstance(kind, str) or kind not in METHODS:
        got = shown_value(spec.get("method") if isinstance(spec, Mapping) else spec)
        raise SettingError(
            f"A method's spec expects 'method', one of {', '.join(METHODS)}; got {got}."
        )
    if depth > MAX_DEPTH:
        raise SettingError(f"A method's spec expects at most {MAX_DEPTH} nested methods.")
    cls = METHODS[kind]
    known = {field.name for field in dc.fields(cls)}  # type: ignore[arg-type]
    unknown = set(map(str, spec)) - known - {"method"}
    if unknown:
        raise SettingError(
            f"The spec of method '{kind}' expects {', '.join(sorted(known)) or 'nothing else'}; "
            f"got {', '.join(sorted(unknown))[:200]}."
        )
    fields = {
        name: from_spec(value, depth + 1) if isinstance(value, Mapping) else value
        for name, value in spec.items()
        if name != "method"
    }
    missing = [
        field.name
        for field in dc.fields(cls)  # type: ignore[arg-type]
        if field.default is field.default_factory is dc.MISSING and field.name not in fields
    ]
    if missing:
        raise SettingError(f"The spec of method '{kind}' expects {missing[0]}; it is missing.")
    return cls(**fields)


def check_integer(method: Method, name: str, least: int, most: int | None = None) -> None:
    """Convert a NumPy number in that field.

    **Raises:** `SettingError` unless it is an integer from `least` to `most`.
    """
    value = _plain(method, name)
    if type(value) is not int or value < least or (most is not None and value > most):
        span = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise _refusal(method, name, f"an integer {span}", value)


def check_number(method: Method, name: str, least: float = 0.0) -> None:
    """Convert a NumPy number in that field.

    **Raises:** `SettingError` unless it is a finite number of at least `least`.
    """
    value = _plain(method, name)
    if type(value) not in (int, float) or not least <= value <= sys.float_info.max:
        raise _refusal(method, name, f"a number of at least {least:g}", value)


def _plain(method: Method, name: str) -> Any:
    """The field's value, as a Python number if it is one of NumPy's."""
    value = getattr(method, name)
    if isinstance(value, np.number):
        value = value.item()
        object.__setattr__(method, name, value)
    return value


def check_flag(method: Method, name: str) -> None:
    """**Raises:** `SettingError` unless that field is True or False."""
    if type(getattr(method, name)) is not bool:
        raise _refusal(method, name, "True or False", getattr(method, name))


def check_choice(method: Method, name: str, choices: tuple[str, ...]) -> None:
    """**Raises:** `SettingError` unless that field is one of `choices`."""
    if getattr(method, name) not in choices:
        raise _refusal(method, name, f"one of {', '.join(choices)}", getattr(method, name))


def check_method(method: Method, name: str) -> None:
    """**Raises:** `SettingError` unless that field is a method."""
    if not isinstance(getattr(method, name), Method):
        raise _refusal(method, name, "a method, such as CSGM()", getattr(method, name))


def _refusal(method: Method, name: str, expected: str, value: object) -> SettingError:
    return SettingError(f"{type(method).__name__} expects {name} as {expected}; got {value!r:.80}.")
