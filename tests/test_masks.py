"""Masks on the command line: which colour means measured, how much is, and an inverted one."""

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import iagan
from iagan.cli import main

SIDE = 32
QUICK = ["--method", "csgm", "--csgm-steps", "2", "--overwrite"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A photograph with a white hole, the hole's mask, white on black, and a small prior."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    iagan.save_prior(
        iagan.Generator(iagan.priors.Began(channels=8, size=SIDE, latent=8), "uniform:8"),
        "prior.safetensors",
    )
    hole = np.zeros((SIDE, SIDE), dtype=np.uint8)
    hole[8:16, 4:20] = 255
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    pixels[hole > 0] = 255
    Pillow.fromarray(pixels).save("photo.png")
    Pillow.fromarray(hole).save("hole.png")
    Pillow.fromarray(255 - hole).save("mask.png")
    return pixels, hole


def _observe(*measurement):
    argv = ["observe", "photo.png", "--prior", "prior.safetensors", "--operator", "inpaint"]
    return main([*argv, *measurement, "-o", "y.npz"])


def test_a_hole_is_a_mask_inverted(files):
    assert _observe("--hole", "hole.png") == 0
    mask = iagan.load_observation("y.npz").operator.mask
    assert torch.equal(mask, torch.from_numpy(files[1] == 0))
    assert (
        main(["observe", "photo.png", "--operator", "fourier", "--hole", "m", "-o", "z.npz"]) == 2
    )


@pytest.mark.parametrize(
    "other", [["--ratio", "0.5"], ["--box", "1,1,2,2"], ["--mask", "mask.png"]]
)
def test_two_ways_to_say_what_is_measured_contradict_each_other(other, files, capsys):
    assert _observe("--hole", "hole.png", *other) == 2
    assert "Leave all but one out" in capsys.readouterr().err


def _messages(capsys, *measurement):
    argv = ["reconstruct", "photo.png", "--prior", "prior.safetensors", "--operator", "inpaint"]
    assert main([*argv, *measurement, *QUICK, "-o", "out.png"]) == 0
    return capsys.readouterr().err


def test_the_share_is_said_and_an_inverted_mask_is_noticed(files, capsys):
    right = _messages(capsys, "--mask", "mask.png")
    assert "87.5% of the pixels are measured" in right
    assert "inverted" not in right
    wrong = _messages(capsys, "--mask", "hole.png")
    assert "12.5% of the pixels are measured" in wrong
    assert "seems to be inverted" in wrong
    assert "keeps 12.5% of the pixels" in wrong
