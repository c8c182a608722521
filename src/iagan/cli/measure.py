"""`iagan measure`: images against the true one."""

from __future__ import annotations

import argparse

from iagan.cli import options, scores


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
    """Print a line an image."""
    from iagan.generators import load_prior
    from iagan.images import load_image

    images = [load_image(path) for path in args.images]
    generator = load_prior(args.prior) if args.prior else None
    scorer = scores.Scorer(args.lpips)
    for path, image in zip(args.images, images, strict=True):
        truth = scores.load_truth(args.truth, args.crop, generator, tuple(image.shape[-2:]))
        found = scorer(image, truth)
        print(scores.to_json({"file": path} | found) if args.json else _line(path, found))
    return 0


def _line(name: str, found: dict[str, float | None]) -> str:
    return f"{name}  {scores.in_words(found)}"
