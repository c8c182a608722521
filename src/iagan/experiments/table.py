"""Records → a table: ours beside the paper's, with spread and count."""

from __future__ import annotations

import dataclasses as dc
import math
import statistics
from typing import Any

from iagan.experiments.paper import EXPERIMENTS, published


@dc.dataclass(frozen=True)
class Cell:
    """One method on one setting, over `count` images.

    `psnr` is the paper's: the MSE is averaged first, then expressed in dB. `psnr_error` and
    `lpips_error` are standard errors of the mean over images (nan for a single image).
    """

    setting: str
    method: str
    count: int
    psnr: float
    psnr_error: float
    ssim: float
    lpips: float | None
    lpips_error: float
    seconds: float
    relative_residual: float
    paper_psnr: float | None
    paper_lpips: float | None


def cells(experiment: str, records: list[dict[str, Any]]) -> list[Cell]:
    """Every setting × method of the experiment that has records, in the paper's order."""
    found = []
    for setting in EXPERIMENTS[experiment].settings:
        for method in EXPERIMENTS[experiment].methods:
            own = [r for r in records if (r["setting"], r["method"]) == (setting.key, method)]
            if own:
                found.append(_cell(setting.key, method, own, published(setting, method)))
    return found


def _cell(
    setting: str, method: str, records: list[dict[str, Any]], paper: tuple[float, float] | None
) -> Cell:
    lpips = [r["lpips"] for r in records if r["lpips"] is not None]
    return Cell(
        setting,
        method,
        len(records),
        psnr=-10 * math.log10(statistics.fmean(r["mse"] for r in records)),
        psnr_error=_standard_error([r["psnr"] for r in records]),
        ssim=statistics.fmean(r["ssim"] for r in records),
        lpips=statistics.fmean(lpips) if len(lpips) == len(records) else None,
        lpips_error=_standard_error(lpips),
        seconds=statistics.fmean(r["seconds"] for r in records),
        relative_residual=max(r["relative_residual"] for r in records),
        paper_psnr=paper[0] if paper else None,
        paper_lpips=paper[1] if paper else None,
    )


def _standard_error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def markdown(found: list[Cell], lpips_net: str) -> str:
    """A table for people."""
    lines = [
        f"| setting | method | N | PSNR dB | SSIM | LPIPS ({lpips_net}) | largest ‖Ax̂−y‖/‖y‖ "
        "| s / image | paper: PSNR / LPIPS (alex) |",
        "|" + "---|" * 9,
    ]
    for cell in found:
        lpips = "–" if cell.lpips is None else f"{cell.lpips:.3f} ± {cell.lpips_error:.3f}"
        paper = f"{cell.paper_psnr:.2f} / {cell.paper_lpips:.3f}" if cell.paper_psnr else "–"
        lines.append(
            f"| {cell.setting} | {cell.method} | {cell.count} | {cell.psnr:.2f} ± "
            f"{cell.psnr_error:.2f} | {cell.ssim:.3f} | {lpips} | {cell.relative_residual:.1e} "
            f"| {cell.seconds:.1f} | {paper} |"
        )
    return "\n".join(lines) + "\n"
