"""`iagan reconstruct`: measurements or bad photographs → recovered photographs."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iagan.cli import operators, options
from iagan.errors import OutputError, shown
from iagan.limits import MIB, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from iagan.jobs import Outcome
    from iagan.methods import Method
    from iagan.observation import Observation
    from iagan.priors import Generator

logger = logging.getLogger("iagan")

MOST = 4096
"""Characters of a path that are printed: all, as somebody may want to copy it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "inputs",
        metavar="Y",
        nargs="+",
        help="observations (.npz), images measured as described by --operator, or folders of these",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        default=".",
        help="a PNG (one input, one method), or a folder for STEM_METHOD.png (default: .)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing outputs; by default those made with the same settings are skipped",
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="MIB",
        default=4096,
        help="memory that one input may require, for example for its Gaussian matrix; lower it for "
        "untrusted files (default: %(default)s)",
    )
    options.add_methods(parser, "iagan-bp without noise, iagan with noise")
    parser.add_argument(
        "--truth", metavar="IMAGE", help="true image, or a folder of them, to compute scores"
    )
    parser.add_argument(
        "--figure", metavar="OUT.png", help="save a figure: truth | observed | each method"
    )
    options.add_prior(parser)
    options.add_execution(parser)
    options.add_crop(parser)
    _add_effort(parser)
    operators.add_operator(parser, required=False)
    options.add_seed(parser)
    options.add_scores(parser)


def _add_effort(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("effort")
    group.add_argument(
        "--effort",
        choices=("fast", "paper"),
        default="fast",
        help="paper: the paper's full iteration counts (default: fast)",
    )
    group.add_argument("--csgm-steps", type=int, metavar="N", help="iterations of CSGM")
    group.add_argument("--steps", type=int, metavar="N", help="iterations of IAGAN or DIP")
    group.add_argument(
        "--restarts",
        type=int,
        metavar="K",
        default=1,
        help="number of random starts of z (default: 1)",
    )
    group.add_argument(
        "--bounded-latent",
        action="store_true",
        help="project z onto the support of its distribution after every step",
    )


def run(args: argparse.Namespace) -> int:
    """Recover all inputs and print a line for each; a bad one does not stop the rest."""
    from iagan.files import check_writable
    from iagan.jobs import find_inputs, recover
    from iagan.show import ProgressBar

    paths = find_inputs(args.inputs, args.output)
    if args.figure:
        check_writable(args.figure, ".png")
        _check_figure(args, paths)
    operators.check_belonging(args)
    _tell_unused_effort(args)
    execution = options.execution(args)
    outcomes: list[Outcome] = []
    failed: list[str] = []
    made = 0

    def kept() -> str:
        rest = "run the same command again to continue" if made else "none was finished"
        return f"images finished: {made}; {rest}."

    with options.telling_when_stopped(kept), ProgressBar() as bar:
        stream = recover(
            paths,
            args.output,
            prior=options.own_prior(args),
            operator=functools.partial(operators.build_operator, args) if args.operator else None,
            noise_std=args.noise if args.noise == operators.AUTO else operators.noise_std(args),
            crop=args.crop,
            methods=[_method(name, args) for name in dict.fromkeys(args.method or [None])],
            seed=args.seed,
            truth=args.truth,
            lpips_net=options.lpips_net(args),
            overwrite=args.overwrite,
            limits=Limits(array_bytes=args.limit * MIB),
            execution=execution,
            on_event=bar,
        )
        for outcome in stream:
            if outcome.error is not None and len(paths) == 1:
                raise outcome.error
            if outcome.error is not None:
                failed.append(shown(outcome.path))
            made += outcome.status in ("done", "skipped")
            with bar.aside():
                _print(outcome, args.json)
            if args.figure:
                outcomes.append(outcome)
    if args.figure:
        _draw(args, outcomes)
    if failed:
        names = dict.fromkeys(failed)
        print(
            f"iagan reconstruct: {len(names)} of {len(paths)} failed: {', '.join(names)}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _check_figure(args: argparse.Namespace, paths: list[Path]) -> None:
    """Refuse to replace by a figure what is not a figure of iagan."""
    from iagan.jobs.outputs import is_figure

    given = [*paths, *(Path(each) for each in (args.truth, args.mask, args.hole) if each)]
    target = Path(args.figure)
    if target.resolve() in {path.resolve() for path in given}:
        raise OutputError(f"--figure {shown(target)} is an input. Choose another name.")
    if target.exists() and not args.overwrite and not is_figure(target):
        raise OutputError(
            f"--figure {shown(target)} exists and is not a figure of iagan. Choose another name, "
            "or replace it with --overwrite."
        )


def _draw(args: argparse.Namespace, outcomes: list[Outcome]) -> None:
    """Draw `--figure`, unless it would replace a result."""
    from iagan.jobs import Scorer
    from iagan.show import figure, figure_rows

    target = Path(args.figure)
    if target.resolve() in {Path(each.output).resolve() for each in outcomes if each.output}:
        raise OutputError(
            f"--figure {shown(target)} is a result, which is kept. Choose another name."
        )
    rows = figure_rows(outcomes, Scorer(options.lpips_net(args)))
    if rows:
        figure(rows, target)


def _tell_unused_effort(args: argparse.Namespace) -> None:
    """Tell of options that change none of the methods."""
    if not args.method:
        return
    csgm = ("csgm", "csgm-bp", "iagan", "iagan-bp")
    for option, given, users in (
        ("--csgm-steps", args.csgm_steps is not None, csgm),
        ("--steps", args.steps is not None, ("iagan", "iagan-bp", "dip")),
        ("--restarts", args.restarts != 1, csgm),
        ("--bounded-latent", args.bounded_latent, csgm),
    ):
        if given and not set(users) & set(args.method):
            logger.warning(
                "%s has no effect here; it applies to --method %s.", option, ", ".join(users)
            )


def _method(name: str | None, args: argparse.Namespace) -> Callable[..., Method]:
    """The preset for an observation, with the options of effort applied."""
    from iagan.methods import presets

    def choose(observation: Observation, prior: Generator) -> Method:
        return presets.adjust(
            presets.preset(name, observation, prior, args.effort),
            csgm_steps=args.csgm_steps,
            steps=args.steps,
            restarts=args.restarts,
            bounded=args.bounded_latent,
        )

    return choose


def _print(outcome: Outcome, as_json: bool) -> None:
    """Print a result to stdout; what was skipped, stopped or failed, and why, to stderr."""
    from iagan.jobs import to_json

    if outcome.error is not None:
        name, reason = shown(outcome.path), str(outcome.error)
        text = reason if reason.startswith(name) else f"{name}: {reason}"
        print(f"iagan reconstruct: {text}", file=sys.stderr)
    elif outcome.status == "skipped":
        logger.info("%s exists, made with these settings; skipped.", shown(outcome.output))
        if as_json:
            names = {"file": outcome.path, "output": outcome.output, "method": outcome.method}
            print(
                to_json({k: str(v) for k, v in names.items()} | {"status": "skipped"}), flush=True
            )
    elif outcome.status == "stopped":
        logger.warning("stopped; the best so far is %s", shown(outcome.output))
    else:
        print(to_json(outcome.record) if as_json else _line(outcome), flush=True)


def _line(outcome: Outcome) -> str:
    from iagan.jobs import format_scores

    record = outcome.record
    text = (
        f"{shown(outcome.output, MOST)}  {record['method']}  {record['seconds']:.1f} s  residual "
        f"{record['residual']:.3g} (noise floor {record['noise_floor']:.3g})"
    )
    return f"{text}  {format_scores(record)}" if "psnr" in record else text
