"""Subsampled Fourier measurements, as in accelerated MRI."""

from __future__ import annotations

import dataclasses as dc
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from iagan.errors import SettingError
from iagan.operators.base import LinearOperator
from iagan.operators.checks import as_int, count_at, image_shape_for, mask_for
from iagan.types import Image, Measurement, MeasurementLike

Sampling = Literal["compact", "scattered"]
"""Distribution of a random mask's coefficients around DC."""
DENSER = 0.3
"""Excess of a mask's density around its centre over that around `[0, 0]` from which `caveats`
warns. Uniformly random masks stay below it from 64×64 on."""


@dc.dataclass(frozen=True, eq=False)
class SubsampledFourier(LinearOperator):
    r"""Keep some of the h·w coefficients of each channel's orthonormal 2-D DFT F.

    $$A x = M F x, \qquad A^\top y = \operatorname{Re}(F^* M^\top y), \qquad
      A^\dagger y = \operatorname{Re}(F^* M^\top W y)$$

    Images are real, so $\hat x_{-k} = \overline{\hat x_k}$ and A is linear over the reals only. A
    frequency measured without its mirror −k determines both, but the adjoint halves it: its W is 2.
    W is 1 if both are measured (A† averages them), or if k is its own mirror (the imaginary part of
    A x is then 0, and A† ignores the imaginary part of y). The singular values are $1/\sqrt2$, 1
    and 1 respectively; so A† is not Aᵀ unless the mask is symmetric.

    **Arguments:**
    - `mask`: boolean tensor or NumPy array, `(height, width)`; true is measured. DC is at `[0, 0]`:
      no fftshift.

    **Shapes:** `y` is `(batch, channels, kept)`, complex, row by row; m counts two reals for each.
    **Raises:** `ShapeError` for a mask of another size; `SettingError` for an empty one or one
    whose DC seems to be at the centre.
    **Reference:** arXiv 1906.05284, Table 1 and Figure 4.
    """

    mask: Tensor

    name: ClassVar[str] = "fourier"

    def __post_init__(self) -> None:
        super().__post_init__()
        mask = mask_for("SubsampledFourier", self.mask, self.image_shape)
        object.__setattr__(self, "mask", mask)
        height, width = mask.shape
        if not mask[0, 0] and mask[height // 2, width // 2]:
            raise SettingError(
                "SubsampledFourier expects DC at mask[0, 0]; got a mask that keeps the centre but "
                "not that corner. Apply torch.fft.ifftshift to it."
            )

    def caveats(self) -> list[str]:
        """A warning if the mask is denser around its centre than around `[0, 0]`."""
        reach = min(self.mask.shape) // 16
        if reach < 1:
            return []
        height, width = self.mask.shape
        corner = _density_around(self.mask, 0, 0, reach)
        centre = _density_around(self.mask, height // 2, width // 2, reach)
        if centre - corner < DENSER:
            return []
        return [
            f"the mask measures {corner:.0%} of the frequencies around mask[0, 0], where DC is "
            f"expected, and {centre:.0%} around its centre. If DC is at the centre, apply "
            "torch.fft.ifftshift to it."
        ]

    @classmethod
    def random(
        cls,
        image_shape: tuple[int, int, int],
        ratio: float,
        seed: int,
        sampling: Sampling = "compact",
    ) -> SubsampledFourier:
        """Keep exactly round(ratio · h · w) coefficients, densest near DC, which is included.

        **Arguments:**
        - `seed`: random seed of the mask.
        - `sampling`: `"compact"` keeps nearly every coefficient near DC (`compact_mask`);
          `"scattered"` leaves gaps there too, as the paper's code does, which is much harder
          (`scattered_mask`).

        **Raises:** `SettingError`.
        """
        height, width = image_shape_for("SubsampledFourier", image_shape)[1:]
        count = count_at("SubsampledFourier", ratio, height * width, "coefficients")
        seed = as_int("SubsampledFourier", "seed", seed, 0, 2**63 - 1)
        if sampling not in get_args(Sampling):
            raise SettingError(
                f"SubsampledFourier expects sampling {' or '.join(get_args(Sampling))}; got "
                f"{sampling!r}."
            )
        draw = compact_mask if sampling == "compact" else scattered_mask
        return cls(image_shape, draw(height, width, count, seed))

    @property
    def complex_valued(self) -> bool:
        return True

    @property
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.image_shape[0], self._kept)

    def _forward(self, x: Tensor) -> Tensor:
        # Half precision has no FFT.
        spectrum = torch.fft.fft2(x.to(torch.promote_types(x.dtype, torch.float32)), norm="ortho")
        return spectrum.flatten(2)[..., self._cast("_index", x.device)]

    def _adjoint(self, y: Tensor) -> Tensor:
        canvas = y.new_zeros(*y.shape[:2], self.mask.numel())
        spectrum = canvas.index_copy(2, self._cast("_index", y.device), y)
        return torch.fft.ifft2(spectrum.unflatten(2, self.image_shape[1:]), norm="ortho").real

    def _pinv(self, y: Tensor) -> Tensor:
        return self._adjoint(y * self._weight(y))

    def solve_gram(self, y: Measurement) -> Measurement:
        return self._forward(self._adjoint(y)) * self._weight(y).square()

    def naive(self, y: MeasurementLike) -> Image:
        r"""The zero-filled inverse DFT, $\operatorname{Re}(F^* M^\\top y)$ (Table 1)."""
        return self.adjoint(y)

    def singular_values(self) -> Tensor:
        """min(m, n) values: zeros for coefficients that are measured twice."""
        unpaired = self.image_shape[0] * int(self._unpaired.sum())
        paired = self.m // 2 - unpaired
        values = torch.zeros(min(self.m, self.n), dtype=torch.float64, device="cpu")
        values[:paired] = 1
        values[paired : paired + 2 * unpaired] = 0.5**0.5
        return values

    def _weight(self, y: Tensor) -> Tensor:
        return self._cast("_weights", y.device, y.real.dtype)

    @property
    def _derived_bytes(self) -> int:
        return 9 * self.mask.numel()  # mask, and index of the kept coefficients

    @cached_property  # apart from `_index`, which must not be made in inference mode
    def _kept(self) -> int:
        return int(self.mask.count_nonzero())

    @cached_property
    def _index(self) -> Tensor:
        return self.mask.flatten().nonzero().squeeze(1)

    @cached_property
    def _unpaired(self) -> Tensor:
        """Mask of the frequencies measured without their mirrors, `(height, width)`."""
        return self.mask & ~mirror(self.mask)

    @cached_property
    def _weights(self) -> Tensor:
        return 1 + self._unpaired[self.mask].double()


def mirror(spectrum: Tensor) -> Tensor:
    """The value at −k for each frequency k, over the last two axes."""
    return spectrum.flip((-2, -1)).roll((1, 1), dims=(-2, -1))


def compact_mask(height: int, width: int, count: int, seed: int) -> Tensor:
    r"""A random mask of exactly `count` frequencies with a Gaussian density around DC.

    A frequency at distance r from DC is kept with probability near $\exp(-r^2 / 2\sigma^2)$, with σ
    such that these sum to `count`; DC is always kept. A frequency is kept together with its mirror
    −k, as in the paper's masks, so the ratio counts measured real unknowns (one frequency may lack
    its mirror).

    **Shapes:** boolean `(height, width)`, DC at `[0, 0]`.
    **Reference:** B. Rosén, "On sampling with probability proportional to size", 1997 (Pareto
    sampling: the `count` smallest of $\frac{u}{1-u} / \frac{p}{1-p}$).
    """
    chance = _gaussian_density(height, width, count)
    uniform = np.random.Generator(np.random.Philox(seed)).random((height, width))
    draws = torch.from_numpy(uniform).clamp(1e-12)
    keys = (draws / (1 - draws)) * ((1 - chance) / chance)
    index = torch.arange(height * width, device="cpu").view(height, width)
    paired = torch.where(index <= mirror(index), keys, mirror(keys))
    # A stable sort keeps a frequency next to its mirror, since their keys are equal.
    order = paired.flatten().argsort(stable=True)
    mask = torch.zeros(height * width, dtype=torch.bool, device="cpu")
    mask[order[:count]] = True
    return mask.unflatten(0, (height, width))


def scattered_mask(height: int, width: int, count: int, seed: int) -> Tensor:
    r"""A random mask of exactly `count` frequencies with gaps everywhere, even near DC.

    Pairs of indices $\lfloor |g| s h \rfloor \bmod h/2$ and $\lfloor |g'| s w \rfloor \bmod w/2$,
    with g and g' standard normal, are drawn in one quadrant of the spectrum and mirrored into the
    other three, as in the paper's code, until there are enough; DC is always included. The spread s
    is linear in the ratio, 0.21 at 0.3 and 0.36 at 0.5, at least 0.05: zero-filled photographs of
    128×128 are then as inaccurate as the paper's. Masks of the same ratio vary considerably
    (docs/results/table1.md).

    **Shapes:** boolean `(height, width)`, DC at `[0, 0]`.
    **Raises:** `SettingError` if `count` is too large: the highest frequencies are never drawn.
    **Reference:** arXiv 1906.05284, Table 1.
    """
    half_height, half_width = -(-height // 2), -(-width // 2)
    most = (2 * half_height - 1) * (2 * half_width - 1)
    if count > most:
        raise SettingError(
            f"SubsampledFourier expects at most {most} of {height * width} coefficients for "
            f"scattered sampling; got {count}. Use a smaller ratio, or compact sampling."
        )
    spread = max(0.05, 0.21 + 0.75 * (count / (height * width) - 0.3))
    rng = np.random.Generator(np.random.Philox(seed))
    order = np.zeros(1, dtype=np.int64)  # DC; then indices in the order of their first draw
    while len(order) < count:
        drawn = np.abs(rng.standard_normal((count, 2))) * spread * (height, width)
        i, j = drawn.astype(np.int64).T % np.array([[half_height], [half_width]])
        rows, columns = np.stack([i, -i, i, -i], 1) % height, np.stack([j, -j, -j, j], 1) % width
        order = np.concatenate([order, (rows * width + columns).ravel()])
        order = order[np.sort(np.unique(order, return_index=True)[1])]
    mask = torch.zeros(height * width, dtype=torch.bool, device="cpu")
    mask[torch.from_numpy(order[:count])] = True
    return mask.unflatten(0, (height, width))


def _density_around(mask: Tensor, row: int, column: int, reach: int) -> float:
    """Fraction of the mask's frequencies that are true within `reach`, with periodic borders."""
    side = 2 * reach + 1
    rolled = mask.roll((reach - row, reach - column), (0, 1))
    return float(rolled[:side, :side].float().mean())


def _gaussian_density(height: int, width: int, count: int) -> Tensor:
    rows, columns = (torch.from_numpy(np.fft.fftfreq(side)) for side in (height, width))
    squares = rows[:, None].square() + columns.square()
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        below = float(torch.exp(-squares / (2 * middle**2)).sum()) < count
        low, high = (middle, high) if below else (low, middle)
    # The floor keeps the odds finite where the density underflows.
    return torch.exp(-squares / (2 * low**2)).clamp(1e-300)
