"""`train`: train a prior on a folder of images."""

from __future__ import annotations

import dataclasses as dc
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from iagan.engine import Event, EventCallback
from iagan.errors import SettingError
from iagan.files import check_suffix, check_writable, only_process
from iagan.limits import LIMITS, Limits
from iagan.priors import About
from iagan.priors.weights.native import save_prior
from iagan.train.base import TrainingRun, TrainSettings
from iagan.train.cache import cached_images
from iagan.train.checkpoint import load_checkpoint, save_checkpoint
from iagan.train.data import Pixels, batch_at
from iagan.train.recipes import new_run
from iagan.train.sheet import save_curve, save_sheet
from iagan.types import Image

StrPath = str | os.PathLike[str]
CHECKPOINT = "checkpoint.safetensors"


@dc.dataclass(frozen=True)
class Trained:
    """Paths of a finished run's prior and other files, and the images that it skipped."""

    prior: Path
    folder: Path
    skipped: tuple[str, ...]


def train(
    settings: TrainSettings,
    images: StrPath,
    output: StrPath,
    *,
    about: About | None = None,
    resume: bool = False,
    half: bool = False,
    device: torch.device | str = "cpu",
    checkpoint_every: int = 500,
    on_event: EventCallback | None = None,
    limits: Limits = LIMITS,
) -> Trained:
    """Train a prior on `images` (a folder, .tar or .zip) and save it to `output`.

    Every `checkpoint_every` steps it atomically replaces the prior (the exponential moving average
    of the weights) and, in the folder `STEM.train` next to it, `checkpoint.safetensors`,
    `samples.png` and `curve.png`. The folder also caches the decoded images; `skipped.txt` lists
    unreadable files. A resumed run gives the same result as an uninterrupted one, bit for bit on a
    CPU with the same number of threads.

    **Arguments:**
    - `about`: name, license, source and crop to save with the weights.
    - `resume`: resume from the checkpoint, if any; if False, an existing checkpoint is an error.
    - `half`: save the prior's weights in float16.
    - `on_event`: called with an `iagan.Event` as images are read (phase `"images"`, total 0) and
      after every step (phase `"autoencoder"` or `"adversarial"`). Its `values` are the recipe's
      losses, and `images/s` since the run was started or resumed. `error` is always included: the
      mean |x - x̂| of reconstructions, for images in [0, 1] (BEGAN: in [-1, 1]).
    - `limits`: bounds on the images that are read.

    **Raises:** `SettingError`, `ImageFileError`, `CheckpointError`, `OutputError`. The last valid
    checkpoint is always kept.
    """
    if checkpoint_every < 1:
        raise SettingError(
            f"train expects checkpoint_every of 1 or more steps; got {checkpoint_every}. "
            "Choose another interval."
        )
    prior, checkpoint = Path(output), checkpoint_of(output)
    check_suffix(prior, ".safetensors")
    folder = checkpoint.parent
    if checkpoint.exists() and not resume:
        raise SettingError(
            f"{folder} contains an earlier run. Resume it, delete the folder, or choose another "
            "output."
        )
    check_writable(prior)
    place = torch.device(device)
    with only_process(folder):
        data = cached_images(Path(images), folder, settings, on_event, limits)
        pixels, held_out = _split(data.pixels, settings)
        saver = _Saver(prior, folder, data.digest, pixels, held_out.to(place), about, half)
        run = saver.load(settings, place)
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
            _train(run, pixels.to(place), place, saver, checkpoint_every, on_event)
    return Trained(prior, folder, data.skipped)


def checkpoint_of(output: StrPath) -> Path:
    """Where the run that makes the prior `output` has its checkpoint."""
    return Path(output).with_suffix(".train") / CHECKPOINT


def _train(
    run: TrainingRun,
    pixels: Pixels,
    place: torch.device,
    saver: _Saver,
    checkpoint_every: int,
    on_event: EventCallback | None,
) -> None:
    settings = run.settings
    began, first = time.monotonic(), run.step
    while run.step < settings.total_steps:
        x = batch_at(pixels, run.step, settings.batch, settings.seed, flip=settings.flip)
        phase = run.phase
        with torch.autocast(place.type, torch.bfloat16, enabled=bfloat16_pays(place)):
            losses = run.losses(x.to(memory_format=torch.channels_last), pixels)
        _refuse_divergence(losses, phase, run.step)
        run.step += 1
        if on_event is not None:
            rate = (run.step - first) * settings.batch / (time.monotonic() - began)
            values = {**losses, "images/s": rate}
            on_event(Event(phase, run.step, settings.total_steps, values=values))
        if run.step % checkpoint_every == 0 or run.step == settings.total_steps:
            saver.save(run)


def bfloat16_pays(place: torch.device) -> bool:
    """Whether convolutions are faster in bfloat16: on a GPU, or on a CPU with instructions for it
    (AMX, or AVX-512 with BF16, where they are 1.8 times faster)."""
    if place.type != "cpu":
        return place.type == "cuda"
    cpu = torch.cpu
    return bool(cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported())


def _refuse_divergence(losses: Mapping[str, float], phase: str, step: int) -> None:
    wrong = {name: value for name, value in losses.items() if not math.isfinite(value)}
    if wrong:
        raise SettingError(
            f"Training expects finite losses; got {wrong} in the {phase} phase at step {step}. "
            "Train again with a lower learning rate, or with another seed."
        )


@dc.dataclass(frozen=True)
class _Saver:
    prior: Path
    folder: Path
    digest: str
    pixels: Pixels
    held_out: Image
    about: About | None
    half: bool

    def load(self, settings: TrainSettings, place: torch.device) -> TrainingRun:
        """The run in the checkpoint, or a new one. The prior is written again, in case the process
        was killed after writing the checkpoint.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            return new_run(settings, place)
        run = load_checkpoint(path, settings, self.digest, place)
        self.publish(run)
        return run

    def save(self, run: TrainingRun) -> None:
        """Write the checkpoint, then the files derived from it: prior, samples, curve."""
        error = validation_error(run, self.held_out)
        if error is not None:
            run.validation.append((run.step, error))
        save_checkpoint(run, self.folder / CHECKPOINT, self.digest)
        self.publish(run)

    def publish(self, run: TrainingRun) -> None:
        """Write prior, sheet and curve."""
        prior = run.prior(self.pixels, self.about).to("cpu")
        save_sheet(run, prior, self.held_out, self.folder / "samples.png")
        save_curve(run, self.folder / "curve.png")
        save_prior(prior.to("cpu", torch.float16 if self.half else None), self.prior)


@torch.no_grad()
def validation_error(run: TrainingRun, held_out: Image) -> float | None:
    """Mean |x - G(encoder(x))| / 2 of the averaged networks, the error for images in [0, 1]."""
    errors = []
    for x in held_out.split(64) if len(held_out) else ():
        estimate = run.reconstruct(x)
        if estimate is None:
            return None
        errors.append((x - estimate).abs().mean((1, 2, 3)))
    return float(torch.cat(errors).mean() / 2) if errors else None


def _split(pixels: Pixels, settings: TrainSettings) -> tuple[Pixels, Image]:
    """The training images, and the last `holdout` ones in [-1, 1]."""
    count = len(pixels) - settings.holdout
    if count < 2:
        raise SettingError(
            f"train expects at least two images besides the {settings.holdout} held out; got "
            f"{len(pixels)} in all. Give more images or lower holdout."
        )
    return pixels[:count], pixels[count:].float() / 127.5 - 1
