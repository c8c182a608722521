"""Options that several commands share, and what they mean. Heavy imports wait for their use."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iagan.errors import SettingError

if TYPE_CHECKING:
    from iagan.engine import Execution
    from iagan.priors import Generator

METHODS = ("naive", "pinv", "csgm", "csgm-bp", "iagan", "iagan-bp", "dip")
LPIPS_NETS = ("alex", "vgg", "squeeze")


def add_prior(parser: argparse.ArgumentParser) -> None:
    """`--prior`, `--weights`, `--latent`, `--device`, `--precision`, `--compile`, `--threads`."""
    parser.add_argument(
        "--prior",
        metavar="P",
        default="faces",
        help="a path to a checkpoint, or a name from 'iagan priors' (default: faces, which is in "
        "the package); with --weights, a network of your own as module:factory",
    )
    parser.add_argument("--weights", metavar="FILE", help="the state dict of that network")
    parser.add_argument(
        "--latent", metavar="LAW:SHAPE", help="its latents, such as normal:512 or uniform:64"
    )
    add_device(parser)
    parser.add_argument(
        "--precision",
        choices=("float32", "mixed", "bfloat16"),
        default="float32",
        help="numeric precision of the prior's network; bfloat16 is quicker on a recent GPU or "
        "processor; mixed: bfloat16 for CSGM only. L-BFGS (--effort fast) always runs in float32 "
        "(default: float32)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="on a GPU, let torch.compile translate the prior's network: half a minute, then "
        "fewer and larger steps",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads at most (default: those that other programs leave free when it starts; "
        "the last digits of a result depend on their number)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where to compute (default: a GPU if there is one)",
    )


def add_methods(parser: argparse.ArgumentParser, default: str) -> None:
    """`--method`."""
    parser.add_argument(
        "--method",
        type=_methods,
        action="extend",
        metavar="NAME,…",
        help=f"of {', '.join(METHODS)}; several by commas or by repeating it (default: {default})",
    )


def add_crop(parser: argparse.ArgumentParser) -> None:
    """`--crop`."""
    parser.add_argument(
        "--crop",
        type=_box,
        metavar="LEFT,TOP,SIDE",
        help="the square of the photograph to take, in pixels (default: what the prior expects)",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """`--seed`."""
    parser.add_argument(
        "--seed",
        type=_seed,
        default=0,
        help="random seed for masks, noise and starts (default: 0)",
    )


def add_scores(parser: argparse.ArgumentParser) -> None:
    """`--lpips`, `--json`."""
    add_lpips(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON record a line")


def add_lpips(parser: argparse.ArgumentParser) -> None:
    """`--lpips`."""
    parser.add_argument(
        "--lpips",
        choices=(*LPIPS_NETS, "none"),
        default="alex",
        help="backbone of LPIPS, or none to leave it out (default: alex, the paper's)",
    )


def lpips_net(args: argparse.Namespace) -> str | None:
    """`--lpips`; None where it is to be left out."""
    return None if args.lpips == "none" else str(args.lpips)


def load_generator(args: argparse.Namespace) -> Generator:
    """The prior on the device that was asked for."""
    from iagan.priors import load_prior
    from iagan.show import ProgressBar

    device = pick_device(args.device)
    prior = own_prior(args)
    if not isinstance(prior, str):
        return prior.to(device)
    with ProgressBar(prior) as bar:
        return load_prior(prior, bar).to(device)


def own_prior(args: argparse.Namespace) -> Generator | str:
    """The network that `--prior` names, with `--weights`; without them the word after `--prior`."""
    if args.weights is None:
        if args.latent is not None:
            raise SettingError("--latent expects --weights beside it; got none. Leave it out.")
        return str(args.prior)
    from iagan.priors import load_prior

    sys.path.append(str(Path.cwd()))  # as python -m has it
    return load_prior(args.weights, network=args.prior, latent=args.latent)


def execution(args: argparse.Namespace) -> Execution:
    """`--device`, `--precision`, `--compile` and `--threads`."""
    from iagan.engine import Execution, idle_threads

    device = pick_device(args.device)
    if args.compile and device == "cpu":
        raise SettingError("--compile expects a GPU; got a CPU, which gains nothing. Leave it out.")
    threads = args.threads
    if threads is None and device == "cpu":
        threads = idle_threads()
    return Execution(device, args.precision, args.compile, threads)


def pick_device(expected: str) -> str:
    """`--device`, made sure of; "auto" is a CUDA GPU where there is one."""
    import torch

    cuda = torch.cuda.is_available()
    if expected == "auto":
        return "cuda" if cuda else "cpu"
    present = {"cpu": True, "cuda": cuda, "mps": torch.backends.mps.is_available()}
    if not present[expected]:
        raise SettingError(f"--device {expected} is not available here; use --device cpu.")
    return expected


def _methods(text: str) -> list[str]:
    """Names by commas, each one known."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METHODS:
            known = ", ".join(map(repr, METHODS))
            raise argparse.ArgumentTypeError(f"invalid choice: {name!r} (choose from {known})")
    return names


def integers(text: str, names: str) -> tuple[int, ...]:
    """The whole numbers that `text` separates by commas, as many as `names` names."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != names.count(",") + 1:
        raise argparse.ArgumentTypeError(f"expects {names} in whole pixels, got {text!r}")
    return values


def _box(text: str) -> tuple[int, ...]:
    return integers(text, "LEFT,TOP,SIDE")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"expects a whole number from 0 to 2^63 - 1, got {text!r}")
    return int(text)
