"""`iagan measure`: images against the true one."""

from __future__ import annotations

import argparse
import sys

from iagan.cli import options
from iagan.errors import IaganError, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("truth", metavar="TRUTH")
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    parser.add_argument(
        "--prior", metavar="P", help="crop TRUTH to what this prior expects (name or path)"
    )
    options.add_crop(parser)
    options.add_scores(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line an image; carry on past a bad one."""
    from iagan.images import load_image
    from iagan.jobs import Scorer, format_scores, load_truth, to_json
    from iagan.priors import load_prior

    load_image(args.truth)  # refused before all others, and once
    crop = load_prior(args.prior).about.crop if args.prior else None
    scorer = Scorer(options.lpips_net(args))
    failed = 0
    for path in args.images:
        try:
            image = load_image(path)
            size = tuple(image.shape[-2:])
            truth = load_truth(args.truth, args.crop, size, crop, or_centred=bool(args.prior))
            scores = scorer(image, truth)
        except IaganError as error:
            if len(args.images) == 1:
                raise
            failed += 1
            print(f"iagan measure: {error}", file=sys.stderr)
            continue
        line = f"{shown(path)}  {format_scores(scores)}"
        print(to_json({"file": path} | scores) if args.json else line)
    return 1 if failed else 0
