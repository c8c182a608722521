"""Options shared by several commands. Heavy modules are imported only when needed."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from iagan.errors import SettingError

if TYPE_CHECKING:
    from iagan.engine import Execution
    from iagan.priors import Generator

METHODS = ("naive", "pinv", "csgm", "csgm-bp", "iagan", "iagan-bp", "dip")
LPIPS_NETS = ("alex", "vgg", "squeeze")


def add_prior(parser: argparse.ArgumentParser) -> None:
    """`--prior`, `--weights`, `--latent`."""
    parser.add_argument(
        "--prior",
        metavar="P",
        default="faces",
        help="a checkpoint file, or a name from 'iagan priors' (default: faces, included in the "
        "package); with --weights, your own network as module:factory",
    )
    parser.add_argument("--weights", metavar="FILE", help="state dict of your own network")
    parser.add_argument(
        "--latent",
        metavar="LAW:SHAPE",
        help="distribution and shape of its latents, such as normal:512 or uniform:64",
    )


def add_execution(parser: argparse.ArgumentParser) -> None:
    """`--device`, `--precision`, `--compile`, `--threads`."""
    add_device(parser)
    parser.add_argument(
        "--precision",
        choices=("float32", "mixed", "bfloat16"),
        default="float32",
        help="numeric precision of the prior's network; bfloat16 is faster on recent GPUs and "
        "processors; mixed: bfloat16 for CSGM only. L-BFGS (--effort fast) always runs in float32 "
        "(default: float32)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="GPU only: compile the prior's network with torch.compile, which takes half a minute "
        "and makes every step faster",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="maximum number of CPU threads (default: the cores that are idle at the start; the "
        "last digits of a result depend on it)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="device to compute on (default: a CUDA GPU if available, else the CPU)",
    )


def add_methods(parser: argparse.ArgumentParser, default: str) -> None:
    """`--method`."""
    parser.add_argument(
        "--method",
        type=_methods,
        action="extend",
        metavar="NAME,…",
        help=f"one or more of {', '.join(METHODS)}, separated by commas (default: {default})",
    )


def add_crop(parser: argparse.ArgumentParser) -> None:
    """`--crop`."""
    parser.add_argument(
        "--crop",
        type=_box,
        metavar="LEFT,TOP,SIDE",
        help="square of the photograph to use, in pixels (default: the one the prior expects)",
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
    parser.add_argument("--json", action="store_true", help="print one JSON record per line")


def add_lpips(parser: argparse.ArgumentParser) -> None:
    """`--lpips`."""
    parser.add_argument(
        "--lpips",
        choices=(*LPIPS_NETS, "none"),
        default="alex",
        help="LPIPS backbone, or none to omit LPIPS (default: alex, as in the paper)",
    )


def lpips_net(args: argparse.Namespace) -> str | None:
    """`--lpips`; None to omit it."""
    return None if args.lpips == "none" else str(args.lpips)


def load_generator(args: argparse.Namespace, device: str = "cpu") -> Generator:
    """The prior, with a progress bar while it is downloaded."""
    from iagan.priors import load_prior
    from iagan.show import ProgressBar

    prior = own_prior(args)
    if not isinstance(prior, str):
        return prior.to(device)
    with ProgressBar(prior) as bar:
        return load_prior(prior, bar).to(device)


def own_prior(args: argparse.Namespace) -> Generator | str:
    """The user's own network with `--weights`, or the name or path after `--prior`."""
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
        raise SettingError(
            "--compile expects a GPU; got a CPU, where it has no effect. Leave it out."
        )
    threads = args.threads
    if threads is None and device == "cpu":
        threads = idle_threads()
    return Execution(device, args.precision, args.compile, threads)


def pick_device(expected: str) -> str:
    """`--device`, if available; "auto" is a CUDA GPU if there is one, else the CPU."""
    import torch

    cuda = torch.cuda.is_available()
    if expected == "auto":
        return "cuda" if cuda else "cpu"
    present = {"cpu": True, "cuda": cuda, "mps": torch.backends.mps.is_available()}
    if not present[expected]:
        raise SettingError(f"--device {expected} is not available here; use --device cpu.")
    return expected


@contextlib.contextmanager
def telling_when_stopped(kept: Callable[[], str]) -> Iterator[None]:
    """A block in which Ctrl-C raises a `KeyboardInterrupt` that says what is kept."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(kept()) from stop


def _methods(text: str) -> list[str]:
    """Comma-separated names of methods."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METHODS:
            known = ", ".join(map(repr, METHODS))
            raise argparse.ArgumentTypeError(f"invalid choice: {name!r} (choose from {known})")
    return names


def integers(text: str, names: str) -> tuple[int, ...]:
    """Comma-separated integers, one for each of the comma-separated `names`."""
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
