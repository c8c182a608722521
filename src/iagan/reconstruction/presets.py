"""The paper's settings as data (arXiv 1906.05284, Experiments; DIP: arXiv 1711.10925, its code).

| prior | CSGM | IAGAN, compressed sensing | IAGAN, other tasks | rate of z | rate of θ |
| ----- | ---- | ------------------------- | ------------------ | --------- | --------- |
| BEGAN | 1600 | 600                       | 500                | 1e-4      | 1e-4      |
| PGGAN | 1800 | 500                       | 300                | 1e-4      | 1e-3      |

CSGM's rate is 0.1. With noise IAGAN takes half of its iterations and DIP a quarter. The paper names
no number for deblurring; super-resolution's is taken. Any other generator gets BEGAN's row.

The paper chooses rates prior by prior, and so do we for what `iagan train` makes, a BEGAN whose
latent is normal: its activations are larger than the published ones', so that the same rates fit
the noise within some tens of iterations. With noise, IAGAN adapts a single convolution of it, the
last one at half of the image's size, at 4e-4, and z at 1e-2. Found on four images that were held
out of the training of `faces`, Fourier 0.3 with noise 10/255, where IAGAN stops (squeeze LPIPS):
all weights at 1e-4, z at 1e-4, 29.28 dB / 0.059; both convolutions of that size at 3e-4, 29.85 /
0.066; the one, 30.06 / 0.069; the one with z at 1e-2, 30.21 / 0.063 (after 400 steps of Adam on z).

What the paper reports with its rows (CelebA, BEGAN-128, PSNR in dB / LPIPS): ×4 CSGM 20.51 / 0.235,
IAGAN 27.16 / 0.092; Fourier 0.3 with 10/255 CSGM 20.12 / 0.246, IAGAN 25.50 / 0.092; 9×9 blur with
10/255 CSGM 20.37 / 0.241, IAGAN 26.15 / 0.110.
"""

from __future__ import annotations

import dataclasses as dc

from torch import nn

from iagan.generators import Began, Generator
from iagan.operators import BicubicDownsample, LinearOperator
from iagan.reconstruction.result import Settings

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


NOISY_LATENT_RATE, NOISY_WEIGHT_RATE = 1e-2, 4e-4
"""With a prior from `iagan train`: of z, and of the convolution that is adapted (see above)."""


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
    settings = Settings(
        method,
        csgm_steps=row.csgm_steps,
        steps=steps // 2 if noisy else steps,
        latent_rate=row.latent_rate,
        weight_rate=row.weight_rate,
    )
    if noisy and prior and _is_from_autoencoder(prior):
        return dc.replace(
            settings,
            adapted=_last_at_half_size(prior.module),
            latent_rate=NOISY_LATENT_RATE,
            weight_rate=NOISY_WEIGHT_RATE,
        )
    return settings


def fast_settings(
    method: str, operator: LinearOperator, noise_std: float, prior: Generator | None
) -> Settings:
    """What `reconstruct` does if nobody asks for the paper's iterations.

    CSGM takes a thirty-second of them, by L-BFGS; more fit y better and recover no more. With
    noise, IAGAN stops as soon as the residual is what the noise alone would leave,
    ‖y - A x‖ ≤ σ √m (Morozov's discrepancy principle): from there on it fits the noise. Without, it
    takes half of its iterations: the others change less than 0.05 dB and 0.005 LPIPS. DIP is as it
    was.
    """
    settings = paper_settings(method, operator, noise_std, prior)
    if method == "dip":
        return settings
    return dc.replace(
        settings,
        csgm_optimizer="lbfgs",
        csgm_steps=settings.csgm_steps // 32,
        steps=settings.steps if noise_std > 0 else settings.steps // 2,
        stop_at_noise=True,
    )


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


def _is_from_autoencoder(prior: Generator) -> bool:
    return isinstance(prior.module, Began) and prior.latent.law == "normal"


def _last_at_half_size(module: nn.Module) -> tuple[str, ...]:
    assert isinstance(module, Began)
    return (f"convs.{len(module.convs) - 3}.",)
