"""`iagan priors`: what can be named after --prior."""

from __future__ import annotations

import argparse
import dataclasses as dc
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print one JSON record per line")


def run(args: argparse.Namespace) -> int:
    """One line a prior."""
    from iagan.priors import available_priors

    for prior in available_priors():
        print(json.dumps(dc.asdict(prior)) if args.json else prior.describe())
    return 0
