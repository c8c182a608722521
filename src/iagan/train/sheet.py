"""What a person looks at while training: a sheet of samples and the curve of M."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iagan.files import write_atomically
from iagan.generators.began import Began
from iagan.images import save_image
from iagan.train.data import stream
from iagan.train.run import Run
from iagan.types import Image

COLUMNS = 8


@torch.no_grad()
def save_sheet(run: Run, generator: Began, held_out: Image, path: Path) -> None:
    """Write a PNG: 48 samples of `generator`, always of the same z.

    With an autoencoder phase, two rows follow: eight images of `held_out` over G(encoder(x)).

    **Raises:** `OutputError` when it cannot be written.
    """
    z = run.settings.latent_law.sample(6 * COLUMNS, stream(run.settings.seed, 0, "sheet"))
    tiles = [generator(z.to(held_out.device))]
    if run.encoder is not None and len(held_out):
        x = held_out[:COLUMNS]
        tiles += [_padded(x), _padded(run.average(run.encoder(x)[0]))]
    save_image((_grid(torch.cat(tiles)) + 1) / 2, path)


def save_curve(run: Run, path: Path) -> None:
    """Write a PNG: error of the autoencoder, then M with its terms L(x) and L(G(z)).

    **Raises:** `OutputError` when it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [_held_out_error] * bool(run.validation) + [_measure] * bool(run.windows)
    figure = Figure(figsize=(4 * max(len(panels), 1), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        panel(run, axes)
        axes.set(xlabel="step")
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


def _held_out_error(run: Run, axes: Any) -> None:
    axes.plot(*zip(*run.validation, strict=True), marker=".")
    axes.set(title="held-out images", ylabel="mean |x - G(encoder(x))|")


def _measure(run: Run, axes: Any) -> None:
    """M and its two terms."""
    settings, first = run.settings, run.settings.autoencoder_steps
    steps = [first + settings.patience * (index + 1) for index in range(len(run.windows))]
    axes.plot(steps, [w.measure for w in run.windows], label="M", marker=".")
    axes.plot(steps, [w.real for w in run.windows], label="L(x)", linestyle="--")
    axes.plot(steps, [w.fake for w in run.windows], label="L(G(z))", linestyle=":")
    axes.set(title="adversarial phase")
    axes.legend()


def _padded(x: Tensor) -> Tensor:
    missing = torch.ones(COLUMNS - len(x), *x.shape[1:], device=x.device)
    return torch.cat([x, missing])


def _grid(tiles: Tensor) -> Tensor:
    count, channels, height, width = tiles.shape
    rows = tiles.reshape(count // COLUMNS, COLUMNS, channels, height, width)
    return rows.permute(2, 0, 3, 1, 4).reshape(
        1, channels, count // COLUMNS * height, COLUMNS * width
    )
