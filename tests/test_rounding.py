"""The error that a file adds, against the error itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from iagan.errors import ImageFileError
from iagan.images import astronaut, crop_square, load_image, save_image
from iagan.rounding import SHARE, rounding_std


def photo(side):
    return crop_square(astronaut(), None, None, (side, side))


def error_std(path, truth):
    return float((load_image(path) - truth).square().mean().sqrt())


def test_rounding_to_8_and_16_bits(tmp_path):
    save_image(photo(64), tmp_path / "a.png")
    assert rounding_std(tmp_path / "a.png") == pytest.approx(
        error_std(tmp_path / "a.png", photo(64)), rel=0.05
    )
    grey = (photo(64).mean(1)[0].double() * 65535).round().numpy().astype(np.uint16)
    Pillow.fromarray(grey).save(tmp_path / "b.png")
    assert rounding_std(tmp_path / "b.png") == pytest.approx(1 / 65535 / math.sqrt(12))


@pytest.mark.parametrize("quality", [95, 85, 75, 50, 30])
@pytest.mark.parametrize("side", [32, 64, 128])
def test_a_jpegs_error_is_estimated_from_its_tables(side, quality, tmp_path):
    """Within a third of the error that compressing made in the luma; chosen on other faces."""
    pixels = (photo(side)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Pillow.fromarray(pixels)
    picture.save(tmp_path / "a.jpg", quality=quality)
    with Pillow.open(tmp_path / "a.jpg") as stored:
        gap = np.asarray(stored.convert("L"), float) - np.asarray(picture.convert("L"), float)
    std = 255 * rounding_std(tmp_path / "a.jpg") / SHARE
    ratio = std / float(np.sqrt(np.mean(gap**2)))
    assert 0.75 < ratio < 1.34


def test_a_grey_jpeg_and_one_smaller_than_a_block(tmp_path):
    Pillow.new("L", (5, 7), 100).save(tmp_path / "a.jpg", quality=75)
    assert 0 < rounding_std(tmp_path / "a.jpg") < 10 / 255
    assert torch.isfinite(torch.tensor(rounding_std(tmp_path / "a.jpg")))


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageFileError, match="not an image"):
        rounding_std(tmp_path / "a.png")
