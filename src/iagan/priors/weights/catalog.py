"""Priors that are known by name."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import difflib
import importlib.resources
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from iagan.engine.events import EventCallback
from iagan.errors import CheckpointError, FileError, OutputError, SettingError, shown
from iagan.limits import LIMITS, Limits
from iagan.priors.base import LatentSpace
from iagan.priors.generator import Generator
from iagan.priors.networks.registry import Factory
from iagan.priors.weights.download import ExpectedFile, download
from iagan.priors.weights.load import load_checkpoint
from iagan.priors.weights.own import load_own

Place = Literal["in the package", "fetched", "to fetch", "to fetch by hand"]

logger = logging.getLogger("iagan")


@dc.dataclass(frozen=True)
class KnownPrior:
    """A checkpoint that is known by name.

    **Arguments:**
    - `name`: what `load_prior` knows it by.
    - `architecture`, `image_size`: "began" or "pggan", and the side of its images.
    - `file`, `source`: the file's name and where its authors publish it.
    - `license`: of the weights, as far as their authors state one.
    - `address`: the file itself; empty when it is in the package, or only a browser gets it.
    - `sha256`: of the file, or how it begins; empty when unknown.
    - `git_blob`: SHA-1 of "blob LENGTH", NUL, contents; empty when unknown.
    - `bytes`: the file's length; 0 when unknown.
    """

    name: str
    architecture: str
    image_size: int
    file: str
    source: str
    license: str
    address: str = ""
    sha256: str = ""
    git_blob: str = ""
    bytes: int = 0

    @property
    def place(self) -> Place:
        """Where the file is, on this machine."""
        if _in_package(self.file).is_file():
            return "in the package"
        if (prior_folder() / self.file).is_file():
            return "fetched"
        return "to fetch" if self.address else "to fetch by hand"

    @property
    def verified_by(self) -> str:
        """What a fetched file is held against before it is used."""
        if len(self.sha256) == 64:
            return "SHA-256"
        known = [f"SHA-256's first {len(self.sha256)} digits"] if self.sha256 else []
        return " and ".join(
            [*known, *(["git blob"] if self.git_blob else [])] or ["structure only"]
        )

    def describe(self) -> str:
        """One line for a list of priors."""
        side = f"{self.image_size}×{self.image_size}"
        size = f"{self.bytes / 2**20:.1f} MiB" if self.bytes else "size unknown"
        return (
            f"{self.name:<25} {self.architecture} {side}, {size}, {self.place}, verified by "
            f"{self.verified_by}; license: {self.license}; {self.source}"
        )


def _read_priors() -> dict[str, KnownPrior]:
    return {
        entry["name"]: KnownPrior(**entry)
        for entry in json.loads(_in_package("priors.json").read_text("utf-8"))
    }


def _in_package(file: str):  # type: ignore[no-untyped-def]  # importlib's Traversable moved in 3.11
    return importlib.resources.files("iagan") / "data" / file


PRIORS = MappingProxyType(_read_priors())
"""Name → `KnownPrior`, from data/priors.json."""


def available_priors() -> list[KnownPrior]:
    """Every prior that is known by name, in the order of the list."""
    return list(PRIORS.values())


def prior_folder() -> Path:
    """Where fetched priors are kept: $IAGAN_HOME, else the user's cache folder."""
    home = os.environ.get("IAGAN_HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home or Path(cache) / "iagan").expanduser()


def load_prior(
    name_or_path: str | os.PathLike[str],
    on_event: EventCallback | None = None,
    *,
    network: str | Factory | None = None,
    latent: LatentSpace | str | None = None,
    limits: Limits = LIMITS,
) -> Generator:
    """A pretrained generator: by a name of `available_priors()`, or from a checkpoint's path.

    `"faces"` is in the package. Another name is fetched on first use, checked, and kept in
    `$IAGAN_HOME` (or `~/.cache/iagan`). A file's layout is recognised from its contents; no file is
    ever run as code. `./name` is a path even where `name` is known.

    With `network`, the path is that of a state dict: `load_prior("state.pth",
    network="package.module:factory", latent="normal:512")`.

    **Arguments:**
    - `on_event`: called with an `iagan.Event` of phase `"download"` whose `step` and `total` are
      the bytes fetched and those in all (0 if unknown).
    - `network`: makes your own network, whose images lie in [-1, 1]: a class or function without
      arguments, or where to import it from as `"package.module:factory"`.
    - `latent`: the latents of that network; a file of `save_prior` knows them.
    - `limits`: of these, `weight_bytes` and `tensors` bound a file, which is refused unread.

    **Raises:** `SettingError` for an unknown name or network; `FileError` when a known prior cannot
    be fetched, or the path does not exist; `CheckpointError` when the file is not a known
    checkpoint, or the weights are another network's.
    """
    if latent is not None and network is None:
        raise SettingError("load_prior expects latent beside network alone. Leave it out.")
    if network is None and isinstance(name_or_path, str) and name_or_path in PRIORS:
        return _load_known(PRIORS[name_or_path], on_event, limits)
    given = os.fspath(name_or_path)
    path = Path(given).expanduser()
    if _exists(path):
        if network is None:
            return load_checkpoint(path, limits)
        return load_own(path, network, latent, limits)
    if path.name == given and not path.suffix:
        close = difflib.get_close_matches(given, PRIORS, 1)
        guess = f" Did you mean {close[0]}?" if close else ""
        raise SettingError(
            f"No prior is called {shown(repr(given), 80)}.{guess} Known are {', '.join(PRIORS)}; "
            "or give the path of a checkpoint."
        )
    raise FileError(
        f"No checkpoint at {shown(path, 300)}. Give the path of a file, or a name that "
        "'iagan priors' lists."
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder that is closed
        return False


def _load_known(prior: KnownPrior, on_event: EventCallback | None, limits: Limits) -> Generator:
    with _file_of(prior, on_event) as path:
        generator = load_checkpoint(path, limits)
    generator.about = dc.replace(generator.about, name=prior.name, license=prior.license)
    return generator


@contextlib.contextmanager
def _file_of(prior: KnownPrior, on_event: EventCallback | None) -> Iterator[Path]:
    if prior.place == "in the package":
        with importlib.resources.as_file(_in_package(prior.file)) as path:
            yield path
        return
    path = prior_folder() / prior.file
    if prior.place == "to fetch by hand":
        raise FileError(
            f"The prior {prior.name!r} has no address that a program can fetch. Get {prior.file} "
            f"from {prior.source} (license: {prior.license}) and give its path instead of the "
            f"name, or put it into {prior_folder()}."
        )
    if prior.place == "to fetch":
        logger.warning(
            f"Fetching {prior.name} from {prior.source}; license: {prior.license}; verified by "
            f"{prior.verified_by}."
        )
        expected = ExpectedFile(prior.bytes, prior.sha256, prior.git_blob)
        try:
            download(prior.address, path, expected, load_checkpoint, on_event)
        except OutputError as error:
            raise OutputError(f"{error} Or set IAGAN_HOME to another folder.") from error
    if prior.verified_by == "SHA-256":
        _check_fetched(prior, path)
    yield path


def _check_fetched(prior: KnownPrior, path: Path) -> None:
    """Refuse a file that has changed since it was fetched, or was put there by hand."""
    mismatch = ExpectedFile(prior.bytes, prior.sha256).mismatch(path)
    if mismatch:
        raise CheckpointError(
            f"{path} is not the file of {prior.name!r}: {mismatch}. Delete it to fetch it again, "
            "or give its path instead of the name."
        )
