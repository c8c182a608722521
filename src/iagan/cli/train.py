"""`iagan train`: a folder of images → a prior."""

from __future__ import annotations

import argparse
import dataclasses as dc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iagan.cli import options

if TYPE_CHECKING:
    from iagan.engine import Event
    from iagan.images import Crop
    from iagan.priors import About
    from iagan.train import TrainSettings

NUMBERS = {
    "size": (int, "side of the images in pixels; began: 32, 64 or 128"),
    "latent": (int, "entries of z"),
    "batch": (int, "images a step"),
    "autoencoder_steps": (int, "steps of the first phase, in which images are only reconstructed"),
    "steps": (int, "adversarial steps after it; may be raised when a run goes on"),
    "learning_rate": (float, "Adam's"),
    "ema": (float, "decay of the running mean of the weights"),
    "kl_weight": (float, "scale of the likelihood: smaller is sharper, samples are worse"),
    "perceptual_weight": (float, "vae-gan: of the distance between features"),
    "adversarial_weight": (float, "vae-gan: of the adversarial loss"),
    "width": (int, "began: channels of every layer of the generator"),
    "gamma": (float, "began: diversity ratio, smaller is smoother and less diverse"),
    "anchor": (float, "began: weight of the reconstruction in the adversarial phase"),
    "holdout": (int, "the last images, kept for validation"),
    "seed": (int, "random seed of the weights and of every step"),
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
    parser.add_argument("--license", help="of the images, hence of the prior")
    parser.add_argument("--half", action="store_true", help="save the weights in float16")
    parser.add_argument(
        "--checkpoint-every", type=int, metavar="N", default=500, help="steps (default: 500)"
    )
    options.add_device(parser)
    group = parser.add_argument_group("the run")
    group.add_argument(
        "--recipe",
        choices=("vae-gan", "began", "began-cpu"),
        default="vae-gan",
        help="vae-gan: sharp and quick to train, 128×128; began: as published, for a GPU; "
        "began-cpu: for two cores and some hours, 64×64 (default: vae-gan)",
    )
    group.add_argument(
        "--channels",
        type=_counts,
        metavar="N,N,…",
        help="vae-gan: of the decoder at 4×4, 8×8, …, the images' size",
    )
    group.add_argument(
        "--encoder-channels",
        type=_counts,
        metavar="N,N,…",
        help="vae-gan: of the encoder at half the images' size, …, 4×4",
    )
    for name, (kind, line) in NUMBERS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=line)
    for name, line in CROPS.items():
        group.add_argument(name, type=_crop, metavar="WIDTH,HEIGHT,LEFT,TOP,SIDE", help=line)
    group.add_argument(
        "--start", metavar="PRIOR", help="vae-gan: begin with this prior's weights (a name or path)"
    )
    group.add_argument("--law", choices=("uniform", "normal"), help="began: distribution of z")
    group.add_argument(
        "--encoder", choices=("began", "light"), help="began: light has a twentieth of the cost"
    )


def run(args: argparse.Namespace) -> int:
    """Train, or go on training."""
    from iagan.show import ProgressBar
    from iagan.train import RECIPES, train

    settings = _settings(args, RECIPES[args.recipe])
    with ProgressBar(line=_line) as bar:
        trained = train(
            settings,
            args.images,
            args.output,
            about=_about(args),
            resume=args.resume,
            half=args.half,
            device=options.pick_device(args.device),
            checkpoint_every=args.checkpoint_every,
            on_event=bar,
        )
    for line in trained.skipped:
        print(f"skipped {line}", file=sys.stderr)
    print(f"{trained.prior}; samples, curve and checkpoint in {trained.folder}")
    return 0


def _settings(args: argparse.Namespace, recipe: TrainSettings) -> TrainSettings:
    """The recipe with what was said on the command line in place of its own."""
    from iagan.errors import SettingError

    names = (*NUMBERS, "law", "encoder", "crop", "channels", "encoder_channels", "start")
    given = {name: getattr(args, name) for name in names}
    chosen = {name: value for name, value in given.items() if value is not None}
    strange = set(chosen) - {field.name for field in dc.fields(recipe)}
    if strange:
        options_given = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(strange))
        raise SettingError(
            f"The recipe {args.recipe} has no {options_given}. Leave it out, or take another one."
        )
    return dc.replace(recipe, **chosen)


def _about(args: argparse.Namespace) -> About:
    """What was said on this command line, else when the run that goes on was started."""
    from iagan.priors import About, load_prior

    before = About(source="iagan train")
    if args.resume and Path(args.output).exists():
        before = load_prior(args.output).about
    crop = args.photo_crop or args.crop
    said = {"name": args.name, "license": args.license, "crop": crop}
    return dc.replace(before, **{key: value for key, value in said.items() if value is not None})


def _line(event: Event) -> str:
    """One every hundred steps, where no bar is drawn."""
    from iagan.show.progress import format_values

    if event.phase == "images" or not (event.step % 100 == 0 or event.step == event.total):
        return ""
    return f"{event.step}/{event.total} {event.phase}: {format_values(event)}"


def _counts(text: str) -> tuple[int, ...]:
    return options.integers(text, ",".join("N" * (text.count(",") + 1)))


def _crop(text: str) -> Crop:
    from iagan.images import Crop

    width, height, left, top, side = options.integers(text, "WIDTH,HEIGHT,LEFT,TOP,SIDE")
    return Crop((width, height), (left + side // 2, top + side // 2), side)
