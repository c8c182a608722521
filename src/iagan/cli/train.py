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
    "latent": (int, "dimension of z"),
    "batch": (int, "images per step"),
    "autoencoder_steps": (int, "steps of the first phase, without adversarial loss"),
    "steps": (int, "adversarial steps after it; may be increased with --resume"),
    "learning_rate": (float, "learning rate of Adam"),
    "ema": (float, "decay of the exponential moving average of the weights"),
    "kl_weight": (
        float,
        "weight of the KL term: smaller values give sharper reconstructions and worse samples",
    ),
    "perceptual_weight": (float, "vae-gan: weight of the perceptual loss"),
    "adversarial_weight": (float, "vae-gan: weight of the adversarial loss"),
    "width": (int, "began: channels of each layer of the generator"),
    "gamma": (float, "began: diversity ratio; smaller is smoother and less diverse"),
    "anchor": (float, "began: weight of the reconstruction loss in the adversarial phase"),
    "holdout": (int, "number of images, the last ones, kept for validation"),
    "seed": (int, "random seed for the initial weights and for every step"),
}
"""Options that replace the field of the same name in the recipe."""

CROPS = {
    "--crop": "square to use of training images of exactly WIDTH×HEIGHT (default: the centred one, "
    "as for all other sizes)",
    "--photo-crop": "square that the finished prior expects of photographs of that size (default: "
    "that of --crop)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("images", metavar="IMAGES", help="a folder, .tar or .zip of images")
    parser.add_argument("-o", "--output", metavar="PRIOR.safetensors", required=True)
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    parser.add_argument("--name", help="name of the prior, kept in its file")
    parser.add_argument(
        "--license", help="license of the training images, kept in the prior's file"
    )
    parser.add_argument("--half", action="store_true", help="save the weights in float16")
    parser.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="N",
        default=500,
        help="steps between checkpoints (default: 500)",
    )
    options.add_device(parser)
    group = parser.add_argument_group("training")
    group.add_argument(
        "--recipe",
        choices=("vae-gan", "began", "began-cpu"),
        default="vae-gan",
        help="vae-gan: sharp and fast to train, 128×128; began: as published, for a GPU; "
        "began-cpu: 64×64, for two cores and some hours (default: vae-gan)",
    )
    group.add_argument(
        "--channels",
        type=_counts,
        metavar="N,N,…",
        help="vae-gan: channels of the decoder at 4×4, 8×8, …, full size",
    )
    group.add_argument(
        "--encoder-channels",
        type=_counts,
        metavar="N,N,…",
        help="vae-gan: channels of the encoder at half size, …, 4×4",
    )
    for name, (kind, line) in NUMBERS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=line)
    for name, line in CROPS.items():
        group.add_argument(name, type=_crop, metavar="WIDTH,HEIGHT,LEFT,TOP,SIDE", help=line)
    group.add_argument(
        "--start",
        metavar="PRIOR",
        help="vae-gan: start from the weights of this prior (a name or path)",
    )
    group.add_argument("--law", choices=("uniform", "normal"), help="began: distribution of z")
    group.add_argument(
        "--encoder", choices=("began", "light"), help="began: encoder; light costs a twentieth"
    )


def run(args: argparse.Namespace) -> int:
    """Train, or continue training."""
    from iagan.show import ProgressBar
    from iagan.train import RECIPES, train

    settings = _settings(args, RECIPES[args.recipe])
    with options.telling_when_stopped(lambda: _kept(args)), ProgressBar(line=_line) as bar:
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


def _kept(args: argparse.Namespace) -> str:
    """What Ctrl-C leaves."""
    from iagan.train.loop import checkpoint_of

    if checkpoint_of(args.output).exists():
        return "run the same command with --resume to continue from the last checkpoint."
    return f"nothing is kept before the first checkpoint, after {args.checkpoint_every} steps."


def _settings(args: argparse.Namespace, recipe: TrainSettings) -> TrainSettings:
    """The recipe, with the fields given on the command line replaced."""
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
    """From this command line, else from the one that started the resumed run."""
    from iagan.priors import About, load_prior

    before = About(source="iagan train")
    if args.resume and Path(args.output).exists():
        before = load_prior(args.output).about
    crop = args.photo_crop or args.crop
    said = {"name": args.name, "license": args.license, "crop": crop}
    return dc.replace(before, **{key: value for key, value in said.items() if value is not None})


def _line(event: Event) -> str:
    """A line every hundred steps, when there is no progress bar."""
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
