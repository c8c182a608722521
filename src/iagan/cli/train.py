"""`iagan train`: a folder of images → a prior."""

from __future__ import annotations

import argparse
import dataclasses as dc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iagan.cli import options

if TYPE_CHECKING:
    from iagan.generators import Metadata
    from iagan.images import Crop
    from iagan.train import Progress

NUMBERS = {
    "size": (int, "side of the images in pixels: 32, 64 or 128"),
    "latent": (int, "entries of z"),
    "width": (int, "channels of every layer of the generator"),
    "batch": (int, "images a step"),
    "steps": (int, "adversarial steps; may be raised when a run goes on"),
    "gamma": (float, "diversity ratio: smaller is smoother and less diverse"),
    "learning_rate": (float, "Adam's, halved each time that M stalls"),
    "autoencoder_steps": (int, "steps of an autoencoder phase before; for a few CPU cores"),
    "kl_weight": (float, "scale of that phase's likelihood: smaller is sharper, samples are worse"),
    "anchor": (float, "weight that its reconstruction keeps afterwards"),
    "holdout": (int, "the last images, kept for validation"),
    "seed": (int, "of every random draw"),
}
"""Options that replace the recipe's field of the same name."""

CROPS = {
    "--crop": "of training images of exactly WIDTH×HEIGHT take this square (default: the centred "
    "one, as of all others)",
    "--photo-crop": "the square that the finished prior expects of photographs of that size "
    "(default: as --crop)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("images", metavar="IMAGES", help="a folder, .tar or .zip of images")
    parser.add_argument("-o", "--output", metavar="PRIOR.safetensors", required=True)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--name", help="of the prior")
    parser.add_argument("--licence", help="of the images, hence of the prior")
    parser.add_argument("--half", action="store_true", help="save the weights in float16")
    parser.add_argument(
        "--checkpoint-every", type=int, metavar="N", default=500, help="steps (default: 500)"
    )
    options.add_device(parser)
    group = parser.add_argument_group("the run")
    group.add_argument(
        "--recipe",
        choices=("began", "cpu"),
        default="began",
        help="began: as published, for a GPU; cpu: for two cores and some hours (default: began)",
    )
    for name, (kind, line) in NUMBERS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=line)
    for name, line in CROPS.items():
        group.add_argument(name, type=_crop, metavar="WIDTH,HEIGHT,LEFT,TOP,SIDE", help=line)
    group.add_argument("--law", choices=("uniform", "normal"), help="of z")
    group.add_argument(
        "--encoder", choices=("began", "light"), help="light: a twentieth of the cost"
    )


def run(args: argparse.Namespace) -> int:
    """Train, or go on training."""
    from iagan.train import RECIPES, train

    given = {name: getattr(args, name) for name in (*NUMBERS, "law", "encoder", "crop")}
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = dc.replace(RECIPES[args.recipe], **chosen)
    bar = _Bar()
    try:
        trained = train(
            settings,
            args.images,
            args.output,
            metadata=_metadata(args),
            resume=args.resume,
            half=args.half,
            device=options.pick_device(args.device),
            checkpoint_every=args.checkpoint_every,
            on_progress=bar,
        )
    finally:
        bar.close()
    for line in trained.skipped:
        print(f"skipped {line}", file=sys.stderr)
    print(f"{trained.prior}; samples, curve and checkpoint in {trained.folder}")
    return 0


def _metadata(args: argparse.Namespace) -> Metadata:
    """What was said on this command line, else when the run that goes on was started."""
    from iagan.generators import Metadata, load_prior

    before = Metadata(architecture="began", source="iagan train")
    if args.resume and Path(args.output).exists():
        before = load_prior(args.output).metadata
    crop = args.photo_crop or args.crop
    said = {"name": args.name, "licence": args.licence, "crop": crop}
    return dc.replace(before, **{key: value for key, value in said.items() if value is not None})


class _Bar:
    """M, k and images a second on a terminal; elsewhere a line every hundred steps."""

    def __init__(self) -> None:
        self.bar: Any = None

    def __call__(self, progress: Progress) -> None:
        if not sys.stderr.isatty():
            if progress.step % 100 == 0 or progress.step == progress.steps:
                print(f"{progress.step}/{progress.steps} {_state(progress)}", file=sys.stderr)
            return
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(total=progress.steps, initial=progress.step - 1, unit="step")
        self.bar.update(progress.step - self.bar.n)
        self.bar.set_postfix_str(_state(progress), refresh=False)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _state(progress: Progress) -> str:
    text = f"{progress.phase}: error {progress.error:.4f}"
    if progress.measure is not None:
        text += f", M {progress.measure:.4f}, k {progress.k:.4f}"
    return f"{text}, {progress.images_per_second:.1f} images/s"


def _crop(text: str) -> Crop:
    from iagan.images import Crop

    width, height, left, top, side = options.integers(text, "WIDTH,HEIGHT,LEFT,TOP,SIDE")
    return Crop((width, height), (left + side // 2, top + side // 2), side)
