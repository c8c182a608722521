"""Operators from user-defined functions."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from iagan.errors import SettingError
from iagan.operators.base import LinearOperator
from iagan.operators.checks import as_tensor
from iagan.operators.laws import adjoint_gap, linearity_gap
from iagan.operators.linalg import like, linear_map

TOLERANCE = 1e-5
"""Largest relative gap in the checks of linearity and of the adjoint; single-precision rounding
is about 1e-7."""

Function = Callable[[Tensor], Any]


def from_functions(
    image_shape: tuple[int, int, int],
    forward: Function,
    adjoint: Function | None = None,
    device: torch.device | str = "cpu",
) -> LinearOperator:
    r"""An operator from a function of your own, $x \mapsto A x$, and optionally its adjoint.

    Both are checked once, here: `forward` for linearity, `adjoint` by
    $\langle A x, y \rangle = \langle x, A^\top y \rangle$. Results may be NumPy arrays.
    The functions are called in the input's precision, single or double, if `forward` supports it,
    else in the one that it supports.
    Such an operator has no spec: to save observations with one, subclass `LinearOperator` and
    `register` the class.

    **Arguments:**
    - `image_shape`: `(channels, height, width)`.
    - `forward`: maps a tensor `(batch, *image_shape)` to `(batch, ...)`, real or complex, each
      image independently.
    - `adjoint`: `(batch, ...)` → `(batch, *image_shape)`; only the real part of a complex
      result is used. By default autograd derives it from `forward`, which must then be written in
      PyTorch. With it, `forward` may leave PyTorch (`x.numpy()`): it is differentiated by
      `adjoint`.
    - `device`: device of the tensors that the functions hold, if any.

    **Raises:** `SettingError` if a function raises, or is not linear, or is not the adjoint.
    """
    return FunctionOperator(image_shape, forward, adjoint, torch.device(device))


@dc.dataclass(frozen=True, eq=False)
class FunctionOperator(LinearOperator):
    """An operator that calls functions; made by `from_functions`. Picklable if they are."""

    forward_function: Function
    adjoint_function: Function | None = None
    device: torch.device = torch.device("cpu")

    name: ClassVar[str] = "functions"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_linearity()
        self._check_adjoint()

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return tuple(self._black.shape[1:])

    @property
    def complex_valued(self) -> bool:
        return self._black.is_complex()

    def spec(self) -> dict[str, Any]:
        raise SettingError(
            "An operator from functions has no JSON spec; subclass LinearOperator and "
            "register the class."
        )

    def _forward(self, x: Tensor) -> Tensor:
        work = x.to(self._dtype_for(x))
        apply, transpose = self._call_forward, self._call_adjoint
        derived = self.adjoint_function is None
        y = apply(work) if derived else linear_map(apply, transpose, work)
        return y.to(like(y, x.dtype))

    def _adjoint(self, y: Tensor) -> Tensor:
        work = y.to(like(y, self._dtype_for(y.real)))
        return linear_map(self._call_adjoint, self._call_forward, work).to(y.real.dtype)

    def _call_forward(self, x: Tensor) -> Tensor:
        return as_tensor("forward of from_functions", self.forward_function(x)).to(x.device)

    def _call_adjoint(self, y: Tensor) -> Tensor:
        if self.adjoint_function is None:
            return self._derivative(y)
        x = as_tensor("adjoint of from_functions", self.adjoint_function(y)).to(y.device)
        return x.real if x.is_complex() else x

    def _derivative(self, y: Tensor) -> Tensor:
        """Aᵀ y as the gradient of Re⟨y, A x⟩ with respect to x, also in `no_grad`."""
        with torch.inference_mode(False), torch.enable_grad():
            x = y.new_zeros(len(y), *self.image_shape, dtype=y.real.dtype).requires_grad_()
            Ax = self._call_forward(x)
            return torch.autograd.grad(Ax, x, y.detach().to(Ax.dtype))[0]

    @property
    def _tolerance(self) -> float:
        return 1e-12 if torch.float64 in self._blacks else 1e-7

    @property
    def _device(self) -> torch.device:
        return self.device

    def _dtype_for(self, values: Tensor) -> torch.dtype:
        dtype = values.dtype
        return dtype if dtype in self._blacks else next(iter(self._blacks))

    @property
    def _black(self) -> Tensor:
        return next(iter(self._blacks.values()))

    @cached_property
    def _blacks(self) -> dict[torch.dtype, Tensor]:
        """The measurement of a black image, in each precision that `forward` supports."""
        blacks, reason = {}, ""
        for dtype in (torch.float32, torch.float64):
            x = torch.zeros(1, *self.image_shape, dtype=dtype, device=self.device)
            try:
                y = self._call_forward(x)
            except Exception as error:  # user code may raise anything
                reason = _first_line(error)
                continue
            if y.ndim < 2 or len(y) != 1 or not (y.is_floating_point() or y.is_complex()):
                raise SettingError(
                    "from_functions expects forward to return floating-point or complex numbers "
                    f"(batch, ...) of images (batch, ...); got {y.dtype} {tuple(y.shape)} of one."
                )
            if torch.finfo(y.dtype).eps <= torch.finfo(dtype).eps:
                blacks[dtype] = y
            else:
                reason = f"it returns {y.dtype} for {dtype}"
        if not blacks:
            raise SettingError(
                f"from_functions expects forward to measure images (batch, "
                f"{', '.join(map(str, self.image_shape))}); it failed: {reason}"
            )
        return blacks

    def _check_linearity(self) -> None:
        dtype = list(self._blacks)[-1]
        try:
            kept = self._keeps_its_input(dtype)
            gap = linearity_gap(self, dtype=dtype)
        except Exception as error:
            raise SettingError(f"forward of from_functions failed: {_first_line(error)}") from error
        if not kept:
            raise SettingError(
                "from_functions expects a forward that leaves its input unchanged; it changes it "
                "in place. Let it start with x = x.clone()."
            )
        if not gap <= TOLERANCE:
            raise SettingError(
                "from_functions expects a linear forward that treats images independently; "
                f"A(2x - 3z) differs from 2 A(x) - 3 A(z) by {gap:.1e} of its norm."
            )

    def _keeps_its_input(self, dtype: torch.dtype) -> bool:
        size = math.prod(self.image_shape)
        x = torch.linspace(1, 2, size, dtype=dtype, device=self.device).view(1, *self.image_shape)
        before = x.clone()
        self._call_forward(x)
        return torch.equal(x, before)

    def _check_adjoint(self) -> None:
        dtype = list(self._blacks)[-1]
        try:
            gap = adjoint_gap(self, dtype=dtype)
        except Exception as error:
            reason = _first_line(error)
            if self.adjoint_function is None:
                raise SettingError(
                    f"from_functions could not differentiate forward: {reason.rstrip('.')}. Write "
                    "it in PyTorch throughout, or pass adjoint=…"
                ) from error
            raise SettingError(f"adjoint of from_functions failed: {reason}") from error
        if not gap <= TOLERANCE:
            raise SettingError(
                "from_functions expects <A x, y> = <x, adjoint(y)>, the transpose and not the "
                f"inverse; they differ by {gap:.1e}."
            )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]
