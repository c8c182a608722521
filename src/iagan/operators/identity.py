"""The identity: denoising."""

from __future__ import annotations

import dataclasses as dc
from typing import ClassVar

import torch
from torch import Tensor

from iagan.operators.base import LinearOperator
from iagan.types import Measurement


@dc.dataclass(frozen=True, eq=False)
class Identity(LinearOperator):
    """A x = x: only noise degrades y."""

    name: ClassVar[str] = "denoise"

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return self.image_shape

    def _forward(self, x: Tensor) -> Tensor:
        return x

    def _adjoint(self, y: Tensor) -> Tensor:
        return y

    def _pinv(self, y: Tensor) -> Tensor:
        return y

    def solve_gram(self, y: Measurement) -> Measurement:
        return y

    def singular_values(self) -> Tensor:
        return torch.ones(self.n, dtype=torch.float64, device="cpu")
