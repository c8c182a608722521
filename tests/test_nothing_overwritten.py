"""What the user has is not replaced by what a command makes, and a score is of a real truth."""

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import iagan
from helpers import as_users_run_it
from iagan.cli import main

QUICK = ["--operator", "bicubic", "--scale", "4", "--method", "naive", "--prior", "faces-64"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A measurement of 16×16, and what its file holds."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(60, 200, (16, 16, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save("small.png")
    return (tmp_path / "small.png").read_bytes()


def _reconstruct(*more):
    return main(["reconstruct", "small.png", *QUICK, "--lpips", "none", *more])


def test_a_figure_replaces_neither_inputs_nor_results_nor_strangers(small, tmp_path, capsys):
    assert _reconstruct("-o", "a.png", "--figure", "small.png", "--overwrite") == 2
    assert "is an input" in capsys.readouterr().err
    assert _reconstruct("-o", "b.png", "--figure", "b.png") == 2
    assert "is a result" in capsys.readouterr().err
    assert iagan.load_image("b.png").shape == (1, 3, 64, 64)
    (tmp_path / "c.png").write_bytes(small)
    assert _reconstruct("-o", "d.png", "--figure", "c.png") == 2
    assert "not a figure" in capsys.readouterr().err
    assert (tmp_path / "small.png").read_bytes() == (tmp_path / "c.png").read_bytes() == small
    for _ in range(2):  # a figure of before is replaced
        assert _reconstruct("-o", "e.png", "--figure", "f.png") == 0


def test_an_input_is_never_an_output(small, tmp_path, capsys):
    assert _reconstruct("-o", "small.png", "--overwrite") == 2
    assert "never replaced" in capsys.readouterr().err
    assert (tmp_path / "small.png").read_bytes() == small


def test_observe_replaces_observations_only(small, tmp_path, capsys):
    observe = ["observe", "small.png", "--operator", "bicubic", "--scale", "4"]
    observe += ["--prior", "faces-64", "-o", "y.npz"]
    (tmp_path / "y.npz").write_bytes(b"mine")
    assert main(observe) == 2
    assert (tmp_path / "y.npz").read_bytes() == b"mine"
    (tmp_path / "y.npz").unlink()
    assert main(observe) == main(observe) == 0
    with np.load("y.npz") as file:
        about = str(file["about"]).replace('"bicubic"', '"unregistered"')
    np.savez("y.npz", y=np.zeros((1, 3, 16, 16), "f4"), about=np.array(about))
    assert main(["reconstruct", "y.npz", "--prior", "faces-64"]) == 2
    assert main(observe) == 0, "an observation that cannot be loaded here is one nevertheless"


def test_a_truth_smaller_than_the_image_is_refused(small, capsys):
    assert _reconstruct("-o", "a.png", "--truth", "small.png") == 2
    assert "true image of 64×64 pixels is expected" in capsys.readouterr().err


def test_a_measurement_that_is_too_small_is_not_enlarged(small, capsys):
    argv = ["reconstruct", "small.png", "--operator", "bicubic", "--scale", "2", "-o", "a.png"]
    assert main([*argv, "--prior", "faces-64", "--method", "naive"]) == 2
    assert "invent measurements" in capsys.readouterr().err


def test_a_skipped_image_has_a_record_too(small, capsys):
    assert _reconstruct("-o", "a.png", "--json") == 0
    capsys.readouterr()
    assert _reconstruct("-o", "a.png", "--json") == 0
    out, err = capsys.readouterr()
    assert '"status": "skipped"' in out
    assert err.startswith("note: ")


def test_too_many_threads_are_refused():
    with pytest.raises(iagan.errors.SettingError, match="at most 1024 threads"):
        iagan.Execution(threads=10**6)


def test_numpy_numbers_are_numbers():
    with as_users_run_it():
        method = iagan.CSGM(steps=np.int64(3), rate=np.float32(0.5))
    assert method == iagan.CSGM(steps=3, rate=0.5)
    assert type(method.steps) is int
    assert type(method.rate) is float
    y = np.random.default_rng(0).normal(0.5, 0.1, (1, 3, 64, 64)).astype(np.float32)
    assert float(iagan.estimate_noise_std(y)) == pytest.approx(0.1, rel=0.05)
    for wrong in (torch.tensor(1.0), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with as_users_run_it(), pytest.raises(iagan.errors.ShapeError, match="real images"):
            iagan.estimate_noise_std(wrong)


def test_noise_above_the_range_is_told(caplog):
    x, operator = torch.rand(1, 3, 8, 8), iagan.operators.Identity((3, 8, 8))
    with caplog.at_level("WARNING", "iagan"):
        iagan.observe(x, operator, 10.0, torch.Generator().manual_seed(0))
    assert "10 / 255" in caplog.text
