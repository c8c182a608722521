"""Measurement operators: the A of y = A x + e."""

from iagan.operators.base import LinearOperator
from iagan.operators.blur import FFTBlur, SeparableBlur, UniformBlur
from iagan.operators.composite import Compose, Stack, Sum
from iagan.operators.deepinv_bridge import as_operator, from_physics, to_physics
from iagan.operators.fourier import SubsampledFourier
from iagan.operators.functions import from_functions
from iagan.operators.gaussian import Gaussian
from iagan.operators.identity import Identity
from iagan.operators.inpaint import Inpaint
from iagan.operators.laws import adjoint_gap, linearity_gap
from iagan.operators.linalg import Solution, conjugate_gradient, inner, least_squares
from iagan.operators.matrix import Matrix
from iagan.operators.registry import OPERATORS, from_spec, register
from iagan.operators.resize import BicubicDownsample
from iagan.operators.scaled import Scaled

__all__ = [
    "OPERATORS",
    "BicubicDownsample",
    "Compose",
    "FFTBlur",
    "Gaussian",
    "Identity",
    "Inpaint",
    "LinearOperator",
    "Matrix",
    "Scaled",
    "SeparableBlur",
    "Solution",
    "Stack",
    "SubsampledFourier",
    "Sum",
    "UniformBlur",
    "adjoint_gap",
    "as_operator",
    "conjugate_gradient",
    "from_functions",
    "from_physics",
    "from_spec",
    "inner",
    "least_squares",
    "linearity_gap",
    "register",
    "to_physics",
]
