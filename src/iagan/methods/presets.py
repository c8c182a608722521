"""Presets: methods by name, with the paper's settings or fast ones.

The paper's iterations and rates (arXiv 1906.05284, Experiments; DIP: arXiv 1711.10925, its code):

| prior | CSGM | IAGAN, compressed sensing | IAGAN, other tasks | rate of z | rate of θ |
| ----- | ---- | ------------------------- | ------------------ | --------- | --------- |
| BEGAN | 1600 | 600                       | 500                | 1e-4      | 1e-4      |
| PGGAN | 1800 | 500                       | 300                | 1e-4      | 1e-3      |

CSGM's rate is 0.1. With noise IAGAN takes half of its iterations and DIP a quarter. The paper does
not state deblurring's iterations; super-resolution's are used. Other generators use BEGAN's row.

The paper's results with these settings (CelebA, BEGAN-128, PSNR in dB / LPIPS): ×4 CSGM 20.51 /
0.235, IAGAN 27.16 / 0.092; Fourier 0.3 with 10/255 CSGM 20.12 / 0.246, IAGAN 25.50 / 0.092; 9×9
blur with 10/255 CSGM 20.37 / 0.241, IAGAN 26.15 / 0.110.
"""

from __future__ import annotations

import dataclasses as dc
from typing import Any, TypeVar

from iagan.errors import SettingError
from iagan.methods.base import Method
from iagan.methods.csgm import CSGM
from iagan.methods.dip import DIP
from iagan.methods.iagan import IAGAN
from iagan.methods.projection import (
    BackProjected,
    Naive,
    PseudoInverse,
    is_nearly_noiseless,
)
from iagan.observation import Observation
from iagan.operators import BicubicDownsample, LinearOperator
from iagan.operators.separable import Separable
from iagan.priors import Generator

__all__ = [
    "EFFORTS",
    "NAMES",
    "adjust",
    "check_effort",
    "default_name",
    "fast",
    "paper",
    "preset",
]

NAMES = ("naive", "pinv", "csgm", "csgm-bp", "iagan", "iagan-bp", "dip")
"""Names of the presets of `paper` and `fast`."""
COMPRESSED_SENSING = frozenset({"fourier", "gaussian"})
"""Operators whose IAGAN takes the iterations of compressed sensing."""


@dc.dataclass(frozen=True)
class Row:
    """One row of the table above."""

    csgm_steps: int
    sensing_steps: int
    other_steps: int
    latent_rate: float
    weight_rate: float


ROWS = {
    "began": Row(1600, 600, 500, latent_rate=1e-4, weight_rate=1e-4),
    "pggan": Row(1800, 500, 300, latent_rate=1e-4, weight_rate=1e-3),
}

DIP_DEFAULT = (3000, 1 / 30)
"""DIP's iterations and input noise for denoising and for tasks without a setting of its authors."""
DIP_ROWS = {"bicubic": (2000, 0.03), "bicubic-8": (4000, 0.05), "inpaint": (6000, 0.03)}

PLATEAU = 1e-3
"""Relative decrease of the objective in ten iterations at which a start of a fast CSGM stops."""
HALVING_STEPS = 15
"""Iterations per round of successive halving in a fast CSGM."""
INDEPENDENT = 400
"""Maximum number of independent values assumed of y - A G(z) in a fast CSGM, however long y is,
since a generator's errors are spatially correlated. Tuned on images held out of the training of
`faces-64` (benchmarks/NOTES.md)."""
WELL_CONDITIONED = 10.0
"""Largest condition number for which the fast effort minimises ‖A†(y - A x)‖ without noise: A† must
not amplify remaining errors of y, such as rounding to 8 bits. Downscaling by 2 to 16 has 2, a 9×9
blur 130,000."""
NOISE_SHARE = 0.98
"""Fraction of the noise floor at which a fast IAGAN stops; below 1, as it fits some of the
noise."""
TAPERED_RATE, TAPERED_RATE_Z = 2e-4, 1e-2
"""Learning rates of the weights and of z in a fast IAGAN with a `Tapered` prior. In half the
iterations they equal 1e-4 for both in LPIPS and gain 0.1 to 0.5 dB (benchmarks/NOTES.md)."""
ENCODER_STEPS = 30
"""Iterations of a fast CSGM from the encoder's start: too few to leave the region of real latents,
so no penalty is needed, and a better fit of y than from random starts (benchmarks/NOTES.md)."""


def default_name(observation: Observation) -> str:
    """The paper's choice: IAGAN-BP without noise, else IAGAN (arXiv 1906.05284, after eq. 10).

    Noise that remains invisible after A† counts as none (`is_nearly_noiseless`).
    """
    return "iagan-bp" if is_nearly_noiseless(observation) else "iagan"


def paper(name: str, observation: Observation, prior: Generator | None = None) -> Method:
    """The method `name` with the paper's settings for this operator, noise and prior.

    **Raises:** `SettingError` for a name that is not in `NAMES`.
    """
    _check_name(name)
    operator, noisy = observation.operator, not is_nearly_noiseless(observation)
    if name == "dip":
        return _dip(operator, noisy)
    row = ROWS.get(prior.about.architecture if prior else "", ROWS["began"])
    sensing = operator.name in COMPRESSED_SENSING
    steps = row.sensing_steps if sensing else row.other_steps
    csgm = CSGM(steps=row.csgm_steps)
    iagan = IAGAN(csgm, steps // 2 if noisy else steps, row.latent_rate, row.weight_rate)
    return _named(name, csgm, iagan)


def fast(name: str, observation: Observation, prior: Generator | None = None) -> Method:
    """The method `name` with fast settings, the default of `reconstruct`.

    CSGM takes at most a tenth of the paper's iterations, by L-BFGS, stops on a plateau of the
    objective, and runs several starts by successive halving. The latent space's penalty on z, if it
    has one, is added to the objective: without it, z fits noise and leaves the region that G was
    trained on. A prior with an encoder starts CSGM there, without the penalty, for `ENCODER_STEPS`.

    With noise, IAGAN stops once the residual reaches the noise floor, ‖y - A x‖ ≤ 0.98 σ √m
    (Morozov's discrepancy principle): below that, it fits the noise. Without noise it takes half of
    the paper's iterations, since the rest changes less than 0.05 dB and 0.005 LPIPS; or a third if
    A is separable and well-conditioned, and then ‖A†(y - A x)‖ is minimised. Methods without a
    prior have the paper's settings.

    **Raises:** `SettingError` for a name that is not in `NAMES`.
    """
    papers = paper("iagan", observation, prior)
    if name not in ("csgm", "csgm-bp", "iagan", "iagan-bp"):
        return paper(name, observation, prior)
    assert isinstance(papers, IAGAN) and isinstance(papers.start, CSGM)
    noisy, operator = not is_nearly_noiseless(observation), observation.operator
    back_projection = not noisy and _is_well_conditioned(operator)
    steps = papers.steps
    if not noisy:
        steps = steps // 3 if back_projection else steps // 2
    latent_rate, weight_rate = papers.latent_rate, papers.weight_rate
    if prior is not None and prior.about.architecture == "tapered":
        latent_rate, weight_rate, steps = TAPERED_RATE_Z, TAPERED_RATE, steps // 2
    encoder = prior is not None and prior.encoder is not None
    csgm = CSGM(
        steps=ENCODER_STEPS if encoder else papers.start.steps // 10,
        optimizer="lbfgs",
        halving_steps=HALVING_STEPS,
        first_start="encoder" if encoder else "random",
        plateau=PLATEAU,
        fidelity="back-projection" if back_projection else "least-squares",
        latent_prior_weight=0.0 if encoder else _latent_prior_weight(operator, prior),
    )
    share = NOISE_SHARE if noisy or not observation.is_noisy else 0.0
    iagan = IAGAN(csgm, steps, latent_rate, weight_rate, csgm.fidelity, share)
    return _named(name, csgm, iagan)


EFFORTS = {"fast": fast, "paper": paper}
"""Efforts by name: functions of a preset's name, an observation and a prior."""


def preset(
    name: str | None, observation: Observation, prior: Generator | None, effort: str = "fast"
) -> Method:
    """The method `name`, or the default one, with an effort of `EFFORTS`.

    **Raises:** `SettingError` for an unknown name.
    """
    check_effort(effort)
    chosen = default_name(observation) if name is None else name
    return EFFORTS[effort](chosen, observation, prior)


def check_effort(effort: object) -> None:
    """**Raises:** `SettingError` for an effort that is not known."""
    if not isinstance(effort, str) or effort not in EFFORTS:
        raise SettingError(
            f"reconstruct expects effort as one of {', '.join(EFFORTS)}; got {effort!r:.80}."
        )


AnyMethod = TypeVar("AnyMethod", bound=Method)


def adjust(
    method: AnyMethod,
    *,
    csgm_steps: int | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    bounded: bool | None = None,
    share: float = 1.0,
) -> AnyMethod:
    """The same method with some settings changed; None keeps a setting.

    **Arguments:**
    - `csgm_steps`, `restarts`: steps and restarts of every `CSGM` in it.
    - `steps`: steps of `IAGAN` and `DIP`.
    - `bounded`: `bounded` of `CSGM` and `IAGAN`.
    - `share`: factor on all iteration counts not given, rounded to at least one.
    """
    inner = {
        field.name: adjust(
            value,
            csgm_steps=csgm_steps,
            steps=steps,
            restarts=restarts,
            bounded=bounded,
            share=share,
        )
        for field in dc.fields(method)  # type: ignore[arg-type]
        if isinstance(value := getattr(method, field.name), Method)
    }
    given: dict[str, Any] = {"bounded": bounded}
    if isinstance(method, CSGM):
        given |= {"steps": csgm_steps, "restarts": restarts}
    elif isinstance(method, IAGAN | DIP):
        given |= {"steps": steps}
    names = {field.name for field in dc.fields(method)}  # type: ignore[arg-type]
    if "steps" in names and given.get("steps") is None and share != 1:
        given["steps"] = max(1, round(share * method.steps))  # type: ignore[attr-defined]
    chosen = {name: v for name, v in given.items() if v is not None and name in names}
    return dc.replace(method, **inner, **chosen)  # type: ignore[type-var]


def _named(name: str, csgm: CSGM, iagan: IAGAN) -> Method:
    methods: dict[str, Method] = {
        "naive": Naive(),
        "pinv": PseudoInverse(),
        "csgm": csgm,
        "csgm-bp": BackProjected(csgm),
        "iagan": iagan,
        "iagan-bp": BackProjected(iagan),
    }
    return methods[name]


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise SettingError(
            f"reconstruct expects method as one of {', '.join(NAMES)}, or an iagan.methods.Method; "
            f"got {name!r:.80}."
        )


def _is_well_conditioned(operator: LinearOperator) -> bool:
    """Whether A† is as fast as A and amplifies little. Where A Aᵀ is nearly a multiple of the
    identity, as for Gaussian and Fourier measurements, minimising ‖A†(y - A x)‖ would gain nothing.
    """
    if not isinstance(operator, Separable):
        return False
    values = operator.singular_values()
    return float(values[0]) <= WELL_CONDITIONED * float(values[-1])


def _latent_prior_weight(operator: LinearOperator, prior: Generator | None) -> float:
    if prior is None:
        return 0.0
    weight = prior.latent.penalty_weight
    return 1 / min(operator.m, INDEPENDENT) if weight is None else weight


def _dip(operator: LinearOperator, noisy: bool) -> DIP:
    large = isinstance(operator, BicubicDownsample) and operator.scale >= 8
    steps, input_noise = DIP_ROWS.get("bicubic-8" if large else operator.name, DIP_DEFAULT)
    return DIP(steps // 4 if noisy else steps, input_noise=input_noise)


def __dir__() -> list[str]:
    return __all__
