"""Where recovered images go, and which of them are there already, made with the same settings."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iagan.errors import OutputError, SettingError, shown
from iagan.files import check_replaceable, check_writable, is_folder
from iagan.images import png_text, save_image
from iagan.methods import Method
from iagan.observation import Observation
from iagan.parse import parse_json
from iagan.priors import Generator
from iagan.types import Image

KEYWORD = "iagan"
"""The text chunk of a PNG that holds the settings it was made with."""
PARTIAL = '{"partial": true}'
"""What that chunk is for the best image so far."""

OTHER = {
    "observation": "another measurement",
    "method": "other settings of the method",
    "prior": "another prior",
    "seed": "another seed",
    "precision": "another precision",
}
"""How a message names each of the settings that differ."""


class Outputs:
    """One PNG for one image and one method, else a folder for STEM_METHOD.png.

    **Arguments:**
    - `output`: a name that ends in .png, or a folder; missing folders are made.
    - `inputs`: all of them. Where two have one stem, their outputs begin with the whole name, or
      that of the folder before it.
    - `methods`: how many there will be.
    - `overwrite`: replace images that are there, instead of keeping those that were made with the
      same settings and refusing to replace others.

    **Raises:** `SettingError` where one file cannot hold it all; `OutputError` where nothing can be
    written.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        inputs: Sequence[Path],
        methods: int,
        overwrite: bool = False,
    ) -> None:
        self.path, self.overwrite = Path(output), overwrite
        self.labels = _labels(inputs)
        self.uses = Counter(self.labels.values())
        self.is_file = self.path.suffix.lower() == ".png" and not is_folder(self.path)
        if self.is_file and (len(inputs) > 1 or methods > 1):
            raise SettingError(
                f"-o {shown(output)} names one file, and there are {len(inputs)} inputs and "
                f"{methods} methods. Name a folder instead."
            )
        if self.path.suffix and not self.is_file and not is_folder(self.path):
            raise SettingError(f"-o expects a .png file or a folder; got {shown(output)}.")
        check_writable(self.path if self.is_file else self.path / "x.png")

    def targets(self, path: Path, method: str, count: int) -> list[Path]:
        """The files for the `count` images of an input.

        **Raises:** `SettingError` for several images and one file.
        """
        if self.is_file and count > 1:
            raise SettingError(
                f"{shown(path)} holds {count} images, and -o names one file; name a folder."
            )
        if self.is_file:
            return [self.path]
        label = self.labels[path]
        if self.uses[label] > 1:
            raise SettingError(
                f"{shown(path)} and another input would both be written to "
                f"{shown(label)}_{method}.png. Rename one, or recover them in two calls."
            )
        stems = [label] if count == 1 else [f"{label}-{i}" for i in range(count)]
        return [self.path / f"{stem}_{method}.png" for stem in stems]

    def are_made(self, targets: Sequence[Path], settings: dict[str, Any]) -> bool:
        """Whether all are there, made with these settings.

        **Raises:** `OutputError` where one was made with others, or cannot be written.
        """
        there = [target for target in targets if check_replaceable(target)]
        if self.overwrite:
            return False
        for target in there:
            _check_settings(target, settings)
        return len(there) == len(targets)

    def save(self, image: Image, target: Path, settings: dict[str, Any]) -> None:
        """Write a recovered image, with its settings."""
        save_image(image, target, text={KEYWORD: json.dumps(settings)})
        with contextlib.suppress(OSError):  # a longer name, which perhaps no file can have
            partial_of(target).unlink()

    def save_partial(self, image: Image, target: Path) -> Path:
        """Write the best image so far, beside where the finished one will be."""
        partial = partial_of(target)
        save_image(image, partial, text={KEYWORD: PARTIAL})
        return partial


def _labels(paths: Sequence[Path]) -> dict[Path, str]:
    """What the outputs of each input begin with: the shortest that no other has."""
    labels: dict[Path, str] = {}
    for candidate in (
        lambda path: path.stem,
        lambda path: path.name,
        lambda path: f"{path.resolve().parent.name}-{path.name}",
    ):
        names = {path: candidate(path) for path in paths}
        taken = Counter(names.values())
        for path in paths:
            if path not in labels and taken[names[path]] == 1:
                labels[path] = names[path]
    return {path: labels.get(path, names[path]) for path in paths}


def partial_of(target: Path) -> Path:
    """The name for the best image so far, which is not taken for a finished one."""
    return target.with_suffix(".partial.png")


def is_result(path: Path) -> bool:
    """Whether iagan recovered that image, or drew that figure."""
    return png_text(path, KEYWORD) is not None


def settings_of(
    observation: Observation, method: Method, prior: str | None, seed: int, precision: str
) -> dict[str, Any]:
    """All that an image depends on, as a JSON object; `prior` is `digest_of_prior`."""
    return {
        "observation": _digest_of_observation(observation),
        "method": method.spec(),
        "prior": prior if method.needs_prior else None,
        "seed": seed,
        "precision": precision,
    }


def digest_of_prior(prior: Generator) -> str:
    """SHA-256 of its weights."""
    digest = hashlib.sha256()
    for name, value in sorted(prior.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def _digest_of_observation(observation: Observation) -> str | None:
    """SHA-256 of y, the operator and σ; None where the operator cannot be described."""
    try:
        operator = observation.operator.spec()
    except SettingError:
        return None
    digest = hashlib.sha256(json.dumps(operator, sort_keys=True).encode())
    digest.update(observation.sigma.numpy().tobytes())
    digest.update(observation.y.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_settings(target: Path, settings: dict[str, Any]) -> None:
    text = png_text(target, KEYWORD)
    try:
        known = parse_json(text or "null")
    except ValueError:
        known = None
    if not isinstance(known, dict):
        other = "nobody knows how it was made"
    elif settings["observation"] is None:
        other = "whether its operator, which has no spec, is this one is not known"
    else:
        names = [name for name, value in settings.items() if known.get(name) != value]
        if not names:
            return
        other = f"it was made with {' and '.join(OTHER[name] for name in names)}"
    raise OutputError(
        f"{shown(target)} exists, and {other}. Overwrite it (--overwrite), or name another folder."
    )
