"""Priors that are known by name."""

from __future__ import annotations

import dataclasses as dc
import importlib.resources
import json
import os
from pathlib import Path
from types import MappingProxyType

from iagan.errors import FileError, SettingError
from iagan.generators.base import Generator
from iagan.generators.checkpoints import load_checkpoint


@dc.dataclass(frozen=True)
class Prior:
    """A published checkpoint.

    **Arguments:**
    - `name`: what `load_prior` knows it by.
    - `architecture`, `image_size`: "began" or "pggan", and the side of its images.
    - `file`, `source`: the file's name and where its authors publish it.
    - `licence`: of the weights, as far as their authors state one.
    - `sha256`: of the file, or how it begins; empty when unknown.
    - `git_blob`: SHA-1 of "blob LENGTH", NUL, contents; empty when unknown.
    - `bytes`: the file's length; 0 when unknown.
    """

    name: str
    architecture: str
    image_size: int
    file: str
    source: str
    licence: str
    sha256: str = ""
    git_blob: str = ""
    bytes: int = 0

    def in_words(self) -> str:
        """One line for a list of priors."""
        side = f"{self.image_size}×{self.image_size}"
        return f"{self.name:<28} {self.architecture} {side}, licence: {self.licence}; {self.source}"


def _read_priors() -> dict[str, Prior]:
    text = (importlib.resources.files("iagan") / "data" / "priors.json").read_text("utf-8")
    return {entry["name"]: Prior(**entry) for entry in json.loads(text)}


PRIORS = MappingProxyType(_read_priors())
"""Name → `Prior`, from data/priors.json."""


def available_priors() -> list[Prior]:
    """Every prior that is known by name, in the order of the list."""
    return list(PRIORS.values())


def load_prior(name_or_path: str | os.PathLike[str]) -> Generator:
    """A pretrained generator: by a name of `available_priors()`, or from a checkpoint's path.

    The file's layout is recognised from its contents; no file is ever run as code. `./name` is a
    path even where `name` is known.

    **Raises:** `SettingError` for an unknown name; `FileError` when a known prior has to be fetched
    first, or the path does not exist; `CheckpointError` when the file is not a known checkpoint.
    """
    if isinstance(name_or_path, str) and name_or_path in PRIORS:
        prior = PRIORS[name_or_path]
        raise FileError(
            f"The prior {prior.name!r} is not part of the package. Fetch {prior.file} from "
            f"{prior.source} (licence: {prior.licence}) and give its path instead of the name."
        )
    given = os.fspath(name_or_path)
    path = Path(given).expanduser()
    if path.exists():
        return load_checkpoint(path)
    if path.name == given and not path.suffix:
        raise SettingError(
            f"No prior is called {given!r}. Known are {', '.join(PRIORS)}; "
            "or give the path of a checkpoint."
        )
    raise FileError(
        f"No checkpoint at {path}. Give the path of a file, or a name: see "
        "iagan.available_priors()."
    )
