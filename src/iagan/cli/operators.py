"""The options that describe a measurement, and the operator they stand for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Literal

from iagan.cli.options import integers
from iagan.errors import SettingError

if TYPE_CHECKING:
    from iagan.operators import LinearOperator

AUTO = "auto"
"""`--noise auto`: estimated from the image."""
OPERATORS = ("bicubic", "blur", "fourier", "gaussian", "inpaint", "denoise")
BELONGING = {
    "bicubic": ("scale",),
    "blur": ("size", "border"),
    "fourier": ("ratio", "sampling", "mask"),
    "gaussian": ("ratio",),
    "inpaint": ("ratio", "mask", "hole", "box"),
    "denoise": (),
}
"""The options of each operator."""


def add_operator(parser: argparse.ArgumentParser, required: bool) -> None:
    """`--operator` with its options, and `--noise`."""
    group = parser.add_argument_group("the measurement")
    group.add_argument("--operator", choices=OPERATORS, required=required)
    group.add_argument("--scale", type=int, metavar="S", help="bicubic: downscaling factor")
    group.add_argument(
        "--size", type=int, metavar="K", help="blur: size of the K×K kernel (default: 9)"
    )
    group.add_argument(
        "--border",
        choices=("mirror", "circular"),
        help="blur: boundary condition (default: mirror)",
    )
    group.add_argument(
        "--ratio",
        type=float,
        metavar="R",
        help="fourier, gaussian, inpaint: fraction that is measured, in (0, 1]",
    )
    group.add_argument(
        "--sampling",
        choices=("compact", "scattered"),
        help="fourier with --ratio: sample nearly all low frequencies, or leave gaps there too, as "
        "the paper's masks do, which is harder (default: compact)",
    )
    group.add_argument(
        "--mask", metavar="FILE", help="fourier, inpaint: PNG or .npy; white or 1 means measured"
    )
    group.add_argument(
        "--hole", metavar="FILE", help="inpaint: the same, but white or 1 means missing"
    )
    group.add_argument(
        "--box",
        type=_rectangle,
        metavar="LEFT,TOP,WIDTH,HEIGHT",
        help="inpaint: the missing rectangle, in pixels of the prior's image size",
    )
    group.add_argument(
        "--noise",
        type=float if required else _noise,
        metavar="N",
        default=0.0,
        help="noise standard deviation, in units of 1/255"
        + ("" if required else "; auto: estimated from a blurred or noisy image")
        + " (default: 0)",
    )


def build_operator(args: argparse.Namespace, image_shape: tuple[int, int, int]) -> LinearOperator:
    """The operator that the options describe, for images of `image_shape`."""
    from iagan import operators
    from iagan.masks import load_mask

    _, height, width = image_shape
    check_belonging(args)
    if args.operator == "bicubic":
        return operators.BicubicDownsample(image_shape, scale=_need(args, "scale"))
    if args.operator == "blur":
        return operators.UniformBlur(
            image_shape,
            size=9 if args.size is None else args.size,
            border=args.border or "mirror",
        )
    if args.operator == "gaussian":
        return operators.Gaussian.from_ratio(image_shape, _need(args, "ratio"), args.seed)
    if args.operator == "denoise":
        return operators.Identity(image_shape)
    kind = operators.SubsampledFourier if args.operator == "fourier" else operators.Inpaint
    _check_one_mask(args)
    if args.mask is not None:
        return kind(image_shape, load_mask(args.mask, (height, width)))
    if args.hole is not None:
        return operators.Inpaint(image_shape, ~load_mask(args.hole, (height, width)))
    if args.box is not None:
        return operators.Inpaint.box(image_shape, *args.box)
    ratio = _need(args, "ratio")
    if args.operator == "fourier":
        sampling: Literal["compact", "scattered"] = args.sampling or "compact"
        return operators.SubsampledFourier.random(image_shape, ratio, args.seed, sampling)
    return operators.Inpaint.random(image_shape, ratio, args.seed)


def check_belonging(args: argparse.Namespace) -> None:
    """Refuse options that do not apply to the operator, if there is one.

    **Raises:** `SettingError`.
    """
    own = BELONGING[args.operator] if args.operator else ()
    for name in dict.fromkeys(name for names in BELONGING.values() for name in names):
        if getattr(args, name) is not None and name not in own:
            theirs = " or ".join(kind for kind, names in BELONGING.items() if name in names)
            named = args.operator or "no --operator"
            raise SettingError(
                f"--{name} belongs to --operator {theirs}; got {named}. Leave it out."
            )


def _check_one_mask(args: argparse.Namespace) -> None:
    given = [name for name in ("ratio", "mask", "hole", "box") if getattr(args, name) is not None]
    if len(given) > 1:
        raise SettingError(
            f"--operator {args.operator} expects one of its options to say what is measured; got "
            f"{' and '.join(f'--{name}' for name in given)}. Leave all but one out."
        )


def _noise(text: str) -> float | str:
    return AUTO if text == AUTO else float(text)


def noise_std(args: argparse.Namespace) -> float:
    """`--noise` in the [0, 1] scale of images; on the command line it is in units of 1/255."""
    if not 0 <= args.noise < float("inf"):
        raise SettingError(f"--noise expects a standard deviation of at least 0; got {args.noise}.")
    return float(args.noise) / 255


def _need(args: argparse.Namespace, option: str):  # type: ignore[no-untyped-def]
    value = getattr(args, option)
    if value is None:
        others = " (or --mask FILE)" if args.operator in ("fourier", "inpaint") else ""
        raise SettingError(f"--operator {args.operator} expects --{option}{others}; got none.")
    return value


def _rectangle(text: str) -> tuple[int, ...]:
    return integers(text, "LEFT,TOP,WIDTH,HEIGHT")
