r"""Proposition 2 of arXiv 1906.05284, measured: adapting layers lowers the representation error.

Random ReLU networks (eq. 4),

$$G(z) = W_L\,\sigma(W_{L-1} \cdots \sigma(W_1 z)), \qquad k_0 < k_1 < \dots < k_L = n,$$

and signals x near, not in, their range. Adapting $W_1$ together with z is the same as choosing
$W_1 z$ freely in $\mathbb{R}^{k_1}$, so (eq. 8)

$$\min_{u \in \mathbb{R}^{k_1}} \|W_L \sigma(\cdots W_2\,\sigma(u)) - x\|
  \le \min_{z \in \mathbb{R}^{k_0}} \|G(z) - x\|,$$

and likewise for the following layers. The minima are unknown; both sides are approximated by Adam.
From the end of the previous stage ("warm") a stage cannot end higher, which is the proposition's
own argument. From a random point ("cold") it can, and those cases are counted.
"""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from iagan.engine import Event, EventCallback
from iagan.engine.minimize import Leaves, MinimizeOptions, minimize
from iagan.errors import SettingError
from iagan.files import write_atomically
from iagan.jobs.job import tell

RATE, LAST_RATE = 0.05, 0.02
"""Adam's initial learning rate, and the factor on it at the end."""


@dc.dataclass(frozen=True)
class Proposition2:
    """The settings of the experiment.

    **Arguments:**
    - `widths`: k_0 < … < k_L, at least three of them.
    - `trials`: number of networks, each with its own signal.
    - `distance`: ‖x - G(z*)‖ / ‖G(z*)‖.
    - `steps`: steps of Adam in each stage.
    - `seed`: seed of all random draws.

    **Raises:** `SettingError`.
    """

    widths: tuple[int, ...] = (8, 24, 64, 160, 400)
    trials: int = 20
    distance: float = 0.5
    steps: int = 800
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.widths) < 3 or sorted(set(self.widths)) != list(self.widths):
            raise SettingError(
                f"Proposition2 expects three or more increasing widths; got {self.widths}."
            )
        if self.trials < 2 or self.steps < 1 or self.distance <= 0 or self.widths[0] < 1:
            raise SettingError(
                "Proposition2 expects at least two trials, one step, widths and a distance above "
                f"0; got {self}."
            )


@dc.dataclass(frozen=True)
class Row:
    """Errors after adapting the first `layers` layers; one number per trial.

    `warm` and `cold` are ‖G - x‖ / ‖x‖ at the end of the stage, for either start.
    """

    layers: int
    warm: tuple[float, ...]
    cold: tuple[float, ...]


def run_proposition2(settings: Proposition2, on_event: EventCallback | None = None) -> list[Row]:
    """One row for each number of adapted layers, 0 to L - 1."""
    rng = torch.Generator().manual_seed(settings.seed)
    weights = _networks(settings, rng)
    z = torch.randn(settings.trials, settings.widths[0], generator=rng)
    x = synthesize(weights, z)
    away = torch.randn(x.shape, generator=rng)
    x = x + settings.distance * away * x.norm(dim=1, keepdim=True) / away.norm(dim=1, keepdim=True)
    start = torch.randn(settings.trials, settings.widths[0], generator=rng)
    other = torch.randn(settings.trials, settings.widths[0], generator=rng)
    rows: list[Row] = []
    best = start
    for layers in range(len(weights)):
        if layers > 0:
            best = _layer(weights[layers - 1], best, first=layers == 1)
            other = _layer(weights[layers - 1], other, first=layers == 1)
        warm, best = _fit(weights[layers:], best, x, settings, first=layers == 0)
        cold, _ = _fit(weights[layers:], other, x, settings, first=layers == 0)
        rows.append(Row(layers, tuple(warm.tolist()), tuple(cold.tolist())))
        line = f"proposition 2: {layers + 1} of {len(weights)} stages"
        tell(on_event, Event("stages", layers + 1, len(weights), message=line))
    return rows


def synthesize(weights: list[Tensor], u: Tensor, first: bool = True) -> Tensor:
    """Evaluate the rest of the network from u, which is z if `first`, else a pre-activation.

    **Shapes:** `weights` are `(trials, k_l, k_{l-1})`, `u` is `(trials, k)`; `(trials, n)`.
    """
    for weight in weights:
        u = _layer(weight, u, first)
        first = False
    return u


def _layer(weight: Tensor, u: Tensor, first: bool) -> Tensor:
    return torch.bmm(weight, (u if first else u.relu())[..., None])[..., 0]


def _relu_with_surrogate_gradient(u: Tensor) -> Tensor:
    """σ(u) with a surrogate gradient of 0.1 below 0.

    Entries that start below 0 would otherwise never change.
    """
    below = u.clamp(max=0)
    return u.relu() + 0.1 * (below - below.detach())


def _networks(settings: Proposition2, rng: torch.Generator) -> list[Tensor]:
    """W_1 … W_L with entries N(0, 2 / k_{l-1}), which preserve a signal's norm."""
    pairs = zip(settings.widths, settings.widths[1:], strict=False)
    return [
        torch.randn(settings.trials, after, before, generator=rng) * math.sqrt(2 / before)
        for before, after in pairs
    ]


def _fit(
    weights: list[Tensor], start: Tensor, x: Tensor, settings: Proposition2, first: bool
) -> tuple[Tensor, Tensor]:
    """The smallest relative error of every trial, and the corresponding u."""

    def objective(leaves: Leaves, step: int, problems: Tensor) -> tuple[Tensor, Tensor]:
        u = leaves["u"]
        gap = synthesize(weights, u if first else _relu_with_surrogate_gradient(u)) - x
        return gap.square().sum(1), gap[:, None, None]

    schedule = _half_cosine(settings.steps, LAST_RATE)
    options = MinimizeOptions(settings.steps, {"u": RATE}, schedule)
    result = minimize(objective, {"u": start.clone()}, options, len(start))
    return result.objective.sqrt() / x.norm(dim=1), result.variables["u"]


def _half_cosine(steps: int, last: float) -> Callable[[int], float]:
    """A factor that decays from 1 to `last` over `steps` steps."""
    return lambda step: last + (1 - last) * (1 + math.cos(math.pi * step / max(steps, 1))) / 2


def markdown(rows: list[Row], settings: Proposition2) -> str:
    """The table in Markdown."""
    lines = [
        f"Widths {settings.widths}, {settings.trials} random networks and signals at distance "
        f"{settings.distance:g} from the range, {settings.steps} steps of Adam per stage, seed "
        f"{settings.seed}. E is ‖G − x‖ / ‖x‖; ± is the standard error over the trials.",
        "",
        "| adapted layers | E, warm start | E, cold start | cold below the stage before "
        "| largest rise, cold |",
        "|---|---|---|---|---|",
    ]
    for before, row in zip([None, *rows], rows, strict=False):
        lower, rise = "–", "–"
        if before is not None:
            gaps = [new - old for new, old in zip(row.cold, before.cold, strict=True)]
            lower = f"{sum(gap <= 0 for gap in gaps)} of {len(gaps)}"
            rise = f"{max(0.0, *gaps):.3f}"
        parts = (_named(row.layers), _spread(row.warm), _spread(row.cold), lower, rise)
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def _named(layers: int) -> str:
    subscript = str(layers).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
    return {0: "none (z alone)", 1: "W₁", 2: "W₁, W₂"}.get(layers, f"W₁ … W{subscript}")


def _spread(values: tuple[float, ...]) -> str:
    errors = torch.tensor(values, dtype=torch.float64)
    return f"{float(errors.mean()):.4f} ± {float(errors.std()) / math.sqrt(len(values)):.4f}"


def plot(rows: list[Row], path: Path) -> None:
    """Write a PNG: a faint line per trial, the mean in bold; warm and cold starts side by side.

    **Raises:** `OutputError` if it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(8, 3.4), layout="constrained")
    FigureCanvasAgg(drawing)
    layers = [row.layers for row in rows]
    panels = (("warm start", [r.warm for r in rows]), ("cold start", [r.cold for r in rows]))
    for axes, (title, errors) in zip(drawing.subplots(1, 2, sharey=True), panels, strict=True):
        axes.plot(layers, errors, color="grey", alpha=0.25, linewidth=0.8)
        axes.plot(layers, [sum(each) / len(each) for each in errors], color="C3", marker="o")
        axes.set(title=title, xlabel="adapted layers", xticks=layers)
        axes.grid(alpha=0.3)
    drawing.axes[0].set_ylabel("relative representation error")
    write_atomically(path, lambda stream: drawing.savefig(stream, format="png", dpi=130))
