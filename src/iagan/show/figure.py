"""A figure: rows of images with titles and scores, as one PNG."""

from __future__ import annotations

import dataclasses as dc
import os
import warnings
from collections.abc import Sequence

import torch

from iagan.errors import SettingError
from iagan.files import write_atomically
from iagan.jobs.outputs import FIGURE, KEYWORD
from iagan.observation import Observation
from iagan.types import Image

CELL_INCHES = 1.75
LINE_INCHES = 0.165
DPI = 160
OURS = {KEYWORD: FIGURE}
"""PNG text chunk that marks a figure as a result, not a photograph to recover."""


@dc.dataclass(frozen=True, eq=False)
class Panel:
    """One image of a figure, with its texts.

    **Arguments:**
    - `image`: `(1, 3 or 1, h, w)` in [0, 1], of any size; magnified without interpolation.
    - `title`: text above the image.
    - `caption`: text below the image, any number of lines.
    """

    image: Image
    title: str = ""
    caption: str = ""


def figure(rows: Sequence[Sequence[Panel]], path: str | os.PathLike[str], note: str = "") -> None:
    """Draw rows of panels to a PNG, atomically. Titles are shown above the first row, and above
    later rows with other titles; `note` is shown at the bottom.

    **Raises:** `SettingError` without panels; `OutputError` if the file cannot be written.
    """
    if not rows or not all(rows):
        raise SettingError("figure expects at least one panel in every row; got none.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    lines = [max(panel.caption.count("\n") + bool(panel.caption) for panel in row) for row in rows]
    heights = [CELL_INCHES + LINE_INCHES * (count + 0.6) for count in lines]
    heights[0] += 1.6 * LINE_INCHES
    total = sum(heights) + (1.4 * LINE_INCHES if note else 0.0)
    drawing = Figure(figsize=(columns * (CELL_INCHES + 0.08), total), dpi=DPI)
    FigureCanvasAgg(drawing)
    top = total
    for index, row in enumerate(rows):
        top -= heights[index]
        titles = [panel.title for panel in row]
        repeated = index > 0 and titles == [panel.title for panel in rows[index - 1]]
        for column, panel in enumerate(row):
            bottom = (top + LINE_INCHES * (lines[index] + 0.4)) / total
            left = (column + 0.02) / columns
            box = (left, bottom, 0.96 / columns, CELL_INCHES / total)
            _draw(drawing.add_axes(box), panel, "" if repeated else panel.title)
    drawing.text(0.01, 0.3 * LINE_INCHES / total, note, fontsize=7.5, parse_math=False)
    with warnings.catch_warnings():
        # File names may contain characters that the font lacks, shown as boxes.
        warnings.filterwarnings("ignore", message="Glyph")
        write_atomically(path, lambda stream: drawing.savefig(stream, format="png", metadata=OURS))


def _draw(axes, panel: Panel, title: str) -> None:  # type: ignore[no-untyped-def]  # matplotlib's
    pixels = panel.image[0].detach().cpu().float().clamp(0, 1).permute(1, 2, 0)
    axes.imshow(pixels.expand(-1, -1, 3).numpy(), interpolation="nearest")
    axes.set_axis_off()
    # File names may contain dollar signs, which are not mathematics here.
    axes.set_title(title, fontsize=9, pad=4, parse_math=False)
    axes.text(
        0.5, -0.03, panel.caption, transform=axes.transAxes, ha="center", va="top", fontsize=7.5,
        parse_math=False,
    )  # fmt: skip


def picture_of(observation: Observation) -> Image:
    """A measurement as an image: y itself if it is one, else the naive reconstruction.

    **Shapes:** `(batch, channels, h', w')`, clamped to [0, 1].
    """
    y = observation.y
    shown = y if y.ndim == 4 and not y.is_complex() else observation.operator.naive(y)
    return shown.detach().to(device="cpu", dtype=torch.float32).clamp(0, 1)
