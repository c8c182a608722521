"""The paper's settings as data (arXiv 1906.05284, Experiments; DIP: arXiv 1711.10925, its code).

| prior | CSGM | IAGAN, compressed sensing | IAGAN, other tasks | rate of z | rate of θ |
| ----- | ---- | ------------------------- | ------------------ | --------- | --------- |
| BEGAN | 1600 | 600                       | 500                | 1e-4      | 1e-4      |
| PGGAN | 1800 | 500                       | 300                | 1e-4      | 1e-3      |

CSGM's rate is 0.1. With noise IAGAN takes half of its iterations and DIP a quarter. The paper names
no number for deblurring; super-resolution's is taken. Any other generator gets BEGAN's row.

What the paper reports with its rows (CelebA, BEGAN-128, PSNR in dB / LPIPS): ×4 CSGM 20.51 / 0.235,
IAGAN 27.16 / 0.092; Fourier 0.3 with 10/255 CSGM 20.12 / 0.246, IAGAN 25.50 / 0.092; 9×9 blur with
10/255 CSGM 20.37 / 0.241, IAGAN 26.15 / 0.110.
"""

from __future__ import annotations

import dataclasses as dc

from iagan.operators import BicubicDownsample, LinearOperator
from iagan.operators.separable import Separable
from iagan.priors import Generator
from iagan.reconstruction.result import Settings

NEED_NO_PRIOR = frozenset({"naive", "pinv", "dip"})
"""Methods."""
COMPRESSED_SENSING = frozenset({"fourier", "gaussian"})


@dc.dataclass(frozen=True)
class Preset:
    """One row of the table above."""

    csgm_steps: int
    sensing_steps: int
    other_steps: int
    latent_rate: float
    weight_rate: float


PRESETS = {
    "began": Preset(1600, 600, 500, latent_rate=1e-4, weight_rate=1e-4),
    "pggan": Preset(1800, 500, 300, latent_rate=1e-4, weight_rate=1e-3),
}


@dc.dataclass(frozen=True)
class DipPreset:
    """DIP's iterations and the perturbation of its input; its rate is 0.01 for every task."""

    steps: int
    input_noise: float


DIP_RATE = 0.01
DIP_DEFAULT = DipPreset(3000, 1 / 30)
"""DIP's denoising; also for the tasks that its authors have no setting for."""
DIP_PRESETS = {
    "bicubic": DipPreset(2000, 0.03),
    "bicubic-8": DipPreset(4000, 0.05),
    "inpaint": DipPreset(6000, 0.03),
}


def paper_settings(
    method: str, operator: LinearOperator, noise_std: float, prior: Generator | None
) -> Settings:
    """The paper's settings for this method, task, noise and prior."""
    noisy = noise_std > 0
    if method == "dip":
        return _dip_settings(operator, noisy)
    row = PRESETS.get(prior.metadata.architecture if prior else "", PRESETS["began"])
    sensing = operator.name in COMPRESSED_SENSING
    steps = row.sensing_steps if sensing else row.other_steps
    return Settings(
        method,
        csgm_steps=row.csgm_steps,
        steps=steps // 2 if noisy else steps,
        latent_rate=row.latent_rate,
        weight_rate=row.weight_rate,
    )


PLATEAU = 1e-3
"""Of a fast CSGM's objective: less of it gained in ten iterations ends a start."""
RACE_STEPS = 15
"""Iterations after which a fast CSGM gives up the worse half of an image's starts."""
INDEPENDENT = 400
"""How many independent numbers y - A G(z) is worth to a fast CSGM, however long y is: what a
generator cannot make is wrong in whole regions. Found on images held out of the training of `faces`
(benchmarks/NOTES.md); shorter y are worth their length."""
UNIFORM_PULL = 1e-4
"""What holds a uniform z in a fast CSGM, found likewise with the published BEGAN-64: where nothing
does, L-BFGS leaves the cube far behind, which costs LPIPS, also that of IAGAN from there."""
WELL_CONDITIONED = 10.0
"""Largest over smallest singular value, at most, where a fast effort without noise takes A†, which
must not amplify the errors that y has all the same, as from rounding to 8 bits. Of downscaling by 2
to 16 it is 2, of a 9×9 blur 130,000."""
NOISE_SHARE = 0.98
"""Of the noise floor, where a fast IAGAN ends: what it fits takes some of the noise with it."""

TAPERED_RATE, TAPERED_RATE_Z = 2e-4, 1e-2
"""Of a fast IAGAN's weights and z with a `Tapered` prior, for half the iterations: as good in LPIPS
as 1e-4 for both and all of them, and 0.1 to 0.5 dB better (benchmarks/NOTES.md)."""
ENCODER_STEPS = 30
"""Of a fast CSGM from the encoder's start: too few to leave the region of real codes, so that no
pull is needed, and by then y is fitted better than from random starts (benchmarks/NOTES.md)."""


def fast_settings(
    method: str, operator: LinearOperator, noise_std: float, prior: Generator | None
) -> Settings:
    """What `reconstruct` does if nobody asks for the paper's iterations.

    CSGM takes at most a tenth of them, by L-BFGS, and ends where the objective stops falling;
    several starts are raced. Where the length of z matters (a PGGAN forgets it), the law of z has
    its say: without, z fits noise and leaves the region that G was trained on.

    With noise, IAGAN stops as soon as the residual is about what the noise alone would leave,
    ‖y - A x‖ ≤ 0.98 σ √m (Morozov's discrepancy principle): beyond, it fits the noise. Without, it
    takes half of its iterations: the others change less than 0.05 dB and 0.005 LPIPS. Or a third of
    them, where A is separable and well-conditioned: there ‖A†(y - A x)‖ is minimised. What has no
    prior is as it was.

    A prior with an encoder starts CSGM from there, without any pull and for `ENCODER_STEPS` alone.
    """
    settings = paper_settings(method, operator, noise_std, prior)
    if method in NEED_NO_PRIOR:
        return settings
    back_projection = noise_std == 0 and _has_a_tame_inverse(operator)
    steps = settings.steps
    if noise_std == 0:
        steps = steps // 3 if back_projection else steps // 2
    if prior is not None and prior.metadata.architecture == "tapered":
        settings = dc.replace(settings, latent_rate=TAPERED_RATE_Z, weight_rate=TAPERED_RATE)
        steps //= 2
    encoder = prior is not None and prior.encoder is not None
    return dc.replace(
        settings,
        latent_start="encoder" if encoder else "random",
        fidelity="back-projection" if back_projection else "least-squares",
        csgm_optimizer="lbfgs",
        csgm_steps=ENCODER_STEPS if encoder else settings.csgm_steps // 10,
        csgm_plateau=PLATEAU,
        race_steps=RACE_STEPS,
        latent_pull=0.0 if encoder else _pull(operator, prior),
        steps=steps,
        noise_share=NOISE_SHARE,
    )


def _has_a_tame_inverse(operator: LinearOperator) -> bool:
    """Whether A† takes as little time as A, and amplifies little. Where A Aᵀ is about a multiple of
    the identity, as with Gaussian and Fourier measurements, it would change nothing.
    """
    if not isinstance(operator, Separable):
        return False
    values = operator.singular_values()
    return float(values[0]) <= WELL_CONDITIONED * float(values[-1])


def _pull(operator: LinearOperator, prior: Generator | None) -> float:
    if prior is None or prior.metadata.architecture == "pggan":
        return 0.0
    normal = prior.latent.law == "normal"
    return 1 / min(operator.m, INDEPENDENT) if normal else UNIFORM_PULL


EFFORTS = {"fast": fast_settings, "paper": paper_settings}
"""By name: how far a reconstruction goes."""


def _dip_settings(operator: LinearOperator, noisy: bool) -> Settings:
    large = isinstance(operator, BicubicDownsample) and operator.scale >= 8
    preset = DIP_PRESETS.get("bicubic-8" if large else operator.name, DIP_DEFAULT)
    return Settings(
        "dip",
        steps=preset.steps // 4 if noisy else preset.steps,
        weight_rate=DIP_RATE,
        input_noise=preset.input_noise,
    )
