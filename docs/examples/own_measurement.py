"""A real measurement: y, its operator, and its noise level.

python docs/examples/own_measurement.py
"""

import torch

import iagan
from iagan.images import astronaut

# From the camera: a photograph with a scratch. y has the remaining pixels.
photo = astronaut()[..., 65:177, 33:145]
mask = torch.ones(112, 112, dtype=torch.bool)
mask[40:44, :] = False
A = iagan.operators.Inpaint((3, 112, 112), mask)
y = photo.flatten(2)[..., mask.flatten()]
observation = iagan.Observation(y, A, noise_std=0.0)

# DIP needs no prior. A real run needs more steps: pass "dip", which takes its authors' 6000 for
# inpainting; iagan.DIP() has 3000, those for tasks in general.
naive, dip = iagan.reconstruct_all(observation, None, [iagan.Naive(), iagan.DIP(steps=3)])
for result in (naive, dip):
    hole = (result.image - photo)[..., ~mask].square().mean().sqrt()
    print(f"{result.method.name}: error in the scratch {float(hole):.3f}")

iagan.save_observation(observation, "scratched.npz")  # iagan reconstruct scratched.npz …
