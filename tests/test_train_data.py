"""Training images: what is read, what is refused, and in which order it is served."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from iagan.errors import IaganError, ImageFileError, SettingError
from iagan.images import Crop
from iagan.limits import Limits
from iagan.train import BeganSettings, cache, load_images
from iagan.train.data import batch_at
from shapes import write_discs


def packed(folder, kind):
    """The files of `folder` in a .tar or .zip beside it."""
    path = folder.with_suffix(kind)
    files = sorted(folder.iterdir())
    if kind == ".tar":
        with tarfile.open(path, "w") as archive:
            for file in files:
                archive.add(file, file.name)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, file.name)
    return path


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", [".tar", ".zip"])
def test_an_archive_gives_what_the_folder_gives_and_leaves_no_files(tmp_path, kind):
    folder = write_discs(tmp_path / "discs", 5, size=40)
    archive = packed(folder, kind)
    before = sorted(tmp_path.rglob("*"))
    from_archive = load_images(archive, 32)
    assert sorted(tmp_path.rglob("*")) == before
    assert torch.equal(from_archive.pixels, load_images(folder, 32).pixels)
    assert from_archive.pixels.shape == (5, 3, 32, 32)


def test_mixed_sizes_and_modes_are_read_and_broken_files_are_listed(tmp_path):
    folder = write_discs(tmp_path / "mixed", 2, size=50)
    Image.new("L", (33, 90), 128).save(folder / "grey.jpg")
    (folder / "broken.png").write_bytes((folder / "0000.png").read_bytes()[:60])
    (folder / "text.webp").write_text("no image")
    (folder / "notes.txt").write_text("not meant to be one")
    images = load_images(folder, 64)
    assert images.pixels.shape == (3, 3, 64, 64)
    assert [line.split()[0] for line in images.skipped] == ["broken.png", "text.webp"]
    assert (images.pixels[2].int() - 128).abs().max() <= 2


def test_a_damaged_member_of_a_zip_is_listed_and_the_others_are_read(tmp_path):
    archive = packed(write_discs(tmp_path / "discs", 3), ".zip")
    data = bytearray(archive.read_bytes())
    data[data.index(b"IDAT") + 10] ^= 0xFF
    archive.write_bytes(data)
    images = load_images(archive, 32)
    assert len(images.pixels) == 2
    assert images.skipped[0].startswith("0000.png: ")


def test_links_are_not_opened_and_huge_members_are_listed(tmp_path):
    folder = write_discs(tmp_path / "discs", 2)
    (folder / "link.png").symlink_to(folder / "0000.png")
    big = Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), dtype=np.uint8))
    big.save(folder / "big.png")
    limits = Limits(member_bytes=20_000)
    for source in (folder, packed(folder, ".tar")):
        images = load_images(source, 32, limits=limits)
        assert len(images.pixels) == 2
        (line,) = images.skipped
        assert line.startswith("big.png: ") and "above the limit" in line


def test_the_crop_is_cut_from_photographs_of_its_size_only(tmp_path):
    """The ground is blue, the crop red; the other photograph's centre square is red as well."""
    photo = Image.new("RGB", (60, 80), "blue")
    photo.paste("red", (10, 20, 50, 60))
    photo.save(tmp_path / "a.png")
    other = Image.new("RGB", (80, 60), "blue")
    other.paste("red", (10, 0, 70, 60))
    other.save(tmp_path / "b.png")
    crop = Crop((60, 80), (30, 40), 40)
    pixels = load_images(tmp_path, 32, crop).pixels
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 32, 32)
    assert torch.equal(pixels[0], red)
    assert torch.equal(pixels[1], red)
    with pytest.raises(SettingError):
        load_images(tmp_path, 32, Crop((60, 80), (30, 70), 40))


def test_downscaling_averages_instead_of_aliasing(tmp_path):
    """Pixels of a fine chequerboard average to grey; picked ones would be black and white."""
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(board).save(tmp_path / name)
    inner = load_images(tmp_path, 32).pixels[..., 2:-2, 2:-2].float()
    assert (inner - 127.5).abs().max() < 3


def nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def a_single_one(tmp_path):
    return write_discs(tmp_path / "one", 1)


def only_broken(tmp_path):
    folder = nothing(tmp_path)
    (folder / "a.png").write_bytes(b"\x89PNG")
    return folder


def missing(tmp_path):
    return tmp_path / "nowhere"


def a_text(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    return tmp_path / "a.txt"


def a_cut_tar(tmp_path):
    archive = packed(write_discs(tmp_path / "discs", 8), ".tar")
    archive.write_bytes(archive.read_bytes()[:1400])
    return archive


@pytest.mark.parametrize(
    ("make", "kind", "word"),
    [
        (nothing, SettingError, "got 0"),
        (a_single_one, SettingError, "got 1"),
        (only_broken, SettingError, "a.png"),
        (missing, ImageFileError, "does not exist"),
        (a_text, ImageFileError, "something else"),
        (a_cut_tar, IaganError, "discs.tar"),
    ],
)
def test_unusable_sources_end_in_words(tmp_path, make, kind, word):
    with pytest.raises(kind) as error:
        load_images(make(tmp_path), 32)
    assert word in one_line(error)


def ramp(count: int) -> torch.Tensor:
    """Images whose every pixel is their number."""
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2).clone()


def test_every_epoch_serves_every_image_once_whatever_the_batch():
    """7 images, batches of 3: step 2 straddles the epochs."""
    served = torch.cat([batch_at(ramp(7), step, 3, seed=1) for step in range(7)])
    numbers = ((served[:, 0, 0, 0] + 1) * 127.5).round().int().reshape(3, 7)
    assert all(sorted(epoch.tolist()) == list(range(7)) for epoch in numbers)
    assert len({tuple(epoch.tolist()) for epoch in numbers}) == 3


def test_about_half_of_the_images_are_mirrored_and_none_without_flip():
    pixels = torch.zeros(100, 3, 2, 2, dtype=torch.uint8)
    pixels[..., 1] = 255
    mirrored = batch_at(pixels, 0, 100, seed=0)[:, 0, 0, 0] > 0
    assert 30 < mirrored.sum() < 70
    assert (batch_at(pixels, 0, 100, seed=0, flip=False)[:, 0, 0, 0] < 0).all()


def test_images_are_decoded_once_and_again_only_when_the_source_changes(tmp_path, monkeypatch):
    source, folder = write_discs(tmp_path / "discs", 3), tmp_path / "run"
    (source / "bad.png").write_bytes(b"no")
    settings = BeganSettings(size=32)
    first = cache.cached_images(source, folder, settings)
    reads: list[object] = []

    def counted(*arguments):
        reads.append(arguments)
        return load_images(*arguments)

    monkeypatch.setattr(cache, "load_images", counted)
    again = cache.cached_images(source, folder, settings)
    assert torch.equal(first.pixels, again.pixels)
    assert again.skipped == first.skipped
    assert (folder / "skipped.txt").read_text().startswith("bad.png")
    assert not reads
    write_discs(source, 4)
    assert len(cache.cached_images(source, folder, settings).pixels) == 4
    assert len(reads) == 1


def test_a_compressed_tar_is_read_too(tmp_path):
    folder = write_discs(tmp_path / "discs", 2)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, "discs")
    (tmp_path / "discs.tar.gz").write_bytes(buffer.getvalue())
    assert len(load_images(tmp_path / "discs.tar.gz", 32).pixels) == 2
