"""Whole runs: they learn, go on bit for bit whatever stopped them, and end in words."""

from __future__ import annotations

import dataclasses as dc
import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from iagan.errors import CheckpointError, OutputError, SettingError
from iagan.files import only_process
from iagan.priors import About, Crop, load_prior
from iagan.train import RECIPES, BeganSettings, began_run, train
from shapes import write_discs

TINY = BeganSettings(
    size=32,
    latent=8,
    width=8,
    law="normal",
    encoder="light",
    batch=4,
    steps=8,
    patience=3,
    autoencoder_steps=6,
    anchor=1.0,
    holdout=4,
)
"""14 steps: a checkpoint every 4 falls into both phases and into a window of M."""


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return write_discs(tmp_path_factory.mktemp("images") / "discs", 24)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, discs):
    """The prior and the checkpoint of TINY, trained in one go."""
    done = train(TINY, discs, tmp_path_factory.mktemp("whole") / "prior.safetensors", **EVERY_4)
    return contents(done.prior), contents(done.folder / "checkpoint.safetensors")


EVERY_4 = {"checkpoint_every": 4}


def contents(path: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """About and the bytes of every tensor."""
    with safe_open(path, "np") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def test_it_learns_generated_shapes(tmp_path):
    """Both the error on held-out images and M fall well below where they began."""
    settings = dc.replace(
        TINY, width=16, latent=16, batch=8, autoencoder_steps=100, holdout=8,
        steps=80, patience=20, learning_rate=5e-4,
    )  # fmt: skip
    source = write_discs(tmp_path / "discs", 80)
    train(settings, source, tmp_path / "p.safetensors", checkpoint_every=20)
    metadata, _ = contents(tmp_path / "p.train" / "checkpoint.safetensors")
    state = json.loads(metadata["iagan_training"])
    errors = [error for _, error in state["validation"]]
    measures = [window[0] for window in state["windows"]]
    assert errors[4] < 0.7 * errors[0]
    assert errors[-1] < 1.2 * errors[4]
    assert measures[-1] < 0.9 * measures[0]


class Stopped(Exception):
    """Stands for whatever ends a program."""


def steps_into(steps):
    """Takes note of every step of training, not of the images that were read before."""
    return lambda event: steps.append(event.step) if event.phase != "images" else None


def stop_at(step):
    def stop(event):
        if event.phase != "images" and event.step == step:
            raise Stopped

    return stop


@pytest.mark.parametrize("step", [3, 5, 6, 9, 13])
def test_a_run_goes_on_bit_for_bit(tmp_path, discs, uninterrupted, step):
    """Stopped before the first checkpoint, in either phase, between them, and in a window."""
    output = tmp_path / "prior.safetensors"
    with pytest.raises(Stopped):
        train(TINY, discs, output, on_event=stop_at(step), **EVERY_4)
    steps = []
    done = train(
        TINY,
        discs,
        output,
        resume=True,
        on_event=steps_into(steps),
        **EVERY_4,
    )
    assert steps == list(range(step // 4 * 4 + 1, 15))
    assert contents(done.prior) == uninterrupted[0]
    assert contents(done.folder / "checkpoint.safetensors") == uninterrupted[1]


KILLED = """
import sys
from pathlib import Path
import torch
sys.path[:0] = [{tests!r}]
torch.set_num_threads({threads})
from test_train_run import EVERY_4, TINY, train
tell = lambda e: e.phase != "images" and print(e.step, flush=True)
train(TINY, {images!r}, {output!r}, on_event=tell, **EVERY_4)
"""


def test_kill_9_loses_at_most_one_interval(tmp_path, discs, uninterrupted):
    output = tmp_path / "prior.safetensors"
    script = KILLED.format(
        tests=str(Path(__file__).parent),
        threads=torch.get_num_threads(),
        images=str(discs),
        output=str(output),
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 10:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    steps = []
    done = train(
        TINY,
        discs,
        output,
        resume=True,
        on_event=steps_into(steps),
        **EVERY_4,
    )
    assert steps[0] >= 9
    assert contents(done.prior) == uninterrupted[0]
    assert contents(done.folder / "checkpoint.safetensors") == uninterrupted[1]


def test_the_prior_is_the_averaged_generator_with_its_papers(tmp_path, discs):
    crop = Crop((178, 218), (89, 121), 112)
    about = About("discs", "began", "CC0-1.0", "generated", crop)
    done = train(TINY, discs, tmp_path / "p.safetensors", about=about, half=True)
    prior = load_prior(str(done.prior))
    assert prior.about == about
    assert prior.latent == TINY.latent_space
    assert prior.image_shape == (3, 32, 32)
    with safe_open(done.folder / "checkpoint.safetensors", "pt") as file:
        averaged = {name: file.get_tensor(f"average.{name}") for name in prior.parameters()}
        mean, factor = file.get_tensor("code.mean"), file.get_tensor("code.factor")
    averaged["linear.bias"] += averaged["linear.weight"] @ mean
    averaged["linear.weight"] = averaged["linear.weight"] @ factor
    halved = {name: value.half().float() for name, value in averaged.items()}
    # Two float32 products of another order may round to neighbours in float16.
    torch.testing.assert_close(prior.parameters(), halved, rtol=1e-3, atol=1e-5)


def test_sheet_and_curve_are_pictures(tmp_path, discs):
    """Six rows of samples, one of held-out images and one of their reconstructions."""
    done = train(TINY, discs, tmp_path / "p.safetensors")
    with Image.open(done.folder / "samples.png") as sheet:
        assert sheet.size == (8 * 32, 8 * 32)
        assert np.asarray(sheet)[: 6 * 32].std() > 0
    with Image.open(done.folder / "curve.png") as curve:
        curve.verify()


def test_bright_pixels_skipped_files_and_progress_are_told(tmp_path, discs):
    (tmp_path / "some").mkdir()
    for file in sorted(discs.iterdir())[:8]:
        (tmp_path / "some" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "some" / "bad.png").write_bytes(b"bad")
    told = []
    done = train(TINY, tmp_path / "some", tmp_path / "p.safetensors", on_event=told.append)
    assert [e.step for e in told if e.phase == "images"][-1] == 9
    told = [e for e in told if e.phase != "images"]
    assert len(done.skipped) == 1
    assert done.skipped[0].startswith("bad.png")
    assert [(e.step, e.total) for e in told] == [(step, 14) for step in range(1, 15)]
    assert [e.phase for e in told] == ["autoencoder"] * 6 + ["adversarial"] * 8
    assert all(set(e.values) == {"error", "images/s"} for e in told[:6])
    adversarial = [e.values for e in told[6:]]
    assert all(0 <= each["k"] <= 1 and each["M"] >= each["error"] > 0 for each in adversarial)
    assert all(e.values["images/s"] > 0 for e in told)


def test_published_began_runs_without_an_autoencoder_phase(tmp_path, discs):
    settings = BeganSettings(size=32, latent=8, width=4, batch=4, steps=2)
    done = train(settings, discs, tmp_path / "p.safetensors")
    assert load_prior(str(done.prior)).latent.law == "uniform"


def test_a_prior_of_another_suffix_is_refused_before_training(tmp_path):
    with pytest.raises(OutputError, match=r"Name it \*\.safetensors"):
        train(TINY, tmp_path / "not read", tmp_path / "p.pth")
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_overwritten_nor_continued_as_another(tmp_path, discs):
    output = tmp_path / "p.safetensors"
    train(TINY, discs, output)
    with pytest.raises(SettingError, match="Resume it"):
        train(TINY, discs, output)
    with pytest.raises(SettingError, match=r"gamma 0\.5 \(now 0\.3\)"):
        train(dc.replace(TINY, gamma=0.3), discs, output, resume=True)
    with pytest.raises(SettingError, match="recipe began.*; got .* vae-gan.*--recipe began"):
        train(RECIPES["vae-gan"], discs, output, resume=True)
    others = write_discs(tmp_path / "others", 25)
    with pytest.raises(SettingError, match="other images"):
        train(TINY, others, output, resume=True)
    longer = []
    more = dc.replace(TINY, steps=9)
    train(more, discs, output, resume=True, on_event=steps_into(longer))
    assert longer == [15]


@pytest.mark.parametrize("keep", [0, 40, 5000])
def test_a_damaged_checkpoint_is_refused_in_words(tmp_path, discs, keep):
    output = tmp_path / "p.safetensors"
    done = train(TINY, discs, output)
    checkpoint = done.folder / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="Delete it") as error:
        train(TINY, discs, output, resume=True)
    assert "\n" not in str(error.value)


def test_a_run_killed_between_its_last_checkpoint_and_its_prior_is_finished(
    tmp_path, discs, uninterrupted
):
    """Nothing is left to train; the prior is missing, or that of an earlier step."""
    output = tmp_path / "p.safetensors"
    done = train(TINY, discs, output, **EVERY_4)
    output.unlink()
    (done.folder / "samples.png").unlink()
    train(TINY, discs, output, resume=True, **EVERY_4)
    assert contents(output) == uninterrupted[0]
    assert (done.folder / "samples.png").exists()


def test_two_processes_do_not_share_a_run(tmp_path, discs):
    output = tmp_path / "p.safetensors"
    with (
        only_process(tmp_path / "p.train"),
        pytest.raises(OutputError, match="Another process"),
    ):
        train(TINY, discs, output)


def test_divergence_ends_in_words_and_leaves_no_bad_checkpoint(tmp_path, discs, monkeypatch):
    monkeypatch.setattr(began_run, "autoencoder_step", lambda run, x: torch.tensor(torch.nan))
    with pytest.raises(SettingError, match="lower learning rate"):
        train(TINY, discs, tmp_path / "p.safetensors", checkpoint_every=1)
    assert not (tmp_path / "p.train" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("bad", [{"checkpoint_every": 0}, {"holdout": 23}])
def test_numbers_that_cannot_work_are_refused(tmp_path, discs, bad):
    settings = dc.replace(TINY, holdout=bad.get("holdout", 4))
    every = bad.get("checkpoint_every", 4)
    with pytest.raises(SettingError, match=next(iter(bad))):
        train(settings, discs, tmp_path / "p.safetensors", checkpoint_every=every)


@contextmanager
def tmpfs(folder: Path, size: int):
    """A disk of `size` bytes at `folder`; skips where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def file_limit(folder: Path, size: int):
    """Files above `size` bytes cannot be written by this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [tmpfs, file_limit])
def test_a_full_disk_ends_in_words_and_keeps_the_last_checkpoint(tmp_path, discs, limit):
    """Room for one checkpoint and not for the next beside it, or for none of its size."""
    folder = tmp_path / "disk"
    output = folder / "p.safetensors"
    with limit(folder, 2_000_000):
        small = dc.replace(TINY, steps=1)
        done = train(small, discs, output)
        checkpoint = done.folder / "checkpoint.safetensors"
        before = checkpoint.read_bytes()
        assert len(before) < 1_000_000
        filler = folder / "filler"
        if limit is tmpfs:
            room = os.statvfs(folder)
            filler.write_bytes(bytes(room.f_bavail * room.f_frsize - len(before) // 2))
        else:
            resource.setrlimit(
                resource.RLIMIT_FSIZE,
                (len(before) // 2, resource.getrlimit(resource.RLIMIT_FSIZE)[1]),
            )
        with pytest.raises(OutputError) as error:
            train(TINY, discs, output, resume=True)
        assert "\n" not in str(error.value)
        assert checkpoint.read_bytes() == before
        assert not list(folder.rglob("*.part"))
        load_prior(str(output))
