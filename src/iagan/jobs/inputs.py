"""Inputs of a recovery: observations, plain images with a camera, and true images."""

from __future__ import annotations

import dataclasses as dc
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from torch import Tensor

from iagan.errors import ImageFileError, ObservationFileError, SettingError, shown
from iagan.files import is_folder
from iagan.images import crop_square, find_images, load_image
from iagan.jobs.outputs import is_result
from iagan.jobs.truth import load_truth, truth_file
from iagan.limits import LIMITS, Limits
from iagan.observation import Observation, estimate_noise_std
from iagan.observation_file import load_observation
from iagan.operators import (
    BicubicDownsample,
    Identity,
    Inpaint,
    LinearOperator,
    UniformBlur,
    as_operator,
)
from iagan.priors import Generator
from iagan.rounding import rounding_std
from iagan.types import Image

Shape = tuple[int, int, int]
Box = tuple[int, int, int]

VISIBLE = 0.5 / 255
"""Error of a file above which a message mentions it; rounding to 8 bits is below."""

logger = logging.getLogger("iagan")


@dc.dataclass(frozen=True)
class Camera:
    """How plain images were measured.

    **Arguments:**
    - `operator`: A, or a function of an image's shape that returns it; None: only observations.
    - `noise_std`: σ for images in [0, 1]; `"auto"`: estimated from each image, as is also done for
      `Identity` if none is given. At least the rounding error of the file, or the error of its JPEG
      compression.
    - `crop`: `(left, top, side)` of each image, in pixels; None: the crop that the prior expects.
    """

    operator: LinearOperator | Callable[[Shape], LinearOperator] | None = None
    noise_std: float | Literal["auto"] = 0.0
    crop: Box | None = None


@dc.dataclass(frozen=True, eq=False)
class Input:
    """One input file: its observation, the true images if known, and messages.

    **Arguments:**
    - `truth`: `(1 or b, *image_shape)` for an observation of b images, or None.
    - `messages`: assumptions and estimates made in reading it, one line each.
    """

    path: Path
    observation: Observation
    truth: Image | None = None
    messages: tuple[str, ...] = ()

    def truth_of(self, index: int) -> Image | None:
        """The true image of the image at `index`, `(1, *image_shape)`."""
        return None if self.truth is None else self.truth[min(index, len(self.truth) - 1)][None]


def find_inputs(
    names: Iterable[str | os.PathLike[str]], output: str | os.PathLike[str] | None = None
) -> list[Path]:
    """The .npz files and images among files and folders, in order, without duplicates.

    A folder that cannot be read is returned itself, and fails when it is loaded.

    **Arguments:**
    - `output`: a folder of results; if it is also among `names`, the results in it are skipped.

    **Raises:** `ImageFileError` if there is none.
    """
    given = [Path(name) for name in names]
    paths: list[Path] = []
    for path in given:
        try:
            paths += _in_folder(path, output) if is_folder(path) else [path]
        except ImageFileError:
            paths.append(path)
    if not paths:
        named = ", ".join(map(shown, given[:10]))
        raise ImageFileError(f"No image and no .npz in {named}. Give files or folders.")
    return list(dict.fromkeys(paths))


def _in_folder(folder: Path, output: str | os.PathLike[str] | None) -> list[Path]:
    inputs = sorted([*folder.glob("*.npz"), *find_images([folder])])
    if output is None or Path(output).resolve() != folder.resolve():
        return inputs
    own = [path for path in inputs if is_result(path)]
    if own:
        logger.warning("%s: skipped files that are earlier results: %d.", shown(folder), len(own))
    return [path for path in inputs if path not in set(own)]


def load_input(
    path: Path,
    camera: Camera,
    prior: Generator,
    truth: str | os.PathLike[str] | None = None,
    limits: Limits = LIMITS,
) -> Input:
    """Load an observation (.npz), or a plain image measured by `camera`.

    **Arguments:**
    - `truth`: the true image, which is cropped like the observation; or a folder with an image of
      `path`'s stem.

    **Raises:** `FileError`, `SettingError`, `ShapeError`.
    """
    messages: tuple[str, ...] = ()
    if is_folder(path):
        find_images([path])  # why it cannot be read
    if path.suffix.lower() == ".npz":
        observation = _load_own(path, camera, prior, limits)
    else:
        observation, messages = _observe_picture(path, camera, prior, limits)
    for message in messages:
        logger.warning("%s: %s", shown(path), message)
    true = None
    if truth is not None:
        file = truth_file(Path(truth), path)
        size, crop = prior.image_shape[1:], prior.about.crop
        true = load_truth(file, observation.crop, size, crop, limits=limits)
    return Input(path, observation, true, messages)


def _load_own(path: Path, camera: Camera, prior: Generator, limits: Limits) -> Observation:
    if camera.operator is not None or camera.noise_std:
        raise SettingError(
            f"{shown(path)} includes its operator and noise; leave them out for .npz files."
        )
    observation = load_observation(path, limits)
    shape = observation.operator.image_shape
    if shape != prior.image_shape:
        raise ObservationFileError(
            f"{shown(path)} expects a prior of image shape {shape}; {prior.about.name} has "
            f"{prior.image_shape}. Use the prior that it was observed for."
        )
    return observation


def _observe_picture(
    path: Path, camera: Camera, prior: Generator, limits: Limits
) -> tuple[Observation, tuple[str, ...]]:
    photo = load_image(path, limits)
    if camera.operator is None:
        raise SettingError(
            f"{shown(path)} is a plain image: give the operator that measured it, such as "
            "--operator bicubic --scale 4."
        )
    operator = camera.operator
    if not isinstance(operator, LinearOperator):
        operator = as_operator(operator(prior.image_shape))
    masked = isinstance(operator, Inpaint)
    shape = operator.image_shape if masked else operator.measurement_shape
    if len(shape) != 3 or operator.complex_valued:
        raise SettingError(
            f"--operator {operator.name} does not produce an image; make an .npz with iagan "
            "observe."
        )
    picture, messages = _fit(photo, path, camera.crop, operator, shape)
    y = operator(picture) if masked else picture
    if isinstance(operator, Inpaint):
        messages = (*messages, *_mask_messages(y, operator, picture))
    error = rounding_std(path, limits) * min(1.0, shape[1] / _side(photo, camera.crop))
    sigma, said = _noise_std(y, camera, operator, error)
    return Observation(y, operator, sigma), (*messages, *said)


def _mask_messages(y: Image, operator: Inpaint, picture: Image) -> list[str]:
    """The fraction measured, and whether the mask seems to be inverted."""
    messages = [f"{y[0, 0].numel() / operator.mask.numel():.1%} of the pixels are measured."]
    rest = picture[..., ~operator.mask]
    if rest.numel() and _is_constant(y) and not _is_constant(rest):
        messages.append(
            "all of these have the same colour, and the others do not: the mask seems to be "
            "inverted. White is measured in --mask and missing in --hole; exchange them."
        )
    return messages


def _is_constant(pixels: Tensor) -> bool:
    """Whether pixels `(1, channels, count)` all have the same colour."""
    return bool((pixels == pixels[..., :1]).all())


def _noise_std(
    y: Image, camera: Camera, operator: LinearOperator, rounding: float
) -> tuple[float, list[str]]:
    """σ as given or estimated, at least the file's own error; and messages."""
    missing = isinstance(operator, Identity) and not camera.noise_std
    if camera.noise_std != "auto" and not missing:
        if rounding <= max(camera.noise_std, VISIBLE):
            return max(camera.noise_std, rounding), []
        return rounding, [
            f"a JPEG, whose compression is treated as noise of {255 * rounding:.1f}/255."
        ]
    if not isinstance(operator, UniformBlur | Identity):
        raise SettingError(
            f"--noise auto expects images of --operator blur or denoise; got {operator.name}, "
            "whose details look like noise. Give the noise standard deviation in units of 1/255."
        )
    sigma = max(float(estimate_noise_std(y)), rounding)
    return sigma, [f"noise of about {255 * sigma:.1f}/255, estimated from the image."]


def _side(photo: Image, crop: Box | None) -> int:
    """Side of the square that is used, in pixels."""
    return min(photo.shape[-2:]) if crop is None else crop[2]


def _fit(
    photo: Image, path: Path, crop: Box | None, operator: LinearOperator, shape: tuple[int, ...]
) -> tuple[Image, tuple[str, ...]]:
    """The image at the size of y, with messages. Only a downscaled photograph may be resized, since
    it is still one afterwards.
    """
    height, width = shape[1:]
    if tuple(photo.shape[-2:]) == (height, width) and crop is None:
        return photo, ()
    side = _side(photo, crop)
    square = crop_square(photo, crop, None, (height, width))
    if side == height:
        return square, ()
    if not isinstance(operator, BicubicDownsample) or side < height:
        advice = (
            f"Crop it with --crop LEFT,TOP,{height}."
            if side > height
            else "Enlarging would invent measurements; choose an operator or a prior that fits."
        )
        raise ImageFileError(
            f"--operator {operator.name} with this prior expects an image of {width}×{height}; "
            f"{shown(path)} is {photo.shape[-1]}×{photo.shape[-2]}. {advice}"
        )
    return square, (
        f"a square of {side} px, resized to {height} px, the size of a ×{operator.scale} "
        "photograph for this prior.",
    )
