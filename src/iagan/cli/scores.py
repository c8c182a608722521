"""PSNR, SSIM and LPIPS as the commands print them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iagan.errors import MissingDependencyError, ShapeError

if TYPE_CHECKING:
    from iagan.priors import Generator
    from iagan.types import Image


class Scorer:
    """Scores against the truth. A measure that cannot be taken is said once; the others go on.

    **Arguments:**
    - `net`: the backbone of LPIPS.
    """

    def __init__(self, net: str) -> None:
        self.net = net
        self.told: set[str] = set()

    def __call__(self, image: Image, truth: Image) -> dict[str, float | None]:
        """`psnr` in dB, `ssim` and `lpips`, of images clamped to [0, 1]; None where impossible."""
        from iagan import measure

        shown = image.detach().cpu().float().clamp(0, 1)
        return {
            "psnr": self._try("psnr", lambda: measure.psnr(shown, truth)),
            "ssim": self._try("ssim", lambda: float(measure.ssim(shown, truth).mean())),
            "lpips": self._try(
                "lpips", lambda: float(measure.lpips(shown, truth, net=self.net).mean())
            ),
        }

    def _try(self, name: str, score: Callable[[], float]) -> float | None:
        if name in self.told:
            return None
        try:
            return score()
        except (MissingDependencyError, ShapeError) as error:
            if name == "psnr":
                raise
            self.told.add(name)
            print(f"iagan: {error}", file=sys.stderr)
            return None


def in_words(found: dict[str, float | None]) -> str:
    """Scores for a person: `PSNR 25.10 dB  SSIM 0.801  LPIPS 0.120`."""
    parts = [f"PSNR {found['psnr']:.2f} dB"]
    parts += [
        f"{name.upper()} {found[name]:.3f}" for name in ("ssim", "lpips") if found[name] is not None
    ]
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
    return crop_square(truth, crop, generator.about.crop if generator else None, (size[0], size[1]))
