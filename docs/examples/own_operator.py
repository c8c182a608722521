"""Your own operator: compose operators, or write one in a few lines.

python docs/examples/own_operator.py
"""

import torch

import iagan
from iagan.images import astronaut
from iagan.operators import BicubicDownsample, Inpaint, LinearOperator, Stack, UniformBlur

shape = (3, 64, 64)
photo = astronaut()[..., 80:144, 60:124]


@iagan.operators.register  # so that observations with it can be saved and loaded
class Interlaced(LinearOperator):
    name = "interlaced"
    measurement_shape = (3, 32, 64)

    def _forward(self, x):
        return x[..., ::2, :]

    def _adjoint(self, y):
        return torch.stack((y, torch.zeros_like(y)), dim=3).flatten(2, 3)


# The same from a function: its adjoint by autograd, both checked once.
by_function = iagan.operators.from_functions(shape, lambda x: x[..., ::2, :])

blur = UniformBlur(shape, size=3)
camera = BicubicDownsample(shape, scale=2) @ blur  # blur first
exposures = Stack((Inpaint.random(shape, 0.7, seed=0) @ blur, 0.5 * Interlaced(shape)))

for A in (Interlaced(shape), by_function, camera, exposures):
    result = iagan.reconstruct(iagan.observe(photo, A), None, "pinv")
    print(f"{type(A).__name__}: PSNR {iagan.measure.psnr(result.image, photo):.1f} dB")

iagan.save_observation(iagan.observe(photo, Interlaced(shape)), "interlaced.npz")
