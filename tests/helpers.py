"""All operators, at sizes small enough for a dense matrix; the generic tests run on each."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
import numpy as np
import torch
from torch import Tensor

from iagan.operators import (
    BicubicDownsample,
    Compose,
    FFTBlur,
    Gaussian,
    Identity,
    Inpaint,
    LinearOperator,
    Matrix,
    SeparableBlur,
    Stack,
    SubsampledFourier,
    UniformBlur,
    from_functions,
    register,
)

COLOUR = (3, 8, 6)
PAIR = (2, 8, 6)
ODD = (2, 7, 5)


def random_mask(shape: tuple[int, int, int], seed: int, share: float = 0.5) -> Tensor:
    """A mask without any symmetry that keeps the corner."""
    rng = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape[1:], generator=rng) < share
    mask[0, 0] = True
    return mask


def kernel(height: int, width: int, seed: int) -> Tensor:
    """A kernel without any symmetry that sums to 1."""
    rng = torch.Generator().manual_seed(seed)
    values = torch.rand(height, width, generator=rng, dtype=torch.float64) + 0.1
    return values / values.sum()


def numbers(rows: int, columns: int, seed: int, rank: int | None = None) -> Tensor:
    """A random matrix in double precision, of full rank by default."""
    rng = torch.Generator().manual_seed(seed)
    rank = rank or min(rows, columns)
    left = torch.randn(rows, rank, generator=rng, dtype=torch.float64)
    return left @ torch.randn(rank, columns, generator=rng, dtype=torch.float64) / columns**0.5


def row_difference(x: Tensor) -> Tensor:
    """Each pixel minus the one above it, in PyTorch."""
    return x[..., 1:, :] - x[..., :-1, :]


def half_spectrum(x: Tensor) -> Tensor:
    """The orthonormal DFT of each row, complex, in PyTorch."""
    return torch.fft.rfft(x, norm="ortho")


def shifted_sum(x: Tensor) -> np.ndarray:
    """The sum of each pixel and its right neighbour, circular, outside PyTorch."""
    return x.numpy() + 0.5 * np.roll(x.numpy(), -1, axis=-1)


def shifted_sum_adjoint(y: Tensor) -> np.ndarray:
    return y.numpy() + 0.5 * np.roll(y.numpy(), 1, axis=-1)


@register
class ColumnMeans(LinearOperator):
    """The mean of each column, as a user would write it, without a solver."""

    name = "test-column-means"

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.image_shape[0], self.image_shape[2])

    def _forward(self, x: Tensor) -> Tensor:
        return x.mean(2)

    def _adjoint(self, y: Tensor) -> Tensor:
        height = self.image_shape[1]
        return y[:, :, None].expand(-1, -1, height, -1) / height


BLUR = UniformBlur(PAIR, size=3)
FOURIER = SubsampledFourier(PAIR, random_mask(PAIR, seed=7))
MASK = Inpaint(PAIR, random_mask(PAIR, seed=8, share=0.3))
SHIFTED = from_functions(PAIR, shifted_sum, shifted_sum_adjoint)

OPERATORS: dict[str, LinearOperator] = {
    "bicubic x2": BicubicDownsample(COLOUR, scale=2),
    "bicubic x1": BicubicDownsample(PAIR, scale=1),
    "uniform blur 3, mirrored": UniformBlur(COLOUR, size=3),
    "uniform blur 5, circular": UniformBlur(PAIR, size=5, border="circular"),
    "uniform blur 3, circular and singular": UniformBlur(COLOUR, size=3, border="circular"),
    "separable blur": SeparableBlur(PAIR, (0.1, 0.5, 0.3, 0.1), (0.2, 0.7, 0.1)),
    "FFT blur": FFTBlur(COLOUR, kernel(3, 4, seed=0)),
    "FFT blur, odd and singular": FFTBlur((2, 9, 5), torch.ones(3, 5) / 15),
    "Fourier, any mask": SubsampledFourier(COLOUR, random_mask(COLOUR, seed=1)),
    "Fourier, odd sides": SubsampledFourier(ODD, random_mask(ODD, seed=2)),
    "Fourier, few": SubsampledFourier(PAIR, random_mask(PAIR, seed=5, share=0.2)),
    "Fourier, drawn": SubsampledFourier.random(COLOUR, 0.5, seed=3),
    "Fourier, full": SubsampledFourier.random(PAIR, 1.0, seed=3),
    "Gaussian": Gaussian(COLOUR, 60, seed=4),
    "Gaussian, one row": Gaussian(PAIR, 1, seed=4),
    "inpaint": Inpaint(COLOUR, random_mask(COLOUR, seed=6)),
    "inpaint a box": Inpaint.box(PAIR, 1, 2, 3, 4),
    "denoise": Identity(COLOUR),
    "matrix, wide": Matrix((1, 4, 3), numbers(5, 12, seed=1)),
    "matrix, tall": Matrix((1, 3, 2), numbers(9, 6, seed=2)),
    "matrix, singular": Matrix((1, 3, 3), numbers(7, 9, seed=3, rank=4)),
    "a user's class": ColumnMeans(COLOUR),
    "blur, then downscaling": BicubicDownsample(PAIR, scale=2) @ BLUR,
    "blur, then a mask": MASK @ SeparableBlur(PAIR, (0.1, 0.5, 0.3, 0.1), (0.2, 0.7, 0.1)),
    "blur, then Fourier": FOURIER @ BLUR,
    "singular blur, then another": BLUR @ UniformBlur(PAIR, size=3, border="circular"),
    "three in a row": Compose((Gaussian((2, 4, 3), 9, seed=1), BicubicDownsample(PAIR, 2), BLUR)),
    "sum": Identity(PAIR) + BLUR,
    "difference": Identity(PAIR) - BLUR,
    "sum of complex": FOURIER + 0.5 * (FOURIER @ BLUR),
    "scaled": -2.5 * BicubicDownsample(COLOUR, scale=2),
    "scaled Gaussian": Gaussian(COLOUR, 20, seed=4) / 4,
    "scaled composition": 3 * (MASK @ BLUR),
    "stack of two exposures": Stack((BLUR, MASK)),
    "stack of real and complex": Stack((FOURIER, 0.5 * MASK)),
    "stack of compositions": Stack((BicubicDownsample(PAIR, 2) @ BLUR, Stack((MASK,)))),
    "functions, by autograd": from_functions(PAIR, row_difference),
    "functions, complex by autograd": from_functions(PAIR, half_spectrum),
    "functions, outside PyTorch": SHIFTED,
    "functions, composed": BicubicDownsample(PAIR, 2) @ SHIFTED,
}
HAVE_NO_SPEC = tuple(name for name in OPERATORS if name.startswith("functions"))


@contextmanager
def as_users_run_it() -> Iterator[None]:
    """Disable the tests' shape checker, which would raise before iagan's own checks."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def image(operator: LinearOperator, batch: int = 2, seed: int = 0, dtype=torch.float64) -> Tensor:
    """Random images for the operator."""
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(batch, *operator.image_shape, generator=rng, dtype=dtype)


def measurement(operator: LinearOperator, batch: int = 2, seed: int = 0) -> Tensor:
    """Random y in double precision, not necessarily in the range of A."""
    rng = torch.Generator().manual_seed(seed)
    dtype = torch.complex128 if operator.complex_valued else torch.float64
    return torch.randn(batch, *operator.measurement_shape, generator=rng, dtype=dtype)


def reals(y: Tensor) -> Tensor:
    """y as real vectors, `(batch, m)`; a complex number becomes two entries."""
    return (torch.view_as_real(y) if y.is_complex() else y).flatten(1)


def dense(operator: LinearOperator) -> Tensor:
    """The matrix of `forward` in real coordinates, `(m, n)`, column by column."""
    basis = torch.eye(operator.n, dtype=torch.float64).unflatten(1, operator.image_shape)
    return reals(operator(basis)).T
