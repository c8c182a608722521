"""Conversion from and to deepinv physics; deepinv is imported on use."""

from __future__ import annotations

import copy
import dataclasses as dc
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iagan.errors import MissingDependencyError, SettingError
from iagan.operators.base import LinearOperator
from iagan.operators.checks import image_shape_for
from iagan.operators.linalg import like


def from_physics(physics: nn.Module, image_shape: tuple[int, int, int]) -> LinearOperator:
    """A deepinv `LinearPhysics` as an operator on images of `image_shape`, without its noise.

    The physics is copied. It computes in its own precision (double if any of its buffers is) and on
    its own device (`operator.to(device)` moves a copy).

    **Raises:** `MissingDependencyError` without deepinv; `SettingError` if `physics` is not
    linear, rejects such images, or returns more than one tensor.
    """
    deepinv = _deepinv()
    if not isinstance(physics, deepinv.physics.LinearPhysics):
        raise SettingError(
            f"from_physics expects a deepinv LinearPhysics; got {type(physics).__name__}."
        )
    return PhysicsOperator(image_shape, copy.deepcopy(physics).requires_grad_(False))


def as_operator(value: Any, image_shape: tuple[int, ...] | None = None) -> LinearOperator:
    """`value` as an operator: itself, or a deepinv `LinearPhysics` on images of `image_shape`.

    Every function that accepts an operator accepts a physics by calling this one. deepinv is
    imported only if `value` is an instance of one of its classes.

    **Arguments:**
    - `image_shape`: `(channels, height, width)`; by default the physics' own `img_size`.

    **Raises:** `SettingError` for anything else, or a physics whose image shape is unknown.
    """
    if isinstance(value, LinearOperator):
        return value
    if not any(kind.__module__.split(".")[0] == "deepinv" for kind in type(value).__mro__):
        raise SettingError(
            "iagan expects an operator, a LinearOperator or a deepinv LinearPhysics; got "
            f"{type(value).__name__}."
        )
    shape = image_shape or getattr(value, "img_size", None)
    if shape is None:
        raise SettingError(
            f"iagan expects a deepinv physics with an img_size; {type(value).__name__} has none. "
            "Pass it: iagan.operators.from_physics(physics, image_shape)."
        )
    return from_physics(value, image_shape_for(type(value).__name__, tuple(shape)))


def to_physics(operator: LinearOperator) -> nn.Module:
    """The operator as a deepinv `LinearPhysics` without noise, with its exact `A_dagger`.

    **Raises:** `MissingDependencyError` without deepinv.
    """
    deepinv = _deepinv()

    class OperatorPhysics(deepinv.physics.LinearPhysics):  # type: ignore[name-defined]
        def A_dagger(self, y: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return operator.pinv(y)

    return OperatorPhysics(
        A=lambda x, **_: operator.forward(x),
        A_adjoint=lambda y, **_: operator.adjoint(y),
        img_size=operator.image_shape,
    )


@dc.dataclass(frozen=True, eq=False)
class PhysicsOperator(LinearOperator):
    r"""A deepinv `LinearPhysics` as an operator; made by `from_physics`.

    A† is computed by iteration (see `pinv`). A physics in single precision limits its accuracy to
    about 1e-5 if A is well conditioned, and to less if it is not.
    """

    physics: Any  # a LinearPhysics; its type is deepinv's

    name: ClassVar[str] = "deepinv"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._black

    @property
    def complex_valued(self) -> bool:
        return self._black.is_complex()

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return tuple(self._black.shape[1:])

    def spec(self) -> dict[str, Any]:
        raise SettingError(
            "An operator from deepinv has no JSON spec; recreate it with from_physics."
        )

    def to(self, device: torch.device | str) -> PhysicsOperator:
        return dc.replace(self, physics=copy.deepcopy(self.physics).to(device))

    def _forward(self, x: Tensor) -> Tensor:
        y = self.physics.A(x.to(self._dtype))
        return y.to(like(y, x.dtype))

    def _adjoint(self, y: Tensor) -> Tensor:
        x = self.physics.A_adjoint(y.to(like(y, self._dtype)))
        return (x.real if x.is_complex() else x).to(y.real.dtype)

    @property
    def _dtype(self) -> torch.dtype:
        double = any(tensor.dtype == torch.float64 for tensor in self.physics.buffers())
        return torch.float64 if double else torch.float32

    @property
    def _tolerance(self) -> float:
        return 1e-12 if self._dtype == torch.float64 else 1e-7

    @property
    def _device(self) -> torch.device:
        return self._black.device

    @cached_property
    def _black(self) -> Tensor:
        """The measurement of a black image, which has y's shape, dtype and device."""
        device = next((tensor.device for tensor in self.physics.buffers()), torch.device("cpu"))
        x = torch.zeros(1, *self.image_shape, dtype=self._dtype, device=device)
        try:
            y = self.physics.A(x)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise SettingError(
                f"from_physics expects a physics that measures images {self.image_shape}; it "
                f"raised: {(str(error) or type(error).__name__).splitlines()[0]}"
            ) from error
        if not isinstance(y, Tensor) or y.ndim < 2 or y.shape[0] != 1:
            raise SettingError(
                "from_physics expects a physics that returns one tensor (batch, ...); got "
                f"{tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__}."
            )
        return y


def _deepinv() -> Any:
    try:
        import deepinv
    except ImportError as error:
        raise MissingDependencyError(
            'from_physics and to_physics need deepinv: pip install "iagan[deepinv]".'
        ) from error
    return deepinv
