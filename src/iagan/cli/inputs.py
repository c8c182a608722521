"""What `iagan reconstruct` reads: files and folders, observations and plain images, the truth."""

from __future__ import annotations

import argparse
import dataclasses as dc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iagan.cli import options, scores
from iagan.errors import ImageFileError, ObservationFileError, SettingError

if TYPE_CHECKING:
    from iagan.observation import Observation
    from iagan.priors import Generator
    from iagan.show import Panel
    from iagan.types import Image

CANNOT_BE_A_PICTURE = ("fourier", "gaussian")
"""Operators whose y is not an image."""
SHOW_THEIR_NOISE = ("blur", "denoise")
"""Operators whose y has less detail than noise."""


@dc.dataclass(frozen=True)
class Source:
    """One input: what was measured, and of which square of a photograph, if that is known."""

    observation: Observation
    crop: tuple[int, int, int] | None


def find(names: list[str]) -> list[Path]:
    """The .npz files and images among files and folders, in order."""
    from iagan.images import find_images

    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            paths += sorted([*path.glob("*.npz"), *find_images([path])])
        else:
            paths.append(path)
    if not paths:
        raise ImageFileError(f"No image and no .npz in {', '.join(names)}. Name files or folders.")
    paths = list(dict.fromkeys(paths))
    _check_stems(paths)
    return paths


def _check_stems(paths: list[Path]) -> None:
    """Outputs are named by the stem: two inputs may not share one."""
    first: dict[str, Path] = {}
    for path in paths:
        other = first.setdefault(path.stem, path)
        if other is not path:
            raise SettingError(
                f"{other} and {path} would both be written to {path.stem}_METHOD.png. "
                "Rename one, or recover them in two calls."
            )


def load(path: Path, args: argparse.Namespace, generator: Generator) -> Source:
    """An observation of ours, or a plain image together with the operator's options."""
    from iagan.observation import load_observation

    if path.suffix.lower() != ".npz":
        return Source(_observe_picture(path, args, generator), None)
    if args.operator is not None or args.noise:
        raise SettingError(
            f"{path} says itself how it was measured; leave --operator and --noise out for .npz."
        )
    observation = load_observation(path)
    shape = observation.operator.image_shape
    if shape != generator.image_shape:
        raise ObservationFileError(
            f"{path} measures images of shape {shape}, and prior {args.prior} gives "
            f"{generator.image_shape}. Take the prior that it was observed for."
        )
    return Source(observation, observation.crop)


def _observe_picture(path: Path, args: argparse.Namespace, generator: Generator) -> Observation:
    from iagan.images import load_image
    from iagan.observation import Observation

    photo = load_image(path)
    if args.operator is None:
        raise SettingError(
            f"{path} is a plain image: say how it was measured, as --operator bicubic --scale 4."
        )
    if args.operator in CANNOT_BE_A_PICTURE:
        raise SettingError(
            f"--operator {args.operator} does not give a picture; make an .npz with iagan observe."
        )
    operator = options.build_operator(args, generator.image_shape)
    if args.operator == "inpaint":
        y = operator(_fit(photo, path, args, generator.image_shape[1:]))
    else:
        y = _fit(photo, path, args, operator.measurement_shape[1:])
    return Observation(y, operator, _noise_std(y, path, args))


def _noise_std(y: Image, path: Path, args: argparse.Namespace) -> float:
    from iagan.observation import estimate_noise_std

    if args.noise != options.AUTO:
        return options.noise_std(args)
    if args.operator not in SHOW_THEIR_NOISE:
        raise SettingError(
            f"--noise auto expects pictures of --operator {' or '.join(SHOW_THEIR_NOISE)}; got "
            f"{args.operator}, whose detail looks like noise. Give the noise's std, /255."
        )
    found = float(estimate_noise_std(y))
    print(f"iagan: {path}: noise of about {255 * found:.1f}/255.", file=sys.stderr)
    return found


def _fit(photo: Image, path: Path, args: argparse.Namespace, size: tuple[int, ...]) -> Image:
    """The picture at the size of y. Only a downscaled photograph may be resized: it stays one."""
    from iagan.images import crop_square

    height, width = size
    if tuple(photo.shape[-2:]) == size and args.crop is None:
        return photo
    side = min(photo.shape[-2:]) if args.crop is None else args.crop[2]
    if side != height:
        if args.operator != "bicubic":
            raise ImageFileError(
                f"--operator {args.operator} with prior {args.prior} expects an image of "
                f"{width}×{height}; {path} is {photo.shape[-1]}×{photo.shape[-2]}. "
                f"Cut that square out with --crop LEFT,TOP,{height}."
            )
        print(
            f"iagan: {path}: a square of {side} px, resized to the {height} px that a "
            f"×{args.scale} photograph has for prior {args.prior}.",
            file=sys.stderr,
        )
    return crop_square(photo, args.crop, None, (height, width))


def truth_for(
    path: Path, source: Source, args: argparse.Namespace, generator: Generator
) -> Image | None:
    """`--truth`, with the crop of the observation; of a folder, the image of the same stem."""
    if args.truth is None:
        return None
    from iagan.images import find_images

    truth = Path(args.truth)
    if truth.is_dir():
        same = [each for each in find_images([truth]) if each.stem == path.stem]
        if not same:
            raise ImageFileError(f"--truth {truth} has no image named {path.stem}.*; put it there.")
        truth = same[0]
    return scores.load_truth(truth, source.crop, generator, generator.image_shape[1:])


@dc.dataclass
class FigureRow:
    """One input's panels: truth | observed | each method."""

    source: Source
    truth: Image | None
    done: list[tuple[str, list[Path], list[str]]] = dc.field(default_factory=list)

    def add(self, targets: dict[str, list[Path]], scorer: scores.Scorer) -> None:
        """Take the pictures that are there now, made in this call or before."""
        from iagan.images import load_image

        for method, paths in targets.items():
            captions = []
            for i, path in enumerate(paths):
                captions.append(self._caption(load_image(path), i, scorer))
            self.done.append((method, paths, captions))

    def _caption(self, image: Image, i: int, scorer: scores.Scorer) -> str:
        if self.truth is None:
            return ""
        found = scorer(image, self.truth[min(i, len(self.truth) - 1)][None])
        return scores.in_words(found).replace("  ", "\n")

    def panels(self) -> list[list[Panel]]:
        """A row of panels for every image of the observation."""
        from iagan.images import load_image
        from iagan.show import Panel, picture_of

        observed = picture_of(self.source.observation)
        rows = []
        for i in range(len(observed)):
            row = [Panel(observed[i : i + 1], "observed", "")]
            if self.truth is not None:
                which = min(i, len(self.truth) - 1)
                row.insert(0, Panel(self.truth[which : which + 1], "truth", ""))
            row += [
                Panel(load_image(paths[i]), name, captions[i])
                for name, paths, captions in self.done
            ]
            rows.append(row)
        return rows
