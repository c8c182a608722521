"""What the camera does: the operators A of y = A x + e."""

from iagan.operators.base import LinearOperator
from iagan.operators.blur import FFTBlur, SeparableBlur, UniformBlur
from iagan.operators.deepinv_bridge import from_physics, to_physics
from iagan.operators.fourier import SubsampledFourier
from iagan.operators.gaussian import Gaussian
from iagan.operators.identity import Identity
from iagan.operators.inpaint import Inpaint
from iagan.operators.linalg import Solution, adjoint_gap, conjugate_gradient, inner, least_squares
from iagan.operators.registry import OPERATORS, from_spec
from iagan.operators.resize import BicubicDownsample

__all__ = [
    "OPERATORS",
    "BicubicDownsample",
    "FFTBlur",
    "Gaussian",
    "Identity",
    "Inpaint",
    "LinearOperator",
    "SeparableBlur",
    "Solution",
    "SubsampledFourier",
    "UniformBlur",
    "adjoint_gap",
    "conjugate_gradient",
    "from_physics",
    "from_spec",
    "inner",
    "least_squares",
    "to_physics",
]
