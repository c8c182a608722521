"""`iagan reproduce`: the paper's tables, ours beside theirs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from iagan.cli import options
from iagan.errors import SettingError

TABLES = ("table1", "table2", "table3", "table4", "misaligned")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("tables", metavar="TABLE", nargs="+", choices=(*TABLES, "all"))
    parser.add_argument("--images", metavar="DIR", required=True, nargs="+")
    parser.add_argument("-n", "--count", type=int, metavar="N", help="the first N images only")
    parser.add_argument("-o", "--output", metavar="RUN", required=True, help="a folder; resumable")
    parser.add_argument("--methods", nargs="+", choices=options.METHODS)
    parser.add_argument("--settings", nargs="+", metavar="KEY", help="only these, as sr-4")
    parser.add_argument("--steps-scale", type=float, default=1.0, metavar="F", help="a quick look")
    parser.add_argument("--restarts", type=int, default=1, metavar="K")
    parser.add_argument("--save-images", action="store_true")
    parser.add_argument("--lpips", choices=options.LPIPS_NETS, default="alex")
    options.add_prior(parser)
    options.add_seed(parser)


def run(args: argparse.Namespace) -> int:
    """Run what has no record yet, then print the tables."""
    from iagan.experiments.records import RunFolder, locked
    from iagan.experiments.run import Plan, run
    from iagan.files import check_writable
    from iagan.images import find_images

    folder = Path(args.output)
    check_writable(folder / "settings.json")
    plan = Plan(
        experiments=TABLES if "all" in args.tables else tuple(dict.fromkeys(args.tables)),
        images=tuple(find_images([Path(name) for name in args.images])[: args.count]),
        methods=tuple(args.methods) if args.methods else None,
        settings=tuple(args.settings) if args.settings else None,
        steps_scale=args.steps_scale,
        restarts=args.restarts,
        seed=args.seed,
        lpips_net=args.lpips,
        save_images=args.save_images,
    )
    if not 0 < plan.steps_scale <= 1:
        raise SettingError(f"--steps-scale wants a share in (0, 1]; got {plan.steps_scale}.")
    generator = options.load_generator(args)
    with locked(folder):
        runs = RunFolder(folder, _settings(args), COMPARED)
        bad = run(plan, generator, runs, lambda line: print(line, file=sys.stderr))
        _print_tables(plan.experiments, runs, args)
    return 1 if bad else 0


COMPARED = ("prior", "prior_sha256", "steps_scale", "restarts", "seed", "lpips")
"""What a run that goes on must have in common with its beginning."""


def _settings(args: argparse.Namespace) -> dict[str, object]:
    import platform
    from importlib.metadata import version

    names = ("prior", "steps_scale", "restarts", "seed", "lpips", "device")
    packages = ("iagan", "torch", "torchvision", "torchmetrics", "numpy", "pillow")
    return {name: getattr(args, name) for name in names} | {
        "prior_sha256": _sha256(args.prior),
        "versions": {package: version(package) for package in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def _sha256(prior: str) -> str | None:
    import hashlib

    path = Path(prior)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _print_tables(tables, runs, args) -> None:  # type: ignore[no-untyped-def]
    from iagan.experiments.paper import EXPERIMENTS
    from iagan.experiments.table import cells, markdown
    from iagan.files import write_atomically

    text = ""
    for table in tables:
        found = cells(table, runs.records())
        if found:
            quick = f" (quick look: {args.steps_scale:g} of the paper's iterations)"
            note = quick if args.steps_scale != 1 else ""
            text += f"## {EXPERIMENTS[table].title}{note}\n\n{markdown(found, args.lpips)}\n"
    print(text, end="")
    write_atomically(runs.path / "table.md", lambda stream: stream.write(text.encode()))
