"""What a reconstruction gives back."""

from __future__ import annotations

import dataclasses as dc

import torch
from jaxtyping import Float, Int
from torch import Tensor

from iagan.observation import Observation
from iagan.operators.base import squared_norms
from iagan.types import Image, Latent, Measurement, PerImage


@dc.dataclass(frozen=True)
class Settings:
    """The resolved settings of one run; `iagan.reconstruction.presets` tells their source.

    **Arguments:**
    - `method`: its name.
    - `fidelity`: what is minimised: `"least-squares"`, $\\|y - A x\\|^2$ (eqs. 2 and 3), or
      `"back-projection"`, $\\|A^\\dagger(y - A x)\\|^2$ (Tirer and Giryes, arXiv 1906.06794).
    - `csgm_optimizer`: what minimises over z alone (eq. 2): `"adam"` or `"lbfgs"`.
    - `csgm_steps`: its iterations, an evaluation each. `csgm_rate`: Adam's rate there.
    - `csgm_plateau`: a start ends where ten iterations lowered the objective by no more than this
      share.
    - `steps`: iterations of the image-adaptive phase (eq. 3), or of DIP.
    - `noise_share`: end IAGAN, image by image, where the residual is this share of the noise floor;
      0: after all iterations.
    - `latent_rate`, `weight_rate`: Adam's rates for z and θ in that phase; DIP uses the latter.
    - `restarts`: starts of z; the one of smallest objective goes on.
    - `latent_start`: what the first start is: `"random"`, as all others, or `"encoder"`, the
      prior's of the naive picture (`iagan.reconstruction.csgm.encoded_latents`).
    - `race_steps`: of CSGM's iterations, those after which the worse half of an image's starts is
      given up, and again after as many more, until one is left; None: all starts run to the end.
    - `latent_pull`: of CSGM, how strongly the law of z holds it back
      (`iagan.reconstruction.csgm.improbability`); 0: not at all, as in the paper.
    - `seed`: one number, or one for every image. A number alone stands for every image, so that
      an image's result does not depend on the batch it came in.
    - `bounded_latent`: z is put back to where its law has its mass after every step
      (`LatentLaw.nearest`); the paper lets it go anywhere.
    - `input_noise`: DIP's perturbation of its input at every step.
    """

    method: str
    fidelity: str = "least-squares"
    csgm_optimizer: str = "adam"
    csgm_steps: int = 1600
    csgm_rate: float = 0.1
    csgm_plateau: float = 0.0
    steps: int = 500
    noise_share: float = 0.0
    latent_rate: float = 1e-4
    weight_rate: float = 1e-4
    restarts: int = 1
    latent_start: str = "random"
    race_steps: int | None = None
    latent_pull: float = 0.0
    seed: int | tuple[int, ...] = 0
    bounded_latent: bool = False
    input_noise: float = 0.0


@dc.dataclass(frozen=True)
class Reconstruction:
    r"""An estimate x̂ of the images behind an observation, and how far to trust it.

    **Arguments:** (b images)
    - `image`: `(b, c, h, w)`, float, nominally in [0, 1], not clamped.
    - `latent`: `(b, *latent)` at the kept iterate, or None (naive, pinv, DIP).
    - `residual`: $\|A\hat x - y\|$ of `image`, `(b,)`.
    - `relative_residual`: the same over $\|y\|$.
    - `noise_floor`: $\sigma\sqrt{m}$, what the residual of the truth would be, about.
    - `trace`: `(b, evaluations)`, the objective that `settings.fidelity` names at every iterate of
      the kept start, phases one after another; in CSGM times what `settings.latent_pull` asks for.
    - `iterations`: taken for each image, all phases together.
    - `seconds`: wall-clock time of the batch.
    - `settings`: as resolved.
    - `messages`: what the user should know, one line each.
    """

    image: Image
    latent: Latent | None
    residual: PerImage
    relative_residual: PerImage
    noise_floor: float
    trace: Float[Tensor, "batch evaluations"]
    iterations: Int[Tensor, " batch"]
    seconds: float
    settings: Settings
    messages: tuple[str, ...] = ()


def residual_norms(image: Tensor, observation: Observation) -> tuple[Tensor, Tensor]:
    r"""$\|A x - y\|$ and the same over $\|y\|$, per image, in double precision where there is."""
    x, y = widen(image), widen(observation.y)
    gap = norms(observation.operator(x) - y)
    return gap, gap / norms(y).clamp_min(torch.finfo(gap.dtype).tiny)


def widen(tensor: Tensor) -> Tensor:
    """Double precision, except on Apple's GPU, which has none."""
    if tensor.device.type == "mps":
        return tensor
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def norms(y: Measurement) -> PerImage:
    """Euclidean norm of each image's measurements, `(batch,)`."""
    return squared_norms(y).sqrt()
