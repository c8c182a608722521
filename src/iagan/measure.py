"""Metrics of an estimate against the truth: PSNR, SSIM, HaarPSI, LPIPS."""

from __future__ import annotations

import contextlib
import functools
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iagan.errors import MissingDependencyError, SettingError, ShapeError
from iagan.operators.checks import as_tensor
from iagan.types import ImageLike, PerImage

BACKBONES: dict[str, str] = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""File names of the LPIPS backbones in torchvision."""

LPIPS_SIDE = 32
"""Smallest image side, in pixels, for which every backbone's pooling leaves an output."""

HAARPSI_SIDE = 16
"""Smallest image side, in pixels, for three scales of wavelets."""

SSIM_WINDOW = 11
"""Side of Wang et al.'s Gaussian window in pixels."""

SLACK = 0.25
"""Tolerated excess of a true image over [0, data_range], as a fraction of it; of an estimate, half
of the pixels may exceed it."""


def psnr(image: ImageLike, truth: Tensor | np.ndarray, data_range: float = 1.0) -> float:
    r"""$10 \log_{10}(r^2 / \overline{\mathrm{MSE}})$ in dB, the MSE averaged over the images first.

    As in arXiv 1906.05284, footnote 2; inf for equal images. Not the mean of `psnr_per_image`.

    **Arguments:**
    - `image`, `truth`: `(batch, channels, h, w)`, on one device. Not clamped.
    - `data_range`: the value of white, 1 for images in [0, 1]; black is 0.

    **Raises:** `ShapeError`; `SettingError` for images of another range.
    """
    return float(_psnr(image, truth, data_range, dim=None))


def psnr_per_image(
    image: ImageLike, truth: Tensor | np.ndarray, data_range: float = 1.0
) -> PerImage:
    """The PSNR of each image in dB."""
    return _psnr(image, truth, data_range, dim=(1, 2, 3))


def ssim(image: ImageLike, truth: Tensor | np.ndarray, data_range: float = 1.0) -> PerImage:
    """Structural similarity, 1 for equal images, averaged over the channels.

    With Wang et al.'s settings: a Gaussian window of 11×11, σ = 1.5, only where it lies inside the
    image. Images are clamped to [0, `data_range`].

    **Raises:** `ShapeError`, also for images smaller than the window; `SettingError` for images of
    another range.
    **Source:** Wang et al., Image quality assessment (IEEE TIP 13, 2004); computed by `piq`.
    """
    from piq import ssim as similarity

    image, truth = _checked(image, truth, data_range)
    if min(image.shape[-2:]) < SSIM_WINDOW:
        raise ShapeError(
            f"SSIM expects images of at least {SSIM_WINDOW}×{SSIM_WINDOW} pixels; got "
            f"{image.shape[-2]}×{image.shape[-1]}. Use the PSNR."
        )
    pair = ((each.double() / data_range).clamp(0, 1) for each in (image, truth))
    similarities = similarity(*pair, downsample=False, reduction="none")
    assert isinstance(similarities, Tensor)
    return similarities.reshape(-1).to(image.dtype)


def haarpsi(image: ImageLike, truth: Tensor | np.ndarray) -> PerImage:
    """Haar wavelet-based perceptual similarity (Reisenhofer et al. 2018), 1 for equal images.

    Unlike LPIPS, it is not similar to a training loss of this project's priors.
    Images are clamped to [0, 1].

    **Raises:** `ShapeError`, also for images that are not grey or RGB, or below 16×16 pixels.
    **Source:** arXiv 1607.06140; computed by `piq`.
    """
    from piq import haarpsi as similarity

    image, truth = _checked(image, truth)
    if image.shape[1] not in (1, 3) or min(image.shape[-2:]) < HAARPSI_SIDE:
        raise ShapeError(
            f"HaarPSI expects grey or RGB images of at least {HAARPSI_SIDE}×{HAARPSI_SIDE} pixels; "
            f"got {tuple(image.shape)}. Use PSNR and SSIM."
        )
    pair = (each.float().clamp(0, 1) for each in (image, truth))
    similarities = similarity(*pair, data_range=1.0, reduction="none")
    assert isinstance(similarities, Tensor)
    # NaN for two black images, which are equal
    similarities = torch.where(similarities.isfinite(), similarities, 1.0)
    return similarities.reshape(-1).to(image.dtype)


def lpips(image: ImageLike, truth: Tensor | np.ndarray, net: str = "alex") -> PerImage:
    """Perceptual distance (Zhang et al. 2018, v0.1): lower is better. Images are clamped to [0, 1].

    **Arguments:**
    - `net`: the backbone; the paper's is `"alex"`. Values of different backbones differ.

    **Raises:** `MissingDependencyError` if the backbone is missing and cannot be downloaded;
    `ShapeError` for images that are not grey or RGB, or too small for the backbone.
    """
    image, truth = _checked(image, truth)
    network = _network(net)
    if image.shape[1] not in (1, 3) or min(image.shape[-2:]) < LPIPS_SIDE:
        raise ShapeError(
            f"LPIPS expects grey or RGB images of at least {LPIPS_SIDE}×{LPIPS_SIDE} pixels; got "
            f"{tuple(image.shape)}. Use PSNR and SSIM."
        )
    network.to(image.device)
    with torch.no_grad():
        pairs = (2 * each.float().clamp(0, 1) - 1 for each in (image, truth))
        return network(*pairs).reshape(-1).to(image.dtype)


METRICS: dict[str, Callable[..., Any]] = {
    "psnr": psnr,
    "ssim": ssim,
    "haarpsi": haarpsi,
    "lpips": lpips,
}
"""Metrics by name."""


def load_lpips(net: str) -> None:
    """Load an LPIPS backbone, downloading it if necessary.

    **Raises:** the errors of `lpips`.
    """
    _network(net)


@functools.cache
def _network(net: str) -> torch.nn.Module:
    if net not in BACKBONES:
        raise SettingError(f"lpips expects net as one of {', '.join(BACKBONES)}; got {net!r}.")
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

    try:
        # torch.hub reports a download on standard output, which belongs to the caller's results.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            metric = LearnedPerceptualImagePatchSimilarity(net_type=net)
            return metric.net.eval().requires_grad_(False)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        file = folder / BACKBONES[net]
        if file.exists():
            raise MissingDependencyError(
                f"LPIPS ({net}) expects torchvision's backbone in {file}; the file is damaged. "
                "Delete it and run once with an internet connection, or replace it."
            ) from error
        raise MissingDependencyError(
            f"LPIPS ({net}) expects the backbone {BACKBONES[net]}, which cannot be downloaded. "
            f"Put that file of torchvision into {folder}, or run once with an internet connection."
        ) from error


def _psnr(image: Any, truth: Any, data_range: float, dim: tuple[int, ...] | None) -> Tensor:
    """PSNR in dB, the MSE averaged over `dim`, or over everything."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    image, truth = _checked(image, truth, data_range)
    reduction: Any = "elementwise_mean" if dim is None else "none"
    return peak_signal_noise_ratio(
        image.double(), truth.double(), data_range=float(data_range), dim=dim, reduction=reduction
    )


def _checked(image: Any, truth: Any, data_range: float = 1.0) -> tuple[Tensor, Tensor]:
    """Both images as tensors, of the same shape and with values within the data range."""
    image, truth = as_tensor("A metric", image), as_tensor("A metric", truth)
    if image.shape != truth.shape or image.ndim != 4:
        raise ShapeError(
            f"Metrics expect images (batch, channels, h, w) of one shape; got "
            f"{tuple(image.shape)} and {tuple(truth.shape)}. Crop or resize one of them."
        )
    if not _is_positive(data_range):
        raise SettingError(f"Metrics expect a data_range above 0; got {data_range!r:.80}.")
    low, high = -SLACK * data_range, (1 + SLACK) * data_range
    outside = [((each < low) | (each > high)).double().mean() for each in (image, truth)]
    if outside[0] > 0.5 or outside[1] > 0:
        wrong = image if outside[0] > 0.5 else truth
        got = f"{float(wrong.min()):.3g} to {float(wrong.max()):.3g}"
        raise SettingError(
            f"Metrics expect images in [0, {data_range:g}]; got values from {got}. Rescale them, "
            "or pass data_range."
        )
    return image, truth


def _is_positive(data_range: Any) -> bool:
    try:
        return bool(0 < data_range < float("inf"))
    except (TypeError, ValueError, RuntimeError):  # no number, or an array of several
        return False
