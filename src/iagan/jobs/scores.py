"""PSNR, SSIM and LPIPS of one image, and their formatting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from iagan import measure
from iagan.errors import MissingDependencyError, ShapeError
from iagan.types import Image

logger = logging.getLogger("iagan")


class Scorer:
    """Scores images against the truth. A metric that cannot be computed is logged once and omitted.

    **Arguments:**
    - `net`: backbone of LPIPS: "alex", "vgg" or "squeeze"; None: no LPIPS.
    """

    def __init__(self, net: str | None = "alex") -> None:
        self.net = net or ""
        self.left_out: set[str] = set() if net else {"lpips"}

    def __call__(self, image: Image, truth: Image) -> dict[str, float | None]:
        """`psnr` in dB, `ssim` and `lpips` of images clamped to [0, 1]; None if impossible.

        **Raises:** `ShapeError` for images of different shapes.
        """
        shown = image.detach().cpu().float().clamp(0, 1)
        return {
            "psnr": measure.psnr(shown, truth),
            "ssim": self._try("ssim", lambda: float(measure.ssim(shown, truth).mean())),
            "lpips": self._try(
                "lpips", lambda: float(measure.lpips(shown, truth, net=self.net).mean())
            ),
        }

    def _try(self, name: str, score: Callable[[], float]) -> float | None:
        if name in self.left_out:
            return None
        try:
            return score()
        except (MissingDependencyError, ShapeError) as error:
            self.left_out.add(name)
            logger.warning(error)
            return None


def format_scores(scores: Mapping[str, Any], separator: str = "  ") -> str:
    """Scores as text: `PSNR 25.10 dB  SSIM 0.801  LPIPS 0.120`."""
    parts = [f"PSNR {scores['psnr']:.2f} dB"]
    parts += [
        f"{name.upper()} {scores[name]:.3f}"
        for name in ("ssim", "lpips")
        if scores[name] is not None
    ]
    return separator.join(parts)
