"""`iagan observe`: photograph → measurement."""

from __future__ import annotations

import argparse
from pathlib import Path

from iagan.cli import operators, options
from iagan.errors import OutputError, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("image", metavar="IMAGE", help="a photograph (PNG, JPEG, WebP, …)")
    parser.add_argument("-o", "--output", metavar="Y.npz", required=True)
    options.add_prior(parser)
    options.add_crop(parser)
    operators.add_operator(parser, required=True)
    options.add_seed(parser)


def run(args: argparse.Namespace) -> int:
    """Crop, measure, save."""
    import dataclasses as dc

    import torch

    from iagan.files import check_writable
    from iagan.images import crop_square, default_square, load_image
    from iagan.observation import observe
    from iagan.observation_file import is_observation, save_observation

    check_writable(args.output, ".npz")
    if Path(args.output).exists() and not is_observation(args.output):
        raise OutputError(
            f"-o {shown(args.output)} exists and is not an observation of iagan. Choose another "
            "name."
        )
    generator = options.load_generator(args)
    photo = load_image(args.image)
    box = args.crop or default_square(photo, generator.about.crop)
    x = crop_square(photo, box, None, generator.image_shape[1:])
    operator = operators.build_operator(args, generator.image_shape)
    rng = torch.Generator().manual_seed(args.seed)
    observation = observe(x, operator, operators.noise_std(args), rng)
    save_observation(dc.replace(observation, crop=box), args.output)
    shape = "×".join(map(str, operator.measurement_shape))
    print(f"{args.output}: {args.operator}, y {shape}, m/n = {operator.m / operator.n:.3f}")
    return 0
