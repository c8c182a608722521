"""PSNR, SSIM and LPIPS as the commands print them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iagan.errors import MissingDependencyError, ShapeError

if TYPE_CHECKING:
    from iagan.generators import Generator
    from iagan.types import Image


class Scorer:
    """Scores of images against the truth; a missing LPIPS backbone is told once, the rest goes on.

    **Arguments:**
    - `net`: the backbone of LPIPS.
    """

    def __init__(self, net: str) -> None:
        self.net = net
        self.told = False

    def __call__(self, image: Image, truth: Image) -> dict[str, float | None]:
        """`psnr` in dB (of the mean MSE), mean `ssim` and `lpips`, of images clamped to [0, 1]."""
        from iagan import measure

        shown = image.detach().cpu().float().clamp(0, 1)
        found: dict[str, float | None] = {
            "psnr": measure.psnr(shown, truth, data_range=1.0),
            "ssim": float(measure.ssim(shown, truth, data_range=1.0).mean()),
            "lpips": None,
        }
        if not self.told:
            found["lpips"] = self._lpips(shown, truth)
        return found

    def _lpips(self, image: Image, truth: Image) -> float | None:
        from iagan import measure

        try:
            return float(measure.lpips(image, truth, net=self.net).mean())
        except MissingDependencyError as error:
            self.told = True
            print(f"iagan: {error}", file=sys.stderr)
            return None


def in_words(found: dict[str, float | None]) -> str:
    """Scores for a person: `PSNR 25.10 dB  SSIM 0.801  LPIPS 0.120`."""
    parts = [f"PSNR {found['psnr']:.2f} dB", f"SSIM {found['ssim']:.3f}"]
    if found["lpips"] is not None:
        parts.append(f"LPIPS {found['lpips']:.3f}")
    return "  ".join(parts)


def to_json(record: Mapping[str, Any]) -> str:
    """One line of strict JSON; what is not finite (the PSNR of equal images) becomes null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(finite, ensure_ascii=False, allow_nan=False)


def load_truth(
    path: str | Path,
    crop: tuple[int, int, int] | None,
    generator: Generator | None,
    size: tuple[int, ...],
) -> Image:
    """The true image, cropped as the observation was.

    An image that has `size` already, with no crop asked for, is taken as it is.
    """
    from iagan.images import crop_square, load_image

    truth = load_image(path)
    if tuple(truth.shape[-2:]) == size and crop is None:
        return truth
    if generator is None and crop is None:
        raise ShapeError(
            f"{path} is {truth.shape[-1]}×{truth.shape[-2]} and the image {size[1]}×{size[0]}. "
            "Say which square of it was observed: --prior P or --crop LEFT,TOP,SIDE."
        )
    return crop_square(
        truth, crop, generator.metadata.crop if generator else None, (size[0], size[1])
    )
