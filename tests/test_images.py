"""Photographs from strangers: each kind is handled, or refused in one line."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from iagan import images
from iagan.decode import decode_rgb
from iagan.errors import ImageFileError, OutputError, SettingError
from iagan.images import Crop, astronaut, crop_square, load_image, save_image
from iagan.masks import load_mask

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def _load(tmp_path, picture, name="p.png", **options):
    path = tmp_path / name
    picture.save(path, **options)
    return load_image(path)


def _expected(pixels):
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)[None]


def test_rgb_is_read_to_the_last_bit(tmp_path):
    assert torch.equal(_load(tmp_path, Pillow.fromarray(PIXELS)), _expected(PIXELS))


def test_a_photograph_is_turned_as_its_exif_says(tmp_path):
    """Orientation 6: the camera was held upright, the file lies on its side."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    image = _load(tmp_path, Pillow.fromarray(PIXELS), exif=exif)
    assert torch.equal(image, _expected(np.rot90(PIXELS, k=-1).copy()))


def test_grey_palette_and_sixteen_bits_become_rgb(tmp_path):
    grey = PIXELS[..., 0]
    expected = _expected(np.repeat(grey[..., None], 3, 2))
    assert torch.equal(_load(tmp_path, Pillow.fromarray(grey)), expected)
    assert torch.equal(_load(tmp_path, Pillow.fromarray(grey).convert("P")), expected)
    deep = Pillow.fromarray(grey.astype(np.uint16) * 257)
    torch.testing.assert_close(_load(tmp_path, deep), expected)


def test_transparency_is_laid_on_white(tmp_path):
    alpha = np.full((6, 8, 1), 51, dtype=np.uint8)
    image = _load(tmp_path, Pillow.fromarray(np.concatenate([PIXELS, alpha], 2)))
    expected = 0.2 * _expected(PIXELS) + 0.8
    torch.testing.assert_close(image, expected, rtol=0, atol=1 / 255)


def test_cmyk_becomes_rgb(tmp_path):
    ink = Pillow.new("CMYK", (8, 8), (0, 255, 255, 0))
    image = _load(tmp_path, ink, "p.jpg", quality=95)
    torch.testing.assert_close(image.mean((0, 2, 3)), torch.tensor([1.0, 0, 0]), rtol=0, atol=0.03)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    image = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    save_image(image, tmp_path / "new" / "x.png")
    loaded = load_image(tmp_path / "new" / "x.png")
    torch.testing.assert_close(loaded, image.clamp(0, 1), rtol=0, atol=0.5 / 255 + 1e-6)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.png"]


def test_only_single_png_images_are_saved(tmp_path):
    with pytest.raises(OutputError, match=r"\.png"):
        save_image(torch.zeros(1, 3, 4, 4), tmp_path / "x.jpg")
    with pytest.raises(SettingError, match="image by image"):
        save_image(torch.zeros(2, 3, 4, 4), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def _png_header(width, height):
    """A PNG that declares a size and holds nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT"


def _float_rgb_tiff():
    """A valid TIFF of 1×1 pixel, float32 RGB, which Pillow has no mode for."""
    one, short, long = struct.pack("<f", 0.5), 3, 4
    tags = [(256, short, 1, 1), (257, short, 1, 1), (258, short, 3, 134), (262, short, 1, 2)]
    tags += [(273, long, 1, 146), (277, short, 1, 3), (278, short, 1, 1), (279, long, 1, 12)]
    tags += [(284, short, 1, 1), (339, short, 3, 140)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    values = struct.pack("<6H", 32, 32, 32, 3, 3, 3)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + directory + values + 3 * one


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "its format is unknown"),
        (b"GIF89a, or so it says", "replace it"),
        (_png_header(100_000, 100_000), "Downscale it"),
        (_png_header(8, 8), "replace it"),
        (_float_rgb_tiff(), "pixel type is not supported, such as floating-point RGB"),
        (None, "no such file"),
    ],
)
def test_bad_files_are_refused_in_one_line(content, words, tmp_path):
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageFileError, match=words) as caught:
        load_image(path)
    assert "\n" not in str(caught.value)
    assert "bad.png" in str(caught.value)


def test_a_truncated_jpeg_is_refused(tmp_path):
    path = tmp_path / "whole.jpg"
    Pillow.fromarray(np.tile(PIXELS, (20, 20, 1))).save(path)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageFileError, match="truncated"):
        load_image(cut)


def test_the_prior_square_is_taken_of_aligned_photographs_only():
    crop = Crop((178, 218), (89, 121), 112)
    photo = torch.rand(1, 3, 218, 178)
    assert images.default_square(photo, crop) == (33, 65, 112)
    assert torch.equal(crop_square(photo, None, crop, (112, 112)), photo[..., 65:177, 33:145])
    assert images.default_square(photo[..., :200, :], crop) == (0, 11, 178)
    assert images.default_square(photo, None) == (0, 20, 178)


def test_resizing_a_square_averages_it():
    """Anti-aliased: a fine checkerboard becomes grey, not black or white."""
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    small = crop_square(board.float().expand(1, 3, 64, 64), None, None, (16, 16))
    torch.testing.assert_close(small, torch.full((1, 3, 16, 16), 0.5), rtol=0, atol=0.02)


@pytest.mark.parametrize("box", [(-1, 0, 4), (0, 0, 9), (5, 0, 4), (0, 0, 0)])
def test_a_box_outside_the_photograph_is_refused(box):
    with pytest.raises(SettingError, match="LEFT,TOP,SIDE"):
        crop_square(torch.zeros(1, 3, 8, 8), box, None, (4, 4))


def test_masks_come_from_pictures_and_arrays(tmp_path):
    mask = np.random.default_rng(1).random((4, 6)) > 0.5
    Pillow.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "m.png")
    np.save(tmp_path / "m.npy", mask)
    np.save(tmp_path / "ones.npy", mask.astype(np.float64))
    for name in ("m.png", "m.npy", "ones.npy"):
        assert torch.equal(load_mask(tmp_path / name, (4, 6)), torch.from_numpy(mask))


def test_deep_grey_is_divided_not_clipped(tmp_path):
    """1000 of 65535 is dark, in a picture, in a mask and for training; Pillow would clip it."""
    deep = np.array([[1000, 40000]], dtype=np.uint16)
    path = tmp_path / "deep.png"
    Pillow.fromarray(deep).save(path)
    torch.testing.assert_close(load_image(path)[0, 0].double(), torch.tensor(deep / 65535.0))
    assert load_mask(path, (1, 2)).tolist() == [[False, True]]
    assert np.asarray(decode_rgb(path, "deep"))[..., 0].tolist() == [[4, 156]]


@pytest.mark.parametrize(
    "value", [np.float32(1.5), np.float32(np.nan), np.int32(10**6), np.int32(-1)]
)
def test_numbers_without_a_white_are_refused(value, tmp_path):
    Pillow.fromarray(np.full((4, 4), value)).save(tmp_path / "p.tif")
    with pytest.raises(ImageFileError, match="16 bits"):
        load_image(tmp_path / "p.tif")


def test_formats_for_which_pillow_runs_a_program_are_not_opened(tmp_path, monkeypatch):
    """An EPS with another name would reach Ghostscript."""
    from PIL import EpsImagePlugin

    def run(*args, **kwargs):
        pytest.fail("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    path = tmp_path / "p.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with Pillow.open(path) as opened:
        assert opened.format == "EPS"
    with pytest.raises(ImageFileError, match="its format is unknown"):
        load_image(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_every_format_is_opened_and_damage_is_refused_in_one_line(form, tmp_path):
    """150 files a format with one to four bytes of their start changed at random."""
    path, rng = tmp_path / "p.any", np.random.default_rng(0)
    Pillow.fromarray(np.tile(PIXELS, (3, 3, 1))).save(path, form)
    assert load_image(path).shape == (1, 3, 18, 24)
    whole = path.read_bytes()
    for _ in range(150):
        broken = bytearray(whole)
        for place in rng.integers(min(len(whole), 200), size=rng.integers(1, 5)):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        try:
            load_image(path)
        except ImageFileError as error:
            assert "\n" not in str(error)


def test_an_image_of_nan_is_not_saved_as_black(tmp_path):
    with pytest.raises(SettingError, match="NaN"):
        save_image(torch.full((1, 3, 4, 4), torch.nan), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_folders_give_their_images_sorted(tmp_path):
    for name in ("b.PNG", "a.jpg", "._a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    single = tmp_path / "notes.txt"
    paths = images.find_images([single, tmp_path])
    assert [path.name for path in paths] == ["notes.txt", "a.jpg", "b.PNG"]


def test_masks_that_cannot_be_used_are_refused(tmp_path):
    header = {"descr": "|b1", "fortran_order": False, "shape": (10**7, 10**7)}
    with (tmp_path / "huge.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
    (tmp_path / "JUNK.NPY").write_bytes(b"junk")
    np.save(tmp_path / "size.npy", np.ones((4, 5), dtype=bool))
    np.save(tmp_path / "values.npy", np.full((4, 6), 2))
    np.save(tmp_path / "pickle.npy", np.array([[print]], dtype=object), allow_pickle=True)
    (tmp_path / "junk.npy").write_bytes(b"junk")
    for name, words in [
        ("size.npy", "6×4"),
        ("values.npy", "other values"),
        ("pickle.npy", "Save it again"),
        ("junk.npy", "Save it again"),
        ("JUNK.NPY", "Save it again"),
        ("huge.npy", "Save it again"),
        ("none.npy", "no such file"),
    ]:
        with pytest.raises(ImageFileError, match=words) as caught:
            load_mask(tmp_path / name, (4, 6))
        assert "\n" not in str(caught.value)


def test_the_portrait_is_scikit_images_astronaut():
    """Against the source: the middle of the face, at the scale of tools/make_astronaut.py."""
    data = pytest.importorskip("skimage.data")
    portrait = _expected(data.astronaut())
    side = 42  # between the eyes, as many pixels as 39 of the aligned picture
    face = portrait[..., 102 - side : 102 + side, 225 - side : 225 + side]
    ours = astronaut()
    assert ours.shape == (1, 3, 218, 178)
    aligned = ours[..., 112 - 39 : 112 + 39, 88 - 39 : 88 + 39]
    resized = torch.nn.functional.interpolate(face, size=(78, 78), mode="bicubic", antialias=True)
    assert (resized - aligned).abs().mean() < 0.02
