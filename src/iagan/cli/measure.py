"""`iagan measure`: images against the true one."""

from __future__ import annotations

import argparse
import json

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
    """Print a line an image, then the averages (the paper's PSNR) when there are several."""
    import torch

    from iagan.generators import load_prior
    from iagan.images import load_image

    images = [load_image(path) for path in args.images]
    generator = load_prior(args.prior) if args.prior else None
    scorer = scores.Scorer(args.lpips)
    for path, image in zip(args.images, images, strict=True):
        truth = scores.load_truth(args.truth, args.crop, generator, tuple(image.shape[-2:]))
        found = scorer(image, truth)
        print(json.dumps({"file": path} | found) if args.json else _line(path, found))
    if len(images) > 1 and not args.json:
        same = len({tuple(image.shape) for image in images}) == 1
        if same:
            whole = torch.cat(images)
            print(_line(f"mean of {len(images)}", scorer(whole, truth.expand_as(whole))))
    return 0


def _line(name: str, found: dict[str, float | None]) -> str:
    return f"{name}  {scores.in_words(found)}"
