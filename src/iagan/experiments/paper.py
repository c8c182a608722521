"""The experiments of arXiv 1906.05284 as data, and the numbers that it reports.

Iterations and learning rates are in `iagan.presets`.
"""

from __future__ import annotations

import csv
import dataclasses as dc
from importlib import resources

from iagan.operators import (
    BicubicDownsample,
    Gaussian,
    LinearOperator,
    SubsampledFourier,
    UniformBlur,
)
from iagan.operators.fourier import Sampling

MATRIX_SEED = 0
"""Seed of the Gaussian matrices, one per ratio, shared by all images."""
MASKS = 8
"""Number of random Fourier masks among which the images are divided; masks differ by several dB."""


@dc.dataclass(frozen=True)
class Setting:
    """One column of a table: the measurement.

    **Arguments:**
    - `name`: the name in our tables: `"sr-4"`, `"fourier-0.3"`, `"deblur-u9"`,
      `"gaussian-0.122"`.
    - `operator`: a key of `iagan.operators.OPERATORS`.
    - `amount`: scale, ratio or kernel size.
    - `noise_255`: standard deviation of the noise, times 255.
    - `shift`: downward shift of the crop, in pixels of an aligned photograph.
    - `sampling`: sampling of Fourier masks, see `SubsampledFourier.random`.
    """

    name: str
    operator: str
    amount: float
    noise_255: float
    shift: int = 0
    sampling: Sampling = "scattered"

    @property
    def key(self) -> str:
        """Name and noise, for records and tables."""
        return f"{self.name}-noise{self.noise_255:g}" if self.noise_255 else self.name

    @property
    def masks(self) -> int:
        """Number of operators; image i of a run uses operator i mod `masks`."""
        return MASKS if self.operator == "fourier" else 1

    def build(self, image_shape: tuple[int, int, int], mask: int = 0) -> LinearOperator:
        """The operator for images of this shape; `mask` is its seed if there are several."""
        if self.operator == "bicubic":
            return BicubicDownsample(image_shape, scale=int(self.amount))
        if self.operator == "blur":
            return UniformBlur(image_shape, size=int(self.amount))
        if self.operator == "gaussian":
            return Gaussian.from_ratio(image_shape, self.amount, MATRIX_SEED)
        return SubsampledFourier.random(image_shape, self.amount, mask, self.sampling)


@dc.dataclass(frozen=True)
class Experiment:
    """One table or figure: its title, settings and methods."""

    title: str
    settings: tuple[Setting, ...]
    methods: tuple[str, ...]


_NOISY = ("naive", "dip", "csgm", "iagan")
_CLEAN = ("naive", "dip", "csgm", "csgm-bp", "iagan", "iagan-bp")

MEASURED_SHARES = (0.02, 0.05, 0.122, 0.25, 0.4, 0.61, 0.8, 0.98)
"""Ratios m/n of Figure 2; the paper shows the images of 0.122 and 0.61."""

EXPERIMENTS = {
    "table1": Experiment(
        "Compressed sensing with subsampled Fourier measurements, noise 10/255",
        (Setting("fourier-0.3", "fourier", 0.3, 10), Setting("fourier-0.5", "fourier", 0.5, 10)),
        _NOISY,
    ),
    "table1-compact": Experiment(
        "The same with masks that keep nearly all low frequencies (not the paper's masks)",
        (
            Setting("fourier-0.3-compact", "fourier", 0.3, 10, sampling="compact"),
            Setting("fourier-0.5-compact", "fourier", 0.5, 10, sampling="compact"),
        ),
        _NOISY,
    ),
    "table2": Experiment(
        "Super-resolution with bicubic downscaling, no noise",
        (Setting("sr-4", "bicubic", 4, 0), Setting("sr-8", "bicubic", 8, 0)),
        _CLEAN,
    ),
    "table3": Experiment(
        "Super-resolution with bicubic downscaling, noise 10/255",
        (Setting("sr-4", "bicubic", 4, 10), Setting("sr-8", "bicubic", 8, 10)),
        _NOISY,
    ),
    "table4": Experiment(
        "Deblurring with a 9×9 uniform filter, noise 10/255",
        (Setting("deblur-u9", "blur", 9, 10),),
        _NOISY,
    ),
    "misaligned": Experiment(
        "Super-resolution ×4 of vertically shifted images, no noise (Figure 7)",
        (Setting("sr-4-shifted", "bicubic", 4, 0, shift=6),),
        ("naive", "csgm", "iagan"),
    ),
    "figure2": Experiment(
        "Gaussian measurements, no noise (Figure 2)",
        tuple(Setting(f"gaussian-{share:g}", "gaussian", share, 0) for share in MEASURED_SHARES),
        ("csgm", "csgm-bp", "iagan", "iagan-bp"),
    ),
    "runtime": Experiment(
        "Seconds per image, Fourier 0.5, noise 10/255",
        (Setting("fourier-0.5", "fourier", 0.5, 10),),
        ("dip", "csgm", "iagan"),
    ),
}
"""The tables and figures of the paper at the scales of its CelebA rows."""

PAPER_SECONDS = {"dip": 100.0, "csgm": 30.0, "iagan": 35.0}
"""Seconds per image of 128×128 on a 2080 Ti, from "Inference run-time"."""


def published(setting: Setting, method: str, dataset: str = "celeba") -> tuple[float, float] | None:
    """The paper's PSNR in dB and LPIPS, or None without such an entry."""
    text = (resources.files("iagan") / "data" / "paper_tables.csv").read_text("utf-8")
    for row in csv.DictReader(text.splitlines()):
        key = (row["dataset"], row["setting"], float(row["noise_255"]), row["method"])
        if key == (dataset, setting.name, setting.noise_255, method):
            return float(row["psnr_db"]), float(row["lpips"])
    return None
