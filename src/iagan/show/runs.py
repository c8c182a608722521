"""Figures of records and saved images, in the layout of the paper's Figures 1 to 8."""

from __future__ import annotations

from pathlib import Path

from iagan.experiments.paper import EXPERIMENTS, Setting
from iagan.experiments.run import IMAGES
from iagan.experiments.table import Cell
from iagan.files import write_atomically
from iagan.images import load_image
from iagan.show.figure import Panel, figure

ROWS = 6
"""Number of images in a figure: the first ones by name for which all methods are saved."""


def save_curve(cells: list[Cell], path: Path, note: str) -> None:
    """Draw Figure 2: MSE against m/n, one line per method, bars of one standard error.

    **Raises:** `OutputError` if it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = {setting.key: setting.amount for setting in EXPERIMENTS["figure2"].settings}
    drawing = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots()
    for method in EXPERIMENTS["figure2"].methods:
        line = [cell for cell in cells if cell.method == method]
        if line:
            axes.errorbar(
                [shares[cell.setting] for cell in line],
                [cell.mse for cell in line],
                [cell.mse_error or 0.0 for cell in line],
                marker="o", markersize=4, capsize=3, label=method,
            )  # fmt: skip
    fewest, most = (pick(cell.count for cell in cells) for pick in (min, max))
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    axes.set(
        yscale="log",
        xlabel="m / n",
        ylabel="mean squared error",
        title=f"Gaussian measurements, {count} images\n{note}".strip(),
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    write_atomically(path, lambda stream: drawing.savefig(stream, format="png", dpi=130))


def save_grid(run: Path, setting: Setting, methods: tuple[str, ...], note: str) -> Path | None:
    """Draw the figure of one setting: rows of images, columns truth, observed and methods.

    Returns its path, or None if no image is saved for all columns.

    **Raises:** `OutputError` if it cannot be written; `ImageFileError` for a damaged image.
    """
    place = run / IMAGES / setting.key
    columns = ("truth", "observed", *(method for method in methods if method != "naive"))
    stems = sorted(path.name.removesuffix("_truth.png") for path in place.glob("*_truth.png"))
    complete = [
        stem for stem in stems if all((place / f"{stem}_{name}.png").exists() for name in columns)
    ]
    if not complete:
        return None
    rows = [
        [Panel(load_image(place / f"{stem}_{name}.png"), name) for name in columns]
        for stem in complete[:ROWS]
    ]
    path = run / "figures" / f"{setting.key}.png"
    figure(rows, path, note=f"{setting.key}{note}")
    return path
