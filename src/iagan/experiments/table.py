"""Tables of records: our results next to the paper's, with standard errors and counts."""

from __future__ import annotations

import csv
import dataclasses as dc
import io
import math
import statistics
from typing import Any

from iagan.experiments.paper import EXPERIMENTS, PAPER_SECONDS, published

MIN_MSE = 1e-12
"""Lower bound on the MSE (120 dB), so that means and standard errors are finite."""


@dc.dataclass(frozen=True)
class Cell:
    """Scores of one method on one setting, over `count` images.

    `psnr` is defined as in the paper: the MSE is averaged first, then converted to dB. `*_error`
    are standard errors of the mean over images, None for a single image.
    """

    setting: str
    method: str
    count: int
    psnr: float
    psnr_error: float | None
    mse: float
    mse_error: float | None
    ssim: float
    haarpsi: float
    lpips: float | None
    lpips_error: float | None
    seconds: float
    relative_residual: float
    paper_psnr: float | None
    paper_lpips: float | None
    paper_seconds: float | None


def cells(experiment: str, records: list[dict[str, Any]]) -> list[Cell]:
    """Every setting × method of the experiment that has records, in the paper's order."""
    rows = []
    for setting in EXPERIMENTS[experiment].settings:
        for method in EXPERIMENTS[experiment].methods:
            own = [r for r in records if (r["setting"], r["method"]) == (setting.key, method)]
            seconds = PAPER_SECONDS.get(method) if experiment == "runtime" else None
            if own:
                rows.append(_cell(setting.key, method, own, published(setting, method), seconds))
    return rows


def _cell(
    setting: str,
    method: str,
    records: list[dict[str, Any]],
    paper: tuple[float, float] | None,
    seconds: float | None,
) -> Cell:
    lpips = [r["lpips"] for r in records if r["lpips"] is not None]
    mse = statistics.fmean(r["mse"] for r in records)
    return Cell(
        setting,
        method,
        len(records),
        psnr=-10 * math.log10(max(mse, MIN_MSE)),
        psnr_error=_standard_error([r["psnr"] for r in records]),
        mse=mse,
        mse_error=_standard_error([r["mse"] for r in records]),
        ssim=statistics.fmean(r["ssim"] for r in records),
        haarpsi=statistics.fmean(r["haarpsi"] for r in records),
        lpips=statistics.fmean(lpips) if len(lpips) == len(records) else None,
        lpips_error=_standard_error(lpips),
        seconds=statistics.fmean(r["seconds"] for r in records),
        relative_residual=max(r["relative_residual"] for r in records),
        paper_psnr=paper[0] if paper else None,
        paper_lpips=paper[1] if paper else None,
        paper_seconds=seconds,
    )


def _standard_error(values: list[float]) -> float | None:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


COLUMNS = (
    "setting", "method", "N", "PSNR dB", "SSIM", "HaarPSI", "LPIPS ({net})", "largest ‖Ax̂−y‖/‖y‖",
    "s / image", "paper: PSNR / LPIPS (alex)",
)  # fmt: skip


def markdown(cells: list[Cell], lpips_net: str) -> str:
    """The table in Markdown."""
    rows = [[column.format(net=lpips_net) for column in COLUMNS], ["---"] * len(COLUMNS)]
    rows += [_texts(cell, "±") for cell in cells]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def mask_spread(experiment: str, records: list[dict[str, Any]]) -> str:
    """One line per setting with several masks: PSNR by mask, ascending."""
    lines = []
    for setting in EXPERIMENTS[experiment].settings:
        texts = []
        for method in EXPERIMENTS[experiment].methods:
            own = [r for r in records if (r["setting"], r["method"]) == (setting.key, method)]
            by_mask = [
                -10 * math.log10(max(statistics.fmean(errors), MIN_MSE))
                for mask in range(setting.masks)
                if (errors := [r["mse"] for r in own if r["mask"] == mask])
            ]
            if len(by_mask) > 1:
                texts.append(f"{method} {min(by_mask):.2f} to {max(by_mask):.2f}")
        if texts:
            lines.append(f"- {setting.key}, PSNR by mask in dB: {', '.join(texts)}.\n")
    return "".join(lines)


def tex(cells: list[Cell], lpips_net: str, title: str) -> str:
    """The table in LaTeX; needs the package booktabs."""
    head = [column.format(net=lpips_net) for column in COLUMNS]
    head[7] = r"largest $\|A\hat x-y\|/\|y\|$"
    lines = [r" & ".join(head)] + [" & ".join(_texts(cell, r"$\pm$")) for cell in cells]
    caption = title.replace("×", r"$\times$")
    body = [line.replace("–", "--").replace("_", r"\_") + r" \\" for line in lines]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{caption}}}",
            r"\begin{tabular}{ll" + "r" * (len(COLUMNS) - 2) + "}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _texts(cell: Cell, sign: str) -> list[str]:
    lpips = "–" if cell.lpips is None else _spread(cell.lpips, cell.lpips_error, 3, sign)
    paper = "–" if cell.paper_psnr is None else f"{cell.paper_psnr:.2f} / {cell.paper_lpips:.3f}"
    seconds = f"{cell.seconds:.1f}"
    if cell.paper_seconds is not None:
        seconds += f" (paper: {cell.paper_seconds:.0f})"
    return [
        cell.setting,
        cell.method,
        str(cell.count),
        _spread(cell.psnr, cell.psnr_error, 2, sign),
        f"{cell.ssim:.3f}",
        f"{cell.haarpsi:.3f}",
        lpips,
        f"{cell.relative_residual:.1e}",
        seconds,
        paper,
    ]


def _spread(value: float, error: float | None, digits: int, sign: str) -> str:
    text = f"{value:.{digits}f}"
    return text if error is None else f"{text} {sign} {error:.{digits}f}"


def comma_separated(tables: dict[str, list[Cell]], common: dict[str, object]) -> str:
    """All tables as CSV, one line per cell; unknown values are empty.

    `common` are columns with a single value, such as the backbone of LPIPS.
    """
    stream = io.StringIO()
    names = ["experiment", *(field.name for field in dc.fields(Cell)), *common]
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    for experiment, own in tables.items():
        for cell in own:
            writer.writerow({"experiment": experiment, **dc.asdict(cell), **common})
    return stream.getvalue()
