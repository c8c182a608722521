"""Figures: the pictures are where they should be, pixel by pixel."""

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import iagan
from iagan.errors import OutputError, SettingError
from iagan.operators import BicubicDownsample, SubsampledFourier
from iagan.show import Panel, figure, picture_of


def _colour(*rgb):
    return torch.tensor(rgb, dtype=torch.float32)[None, :, None, None].expand(1, 3, 4, 4)


def test_panels_stand_in_rows_and_columns(tmp_path):
    """A red, a green and a blue panel above one another and beside: found at their places."""
    red, green, blue = _colour(1, 0, 0), _colour(0, 1, 0), _colour(0, 0, 1)
    rows = [[Panel(red, "truth", "a\nb"), Panel(green, "other")], [Panel(blue, "truth", "c")]]
    figure(rows, tmp_path / "f.png")
    with Pillow.open(tmp_path / "f.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    height, width = pixels.shape[:2]

    def centre(colour):
        where = np.argwhere((np.abs(pixels - np.array(colour)) < 8).all(2))
        assert len(where) > 10_000
        return where.mean(0) / (height, width)

    r, g, b = centre((255, 0, 0)), centre((0, 255, 0)), centre((0, 0, 255))
    assert r[1] == pytest.approx(0.25, abs=0.02) == pytest.approx(b[1], abs=0.02)
    assert g[1] == pytest.approx(0.75, abs=0.02)
    assert g[0] == pytest.approx(r[0], abs=0.01)
    assert b[0] > 0.6


def test_pixels_are_magnified_not_smoothed(tmp_path):
    board = ((torch.arange(4)[:, None] + torch.arange(4)) % 2).float().expand(1, 3, 4, 4)
    figure([[Panel(board)]], tmp_path / "f.png")
    with Pillow.open(tmp_path / "f.png") as picture:
        grey = np.asarray(picture.convert("L"))
    assert np.mean((grey < 20) | (grey > 235)) > 0.98


@pytest.mark.parametrize("name", ["cash$in$hand", "$\\nothing$", "顔.jpg"])
def test_any_file_name_is_a_title(name, tmp_path):
    """Neither mathematics nor a letter that the font lacks stops a figure (or warns)."""
    figure([[Panel(_colour(1, 0, 0), name, name)]], tmp_path / "f.png")
    with Pillow.open(tmp_path / "f.png") as picture:
        assert picture.size[0] > 200


def test_nothing_to_draw_and_nowhere_to_draw_are_refused(tmp_path):
    with pytest.raises(SettingError, match="at least one panel"):
        figure([], tmp_path / "f.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        figure([[Panel(_colour(1, 0, 0))]], tmp_path / "file" / "f.png")


def test_how_a_measurement_is_shown():
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    small = iagan.observe(x, BicubicDownsample((3, 8, 8), scale=2))
    assert torch.equal(picture_of(small), small.y.clamp(0, 1))
    spectrum = iagan.observe(x, SubsampledFourier.random((3, 8, 8), 0.5, seed=0))
    assert torch.equal(picture_of(spectrum), spectrum.operator.adjoint(spectrum.y).clamp(0, 1))
