"""Output files of recovered images, with the settings that they were made with."""

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
"""Keyword of the PNG text chunk with the settings of a recovered image."""
FIGURE = "figure"
"""Content of that chunk in a figure."""
PARTIAL = '{"partial": true}'
"""Content of that chunk in the best image so far."""

OTHER = {
    "observation": "another measurement",
    "method": "other settings of the method",
    "prior": "another prior",
    "seed": "another seed",
    "precision": "another precision",
}
"""Descriptions of differing settings, for messages."""


class Outputs:
    """The output of a recovery: one PNG for one image and method, or a folder of STEM_METHOD.png.

    **Arguments:**
    - `output`: a path ending in .png, or a folder; missing folders are created.
    - `inputs`: all input files. If two have the same stem, the names of their outputs begin with
      the full file name, preceded by the folder's name if necessary.
    - `methods`: number of methods.
    - `overwrite`: replace existing images, instead of skipping those made with the same settings
      and refusing to replace others.

    **Raises:** `SettingError` for several images and a single file; `OutputError` if the output
    cannot be written.
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
        self.sources = {path.resolve() for path in inputs}
        self.uses = Counter(self.labels.values())
        self.is_file = self.path.suffix.lower() == ".png" and not is_folder(self.path)
        if self.is_file and (len(inputs) > 1 or methods > 1):
            raise SettingError(
                f"-o {shown(output)} is a single file; got {len(inputs)} inputs by {methods} "
                f"method{'s' * (methods > 1)}. Give a folder instead."
            )
        if self.path.suffix and not self.is_file and not is_folder(self.path):
            raise SettingError(f"-o expects a .png file or a folder; got {shown(output)}.")
        check_writable(self.path if self.is_file else self.path / "x.png")

    def targets(self, path: Path, method: str, count: int) -> list[Path]:
        """The files for the `count` images of an input.

        **Raises:** `SettingError` for several images and a single file, or a name conflict.
        """
        if self.is_file and count > 1:
            raise SettingError(
                f"{shown(path)} has {count} images, but -o is a single file; give a folder."
            )
        if self.is_file:
            return [self._not_an_input(self.path)]
        label = self.labels[path]
        if self.uses[label] > 1:
            raise SettingError(
                f"{shown(path)} and another input would both be written to "
                f"{shown(label)}_{method}.png. Rename one, or recover them in two calls."
            )
        stems = [label] if count == 1 else [f"{label}-{i}" for i in range(count)]
        return [self._not_an_input(self.path / f"{stem}_{method}.png") for stem in stems]

    def _not_an_input(self, target: Path) -> Path:
        if target.resolve() in self.sources:
            raise SettingError(
                f"{shown(target)} is an input, which is never replaced. Choose another output."
            )
        return target

    def are_made(self, targets: Sequence[Path], settings: dict[str, Any]) -> bool:
        """Whether all targets exist and were made with these settings.

        **Raises:** `OutputError` if one was made with other settings, or cannot be written.
        """
        there = [target for target in targets if check_replaceable(target)]
        if self.overwrite:
            return False
        for target in there:
            _check_settings(target, settings)
        return len(there) == len(targets)

    def save(self, image: Image, target: Path, settings: dict[str, Any]) -> None:
        """Write a recovered image together with its settings."""
        save_image(image, target, text={KEYWORD: json.dumps(settings)})
        with contextlib.suppress(OSError):  # also of a name that is too long
            partial_of(target).unlink()

    def save_partial(self, image: Image, target: Path) -> Path:
        """Write the best image so far to `partial_of(target)`; returns its path."""
        partial = partial_of(target)
        save_image(image, partial, text={KEYWORD: PARTIAL})
        return partial


def _labels(paths: Sequence[Path]) -> dict[Path, str]:
    """Prefixes of the outputs' names: for each input the shortest unique one."""
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
    """The file for the best image so far, whose name differs from a finished one's."""
    return target.with_suffix(".partial.png")


def is_result(path: Path) -> bool:
    """Whether the file is an image recovered or a figure drawn by iagan."""
    return png_text(path, KEYWORD) is not None


def is_figure(path: Path) -> bool:
    """Whether the file is a figure drawn by iagan."""
    return png_text(path, KEYWORD) == FIGURE


def settings_of(
    observation: Observation, method: Method, prior: str | None, seed: int, precision: str
) -> dict[str, Any]:
    """Everything that determines an image, as a JSON object; `prior` is `digest_of_prior`."""
    return {
        "observation": _digest_of_observation(observation),
        "method": method.spec(),
        "prior": prior if method.needs_prior else None,
        "seed": seed,
        "precision": precision,
    }


def digest_of_prior(prior: Generator) -> str:
    """SHA-256 of a prior's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(prior.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def _digest_of_observation(observation: Observation) -> str | None:
    """SHA-256 of y, the operator and σ; None if the operator has no spec."""
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
        other = "its settings are unknown"
    elif settings["observation"] is None:
        other = "its operator cannot be compared, since it has no spec"
    else:
        names = [name for name, value in settings.items() if known.get(name) != value]
        if not names:
            return
        other = f"it was made with {' and '.join(OTHER[name] for name in names)}"
    raise OutputError(
        f"{shown(target)} exists, and {other}. Overwrite it (--overwrite), or use another folder."
    )
