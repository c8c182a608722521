"""Arrange the outcomes of a recovery as a figure."""

from __future__ import annotations

from collections.abc import Sequence

from iagan.images import load_image
from iagan.jobs import Outcome, Scorer, format_scores
from iagan.show.figure import Panel, picture_of


def figure_rows(outcomes: Sequence[Outcome], scorer: Scorer) -> list[list[Panel]]:
    """One row per image, in the order of `outcomes`: truth if known | observed | each method.

    Skipped images are read from their files and scored again.

    **Raises:** `ImageFileError` if such a file cannot be read.
    """
    rows: dict[tuple[object, int], list[Panel]] = {}
    for outcome in outcomes:
        if outcome.input is None or outcome.output is None or outcome.error is not None:
            continue
        truth = outcome.input.truth_of(outcome.index)
        key = (outcome.path, outcome.index)
        if key not in rows:
            observed = picture_of(outcome.input.observation)[outcome.index][None]
            rows[key] = [Panel(truth, "truth", "")] if truth is not None else []
            rows[key].append(Panel(observed, "observed", ""))
        image = load_image(outcome.output) if outcome.image is None else outcome.image
        caption = ""
        if truth is not None:
            known = "psnr" in outcome.record
            caption = format_scores(outcome.record if known else scorer(image, truth), "\n")
        rows[key].append(Panel(image, outcome.method or "", caption))
    return list(rows.values())
