"""Priors available by name."""

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

Availability = Literal["bundled", "downloaded", "downloadable", "manual download"]

logger = logging.getLogger("iagan")


@dc.dataclass(frozen=True)
class KnownPrior:
    """A checkpoint available by name.

    **Arguments:**
    - `name`: name for `load_prior`.
    - `architecture`, `image_size`: network ("began" or "pggan"), and side of its images.
    - `file`, `source`: the file's name, and the page where its authors publish it.
    - `license`: license of the weights, as far as their authors state one.
    - `address`: URL of the file; empty if it is bundled or needs a browser to download.
    - `sha256`: SHA-256 of the file, or its first digits; empty if unknown.
    - `git_blob`: SHA-1 of "blob LENGTH", NUL, contents; empty if unknown.
    - `bytes`: size of the file; 0 if unknown.
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
    def availability(self) -> Availability:
        """Whether the file is on this machine, and how to get it if not."""
        if _in_package(self.file).is_file():
            return "bundled"
        if (prior_folder() / self.file).is_file():
            return "downloaded"
        return "downloadable" if self.address else "manual download"

    @property
    def verified_by(self) -> str:
        """What a downloaded file is verified against before use."""
        if len(self.sha256) == 64:
            return "SHA-256"
        known = [f"first {len(self.sha256)} digits of SHA-256"] if self.sha256 else []
        return " and ".join(
            [*known, *(["git blob"] if self.git_blob else [])] or ["structure only"]
        )

    def describe(self) -> str:
        """A one-line description for lists of priors."""
        side = f"{self.image_size}×{self.image_size}"
        size = f"{self.bytes / 2**20:.1f} MiB" if self.bytes else "size unknown"
        return (
            f"{self.name:<25} {self.architecture} {side}, {size}, {self.availability}, verified by "
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
"""The available priors by name, from data/priors.json."""


def available_priors() -> list[KnownPrior]:
    """All priors available by name, in the order of `PRIORS`."""
    return list(PRIORS.values())


def prior_folder() -> Path:
    """Folder of downloaded priors: $IAGAN_HOME, or else `iagan` in the user's cache folder."""
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
    """Load a pretrained generator by a name of `available_priors()` or from a checkpoint file.

    `"faces"` is bundled. Other named priors are downloaded on first use, verified, and kept in
    `$IAGAN_HOME` (or `~/.cache/iagan`). A file's layout is recognised by its contents; no file is
    ever run as code. `./name` is always a path, even if a prior is called `name`.

    With `network`, the file holds a state dict: `load_prior("state.pth",
    network="package.module:factory", latent="normal:512")`.

    **Arguments:**
    - `on_event`: called with an `iagan.Event` of phase `"download"` whose `step` and `total` are
      the bytes downloaded and the bytes in total (0 if unknown).
    - `network`: a class or function without arguments that makes your own network, with images in
      [-1, 1]; or its import path, `"package.module:factory"`.
    - `latent`: the latent space of that network; not needed for files written by `save_prior`.
    - `limits`: `weight_bytes` and `tensors` of it bound the file; a larger one is refused unread.

    **Raises:** `SettingError` for an unknown name or network; `FileError` if a named prior cannot
    be downloaded or the path does not exist; `CheckpointError` if the file is not a known
    checkpoint, or its weights do not belong to `network`.
    """
    if latent is not None and network is None:
        raise SettingError("load_prior expects latent only together with network. Leave it out.")
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
            f"No prior is called {shown(repr(given), 80)}.{guess} Available: {', '.join(PRIORS)}; "
            "or give the path of a checkpoint."
        )
    raise FileError(
        f"No checkpoint at {shown(path, 300)}. Give the path of a file, or a name listed by "
        "'iagan priors'."
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or an inaccessible folder
        return False


def _load_known(prior: KnownPrior, on_event: EventCallback | None, limits: Limits) -> Generator:
    with _file_of(prior, on_event) as path:
        generator = load_checkpoint(path, limits)
    generator.about = dc.replace(generator.about, name=prior.name, license=prior.license)
    return generator


@contextlib.contextmanager
def _file_of(prior: KnownPrior, on_event: EventCallback | None) -> Iterator[Path]:
    if prior.availability == "bundled":
        with importlib.resources.as_file(_in_package(prior.file)) as path:
            yield path
        return
    path = prior_folder() / prior.file
    if prior.availability == "manual download":
        raise FileError(
            f"The prior {prior.name!r} cannot be downloaded automatically. Get {prior.file} from "
            f"{prior.source} (license: {prior.license}) and give its path instead of the name, or "
            f"put it into {prior_folder()}."
        )
    if prior.availability == "downloadable":
        logger.warning(
            f"Downloading {prior.name} from {prior.source}; license: {prior.license}; verified by "
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
    """**Raises:** `CheckpointError` for a file that has changed since it was downloaded, or a wrong
    file put there manually.
    """
    mismatch = ExpectedFile(prior.bytes, prior.sha256).mismatch(path)
    if mismatch:
        raise CheckpointError(
            f"{path} is not the file of {prior.name!r}: {mismatch}. Delete it to download it "
            "again, or give its path instead of the name."
        )
