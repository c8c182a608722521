"""`train`: from a folder of images to a prior."""

from __future__ import annotations

import dataclasses as dc
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from iagan.errors import SettingError
from iagan.files import only_process
from iagan.generators.base import Generator, Metadata
from iagan.generators.store import save_prior
from iagan.train.autoencoder import autoencoder_step, validation_error
from iagan.train.began import began_step, convergence_measure, remember
from iagan.train.cache import cached_images
from iagan.train.checkpoint import load_checkpoint, save_checkpoint
from iagan.train.code import CodeLaw, measure_code_law, with_unit_latent
from iagan.train.data import Pixels, batch_at
from iagan.train.networks import average_into
from iagan.train.run import Run, new_run, start_adversarial_phase
from iagan.train.settings import TrainSettings
from iagan.train.sheet import save_curve, save_sheet
from iagan.types import Image

StrPath = str | os.PathLike[str]
CHECKPOINT = "checkpoint.safetensors"


@dc.dataclass(frozen=True)
class Progress:
    """What a run says of one step.

    - `error`: mean |x - x̂| of the autoencoder, for images in [-1, 1]; L(x) of the paper.
    - `measure`, `k`: M and k_t; None in the autoencoder phase.
    - `images_per_second`: since the run (or its continuation) began, checkpoints included.
    """

    step: int
    steps: int
    phase: Literal["autoencoder", "adversarial"]
    error: float
    measure: float | None
    k: float | None
    images_per_second: float


@dc.dataclass(frozen=True)
class Trained:
    """Where a finished run left its prior and its papers, and the images that it skipped."""

    prior: Path
    folder: Path
    skipped: tuple[str, ...]


def train(
    settings: TrainSettings,
    images: StrPath,
    output: StrPath,
    *,
    metadata: Metadata | None = None,
    resume: bool = False,
    half: bool = False,
    device: torch.device | str = "cpu",
    checkpoint_every: int = 500,
    on_progress: Callable[[Progress], None] | None = None,
    on_loading: Callable[[int], None] | None = None,
) -> Trained:
    """Train a BEGAN prior on `images` (a folder, .tar or .zip) and save it to `output`.

    Every `checkpoint_every` steps it replaces, each atomically, the prior itself (the running mean
    of G) and in the folder `STEM.train` beside it `checkpoint.safetensors`, `samples.png` and
    `curve.png`. The decoded images are kept there too, so that going on is quick, and
    `skipped.txt` lists what could not be read. A run that goes on gives what an uninterrupted one
    gives; on a CPU, with the same number of threads, bit for bit.

    **Arguments:**
    - `metadata`: name, licence, source and crop to save with the weights.
    - `resume`: go on from the checkpoint, where there is one. Without it, one is refused.
    - `half`: save the prior's weights in float16.
    - `on_progress`: called after every step; `on_loading`, with the number of images read.

    **Raises:** `SettingError`, `ImageFileError`, `CheckpointError`, `OutputError`. Each leaves the
    last good checkpoint.
    """
    if checkpoint_every < 1:
        raise SettingError(
            f"train wants checkpoint_every of 1 or more steps; got {checkpoint_every}. "
            "Choose another interval."
        )
    prior = Path(output)
    folder = prior.with_suffix(".train")
    if (folder / CHECKPOINT).exists() and not resume:
        raise SettingError(
            f"{folder} holds an earlier run. Resume it, delete that folder, or name another output."
        )
    place = torch.device(device)
    with only_process(folder):
        data = cached_images(Path(images), folder, settings, on_loading)
        pixels, held_out = _split(data.pixels, settings)
        saver = _Saver(prior, folder, data.digest, pixels, held_out.to(place), metadata, half)
        run = saver.load(settings, place)
        _compile_where_it_pays(run, place)
        _train(run, pixels, place, saver, checkpoint_every, on_progress)
    return Trained(prior, folder, data.skipped)


def _train(
    run: Run,
    pixels: Pixels,
    place: torch.device,
    saver: _Saver,
    checkpoint_every: int,
    on_progress: Callable[[Progress], None] | None,
) -> None:
    settings = run.settings
    began, first = time.monotonic(), run.step
    while run.step < settings.total_steps:
        x = batch_at(pixels, run.step, settings.batch, settings.seed, flip=settings.flip)
        progress = _step(run, x.to(place, memory_format=torch.channels_last))
        if run.step == settings.autoencoder_steps:
            start_adversarial_phase(run, pixels)
        if on_progress is not None:
            rate = (run.step - first) * settings.batch / (time.monotonic() - began)
            on_progress(dc.replace(progress, images_per_second=rate))
        if run.step % checkpoint_every == 0 or run.step == settings.total_steps:
            saver.save(run)


@dc.dataclass(frozen=True)
class _Saver:
    prior: Path
    folder: Path
    digest: str
    pixels: Pixels
    held_out: Image
    metadata: Metadata | None
    half: bool

    def load(self, settings: TrainSettings, place: torch.device) -> Run:
        """The run in the checkpoint, or a new one where there is none."""
        path = self.folder / CHECKPOINT
        if path.exists():
            return load_checkpoint(path, settings, self.digest, place)
        return new_run(settings, place)

    def save(self, run: Run) -> None:
        """Write the checkpoint, then what can be made from it again: prior, sheet, curve."""
        if run.encoder is not None and len(self.held_out) and _encoder_is_trained(run):
            run.validation.append((run.step, validation_error(run, self.held_out)))
        save_checkpoint(run, self.folder / CHECKPOINT, self.digest)
        module = with_unit_latent(run.average, self._code(run))
        generator = Generator(module, run.settings.latent_law, (-1.0, 1.0), self.metadata)
        save_prior(generator.to("cpu", torch.float16 if self.half else None), self.prior)
        save_sheet(run, module, self.held_out, self.folder / "samples.png")
        save_curve(run, self.folder / "curve.png")

    def _code(self, run: Run) -> CodeLaw | None:
        if run.encoder is None or run.code is not None:
            return run.code
        return measure_code_law(run.encoder, self.pixels)


def _encoder_is_trained(run: Run) -> bool:
    return run.step <= run.settings.autoencoder_steps or run.settings.anchor > 0


def _step(run: Run, x: Image) -> Progress:
    """One step of whichever phase it is, the running mean, and the change between the phases."""
    settings = run.settings
    phase: Literal["autoencoder", "adversarial"] = (
        "autoencoder" if run.in_autoencoder_phase else "adversarial"
    )
    measure = None
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.device.type == "cuda"):
        if phase == "autoencoder":
            error = float(autoencoder_step(run, x))
        else:
            error, fake = began_step(run, x)
            measure = convergence_measure(error, fake, settings.gamma)
    if not math.isfinite(error if measure is None else measure):
        raise SettingError(
            f"Training wants finite losses; got {error} in the {phase} phase at step {run.step}. "
            "Train again with a lower learning rate, or with another seed."
        )
    run.step += 1
    average_into(run.average, run.generator, min(settings.ema, run.step / (run.step + 10)))
    if measure is not None:
        remember(run, error, fake)
    k = None if measure is None else run.k
    return Progress(run.step, settings.total_steps, phase, error, measure, k, 0.0)


def _split(pixels: Pixels, settings: TrainSettings) -> tuple[Pixels, Image]:
    """The images to train on, and the last `holdout` ones in [-1, 1]."""
    count = len(pixels) - settings.holdout
    if count < 2:
        raise SettingError(
            f"train wants at least two images beside the {settings.holdout} held out; got "
            f"{len(pixels)} in all. Give more images or lower holdout."
        )
    return pixels[:count], pixels[count:].float() / 127.5 - 1


def _compile_where_it_pays(run: Run, place: torch.device) -> None:
    """On CUDA only: on two processor cores compiled steps were a fifth slower (measured)."""
    if place.type != "cuda":
        return
    for name, network in run.networks.items():
        if name != "average":
            network.compile()
