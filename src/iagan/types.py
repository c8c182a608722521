"""Array types with shapes, checked at run time under pytest only (jaxtyping)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

Image = Float[Tensor, "batch channel height width"]
"""Images in [0, 1] (estimates may leave the range slightly), real."""

Measurement = Shaped[Tensor, "batch *measurement"]
"""Measurements y, real, or complex for Fourier coefficients."""

Latent = Float[Tensor, "batch *latent"]
"""Inputs of a generator, as its latent space describes."""

PerImage = Float[Tensor, " batch"]
"""One real number per image."""

ImageLike = Image | np.ndarray
"""An `Image`, or the same as a NumPy array."""

MeasurementLike = Measurement | np.ndarray
"""A `Measurement`, or the same as a NumPy array."""
