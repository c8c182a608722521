"""`iagan reproduce`: the paper's tables and figures, ours beside theirs."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iagan.cli import options
from iagan.errors import ImageFileError, MissingDependencyError, SettingError, shown

if TYPE_CHECKING:
    from iagan.engine import Execution
    from iagan.experiments.plan import Plan
    from iagan.jobs import RunFolder
    from iagan.priors import Generator
    from iagan.show import ProgressBar

TABLES = (
    *("table1", "table1-compact", "table2", "table3", "table4"),
    *("figure2", "misaligned", "runtime"),
)
THEORY = "proposition2"
"""The experiment that needs neither images nor a prior."""
COMPARED = (
    "prior",
    "prior_sha256",
    "precision",
    "effort",
    "steps_scale",
    "restarts",
    "seed",
    "lpips",
    "save_images",
)
"""Settings that must not change when a run is resumed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    choices = (*TABLES, THEORY, "all")
    parser.add_argument(
        "tables", metavar="TABLE", nargs="+", choices=choices, help=", ".join(choices)
    )
    parser.add_argument(
        "--images", metavar="DIR", nargs="+", default=[], help="photographs, or folders of them"
    )
    parser.add_argument(
        "-n", "--count", type=int, metavar="N", help="use the first N readable images"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="RUN",
        required=True,
        help="folder of the run; a run can be resumed",
    )
    options.add_methods(parser, "all methods of the table")
    parser.add_argument(
        "--setting",
        type=lambda text: text.split(","),
        action="extend",
        metavar="KEY,…",
        help="run only these settings, such as sr-4, separated by commas",
    )
    parser.add_argument(
        "--effort",
        choices=("paper", "fast"),
        default="paper",
        help="iteration counts: the paper's, or those of iagan reconstruct (default: paper)",
    )
    parser.add_argument(
        "--steps-scale",
        type=float,
        default=1.0,
        metavar="F",
        help="fraction of the iterations, in (0, 1], for a quick look; the tables say so",
    )
    parser.add_argument(
        "--restarts",
        type=int,
        default=1,
        metavar="K",
        help="number of random starts of z (default: 1)",
    )
    parser.add_argument(
        "--save-images", action="store_true", help="save the images and draw figures of them"
    )
    options.add_lpips(parser)
    options.add_prior(parser)
    options.add_execution(parser)
    options.add_seed(parser)


def run(args: argparse.Namespace) -> int:
    """Run what has no record yet, then print the tables."""
    from iagan.files import check_writable, only_process

    if not 0 < args.steps_scale <= 1:
        raise SettingError(
            f"--steps-scale expects a fraction in (0, 1]; got {args.steps_scale}. Try 0.25."
        )
    work = None if set(args.tables) == {THEORY} else _prepare(args)
    folder = Path(args.output)
    check_writable(folder / "settings.json")
    with only_process(folder):
        if set(args.tables) & {THEORY, "all"}:
            _run_theory(args, folder)
        if work is not None:
            _run_tables(args, folder, *work)
    return 0


def _run_theory(args: argparse.Namespace, folder: Path) -> None:
    """Run Proposition 2, which takes a minute, unless it is done; print its table."""
    import dataclasses as dc

    from iagan.experiments.plan import in_brackets, quick_look
    from iagan.experiments.proposition2 import Proposition2, markdown, plot, run_proposition2
    from iagan.files import write_text
    from iagan.jobs.records import keep_settings, software

    full = Proposition2(seed=args.seed)
    settings = dc.replace(full, steps=max(1, round(args.steps_scale * full.steps)))
    kept = dc.asdict(settings) | {"widths": list(settings.widths)}
    keep_settings(folder / f"{THEORY}.json", kept | software(), tuple(kept))
    table = folder / f"{THEORY}.md"
    if not table.exists():
        with _bar() as bar:
            rows = run_proposition2(settings, bar)
        plot(rows, folder / "figures" / f"{THEORY}.png")
        note = in_brackets(quick_look(args.steps_scale))
        write_text(table, f"## Proposition 2{note}\n\n{markdown(rows, settings)}\n")
    print(table.read_text("utf-8"), end="")


def _prepare(args: argparse.Namespace) -> tuple[Plan, Generator, list[str]]:
    """The plan, the prior and notes on the images for the table; nothing is written yet."""
    from iagan.experiments.plan import Plan, readable
    from iagan.images import find_images

    if args.count is not None and args.count < 1:
        raise SettingError(
            f"-n expects at least one image; got {args.count}. Leave it out for all of them."
        )
    if not args.images:
        raise SettingError("--images is required: give photographs or a folder of them.")
    good, skipped = readable(find_images([Path(name) for name in args.images]), args.count)
    if not good:
        reason = next(iter(skipped.values()), "there is none")
        raise ImageFileError(
            f"--images expects photographs in {', '.join(args.images)}; got none that can be read "
            f"({reason}). Name a folder with PNG or JPEG files."
        )
    if args.count is not None and len(good) < args.count:
        _tell(f"-n {args.count}: only {_images(len(good))} can be read; using all {len(good)}.")
    plan = Plan(
        experiments=tuple(t for t in TABLES if t in args.tables or "all" in args.tables),
        images=tuple(good),
        methods=tuple(args.method) if args.method else None,
        settings=tuple(args.setting) if args.setting else None,
        effort=args.effort,
        steps_scale=args.steps_scale,
        restarts=args.restarts,
        seed=args.seed,
        lpips_net=options.lpips_net(args),
        save_images=args.save_images,
    )
    _check_lpips(plan)
    generator = options.load_generator(args, options.pick_device(args.device))
    return plan, generator, _notes(generator, good, skipped)


def _check_lpips(plan: Plan) -> None:
    """Check that LPIPS is available before a run of hours starts."""
    from iagan import measure

    if plan.lpips_net is not None:
        try:
            measure.load_lpips(plan.lpips_net)
        except MissingDependencyError as error:
            raise MissingDependencyError(f"{error} Or leave LPIPS out: --lpips none.") from error


def _notes(generator: Generator, good: dict[Path, int], skipped: dict[Path, str]) -> list[str]:
    """Warn about skipped and enlarged images, and return the notes for the table."""
    notes = []
    for why in skipped.values():
        _tell(f"skipped: {why}")
    if skipped:
        notes.append(f"{_images(len(skipped))} could not be read: in no row.\n")
    side = max(generator.image_shape[1:])
    small = [path for path, shorter in good.items() if shorter < side]
    for path in small:
        _tell(
            f"{shown(path)} has fewer than {side}×{side} pixels and is enlarged: its scores "
            "flatter."
        )
    if small:
        notes.append(f"{_images(len(small))} of fewer than {side}×{side} pixels: enlarged.\n")
    return notes


def _run_tables(
    args: argparse.Namespace, folder: Path, plan: Plan, generator: Generator, notes: list[str]
) -> None:
    from iagan.experiments.run import KEYS, run
    from iagan.jobs import RunFolder
    from iagan.show.report import write_tables

    runs = RunFolder(folder, _settings(args, plan, generator), COMPARED, KEYS)
    execution = options.execution(args)
    _tell(_estimate(plan, generator, runs.records(), execution))
    others = {r["image"] for r in runs.records()} - {path.name for path in plan.images}
    if others:
        _tell(
            f"{shown(folder)} also has records of {_images(len(others))} not named here; all are "
            "shown."
        )
    with options.telling_when_stopped(lambda: _kept(runs)), _bar() as bar:
        run(plan, generator, runs, bar, execution)
    print(write_tables(plan, runs, notes), end="")


def _kept(runs: RunFolder) -> str:
    """What Ctrl-C leaves."""
    count = len(runs.records())
    return f"records in {shown(runs.path)}: {count}; run the same command again to continue."


def _bar() -> ProgressBar:
    """A progress bar; where none can be drawn, the messages of events are printed."""
    from iagan.show import ProgressBar

    return ProgressBar(line=lambda event: event.message)


def _tell(line: str) -> None:
    if logging.getLogger("iagan").isEnabledFor(logging.WARNING):
        print(line, file=sys.stderr)


def _estimate(
    plan: Plan, generator: Generator, records: list[dict[str, object]], execution: Execution
) -> str:
    from iagan.experiments.estimate import estimate_seconds, format_estimate

    seconds = estimate_seconds(plan, generator, records, execution)
    return f"{_images(len(plan.images))}: {format_estimate(seconds)}"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _settings(args: argparse.Namespace, plan: Plan, generator: Generator) -> dict[str, object]:
    from iagan.jobs.records import software

    how = {name: getattr(args, name) for name in ("prior", "device", "precision")}
    prior = {"prior_sha256": _sha256(args.prior)}
    return how | plan.settings_to_keep(generator) | prior | software()


def _sha256(prior: str) -> str | None:
    import hashlib

    from iagan.priors import PRIORS

    if prior in PRIORS:
        return PRIORS[prior].sha256
    path = Path(prior)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
