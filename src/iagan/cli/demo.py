"""`iagan demo`: an astronaut's face, observed and recovered."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from iagan.cli import options

if TYPE_CHECKING:
    from iagan.methods import Method
    from iagan.observation import Observation
    from iagan.priors import Generator

SCALE = 4
DEMO_METHODS = ("naive", "csgm", "csgm-bp", "iagan", "iagan-bp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("-o", "--output", metavar="FOLDER", default="demo-out")
    options.add_prior(parser)
    options.add_execution(parser)
    parser.add_argument("--csgm-steps", type=int, metavar="N", help="iterations of CSGM")
    parser.add_argument("--steps", type=int, metavar="N", help="iterations of IAGAN")
    options.add_seed(parser)
    options.add_lpips(parser)


def run(args: argparse.Namespace) -> int:
    """Observe ×4, reconstruct by every method, score, draw."""
    from iagan.files import check_writable, write_text
    from iagan.images import astronaut, crop_square, save_image
    from iagan.jobs import Scorer, format_scores
    from iagan.methods import reconstruct_all
    from iagan.observation import observe
    from iagan.operators import BicubicDownsample
    from iagan.show import Panel, ProgressBar, figure, picture_of

    folder = Path(args.output)
    check_writable(folder / "figure.png")
    generator = options.load_generator(args, options.pick_device(args.device))
    truth = crop_square(astronaut(), None, generator.about.crop, generator.image_shape[1:])
    operator = BicubicDownsample(generator.image_shape, scale=SCALE)
    observation = observe(truth, operator)
    panels = [Panel(truth, "truth", ""), Panel(picture_of(observation), f"observed, ×{SCALE}", "")]
    scorer = Scorer(options.lpips_net(args))
    table = [
        "| method | PSNR dB | SSIM | LPIPS | relative residual | seconds |",
        "|---|" + "---|" * 5,
    ]
    with ProgressBar("astronaut", observation) as bar:
        results = reconstruct_all(
            observation,
            generator,
            _methods(args, observation, generator),
            seed=args.seed,
            execution=options.execution(args),
            on_event=bar,
        )
        for result in results:
            bar.close()
            values = scorer(result.image, truth)
            name = result.method.name
            method = "bicubic upsampling" if name == "naive" else name
            panels.append(Panel(result.image.cpu(), method, format_scores(values, "\n")))
            save_image(result.image, folder / f"astronaut_{name}.png")
            ssim, lpips = (
                "–" if values[each] is None else f"{values[each]:.3f}" for each in ("ssim", "lpips")
            )
            table.append(
                f"| {method} | {values['psnr']:.2f} | {ssim} | {lpips} "
                f"| {float(result.relative_residual[0]):.1e} | {result.seconds:.1f} |"
            )
            print(table[-1] if len(table) > 3 else "\n".join(table), flush=True)
    figure([panels], folder / "figure.png")
    write_text(folder / "table.md", "\n".join(table))
    print(f"{folder}/figure.png, {folder}/table.md")
    return 0


def _methods(
    args: argparse.Namespace, observation: Observation, generator: Generator
) -> list[Method]:
    from iagan.methods import presets

    return [
        presets.adjust(
            presets.fast(name, observation, generator),
            csgm_steps=args.csgm_steps,
            steps=args.steps,
        )
        for name in DEMO_METHODS
    ]
