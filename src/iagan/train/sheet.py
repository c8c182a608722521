"""Images of training progress: a sheet of samples, and curves."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor

from iagan.files import write_atomically
from iagan.images import save_image
from iagan.priors.generator import Generator
from iagan.train.base import TrainingRun
from iagan.train.data import stream
from iagan.types import Image

COLUMNS, ROWS = 8, 6


@torch.no_grad()
def save_sheet(run: TrainingRun, prior: Generator, held_out: Image, path: Path) -> None:
    """Write a PNG with 48 samples of `prior`, always from the same z.

    With an encoder, two more rows show eight images of `held_out`, in [-1, 1], above their
    reconstructions.

    **Raises:** `OutputError` if it cannot be written.
    """
    z = prior.latent.sample(ROWS * COLUMNS, stream(run.settings.seed, 0, "sheet"))
    tiles = [prior(z)]
    x = held_out[:COLUMNS]
    estimate = run.reconstruct(x) if len(x) else None
    if estimate is not None:
        tiles += [_padded((each.cpu() + 1) / 2) for each in (x, estimate)]
    save_image(_grid(torch.cat(tiles)), path)


def save_curve(run: TrainingRun, path: Path) -> None:
    """Write a PNG with the panels of `run.curves()`.

    **Raises:** `OutputError` if it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {
        title: {name: line for name, line in lines.items() if line}
        for title, lines in run.curves().items()
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    figure = Figure(figsize=(4.5 * max(len(panels), 1), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, lines) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for name, line in lines.items():
            axes.plot(*zip(*line, strict=True), label=name, marker=".")
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


def _padded(x: Tensor) -> Tensor:
    missing = torch.ones(COLUMNS - len(x), *x.shape[1:])
    return torch.cat([x, missing])


def _grid(tiles: Tensor) -> Tensor:
    count, channels, height, width = tiles.shape
    rows = tiles.reshape(count // COLUMNS, COLUMNS, channels, height, width)
    return rows.permute(2, 0, 3, 1, 4).reshape(
        1, channels, count // COLUMNS * height, COLUMNS * width
    )
