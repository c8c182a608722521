"""Files of strangers: refused in one line, within limits of memory and time."""

from __future__ import annotations

import dataclasses as dc
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib

import pytest
import torch
from safetensors.torch import load, save

import forged
from forged import tarred, zipped
from iagan.errors import (
    Cancelled,
    CheckpointError,
    ImageFileError,
    Interrupted,
    MissingDependencyError,
    shown,
)
from iagan.images import save_image
from iagan.limits import MIB, Limits
from iagan.train import BeganSettings, load_images, train
from iagan.train.cache import KEY, cached_images
from iagan.train.data import _chunks
from iagan.train.members import members

TINY = BeganSettings(size=32, width=4, latent=4, batch=2, steps=2)


def png(width=8, height=8, level=9):
    """A black grey PNG of any size, without ever holding its pixels."""
    packer = zlib.compressobj(level)
    row = bytes(width + 1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return forged.png((width, height, 8, 0, 0, 0, 0), (b"IDAT", body))


def written(path, data):
    path.write_bytes(data)
    return path


def test_what_a_file_says_is_quoted_on_one_plain_line_and_cut():
    assert shown("a\nb\x1b]0;\u202e\udcff") == "a b\\x1b]0;\\u202e\\udcff"
    assert shown("é" * 300) == "é" * 199 + "…"
    assert shown("é" * 200) == "é" * 200


def test_an_error_is_one_line_whatever_it_quotes():
    """Names of files, for example, which nobody checks; it pickles, as jobs need."""
    for kind in (CheckpointError, MissingDependencyError, Cancelled, Interrupted):
        error = pickle.loads(pickle.dumps(kind("a\n\x1b]0;x.pth" + "é" * 1000)))
        assert type(error) is kind
        assert str(error) == "a \\x1b]0;x.pth" + "é" * 1000


# -- training images --------------------------------------------------------------------------


def broken_archives():
    noise = os.urandom(20_000)
    pictures = [("a.png", png()), ("b.png", png()), ("c.png", noise)]
    for kind in ("gz", "bz2", "xz"):
        whole = tarred(pictures, f"w:{kind}")
        yield f"cut.tar.{kind}", whole[:8000]
        damaged = bytearray(whole)
        damaged[60:80] = bytes(20)
        yield f"damaged.tar.{kind}", bytes(damaged)
    overlapping = bytearray(zipped([("a.png", bytes(900)), ("b.png", bytes(900))]))
    second = overlapping.rindex(b"PK\1\2")
    overlapping[second + 20 : second + 24] = struct.pack("<I", 5000)
    yield "overlap.zip", bytes(overlapping)


@pytest.mark.parametrize(("name", "data"), list(broken_archives()))
def test_a_broken_archive_is_refused_in_one_line(tmp_path, name, data):
    path = written(tmp_path / name, data)
    with pytest.raises(ImageFileError, match="Copy or pack it again") as error:
        load_images(path, 8)
    assert "\n" not in str(error.value)


def test_members_that_cannot_be_read_leave_the_others(tmp_path):
    """Without a name; compressed by LZMA, whose output has no bound; of a wrong length."""
    good = [(f"{n}.png", png()) for n in "ab"]
    no_name = written(tmp_path / "name.zip", zipped([("?", b"x"), *good]).replace(b"?", b"\0"))
    assert len(load_images(no_name, 8).pixels) == 2
    stream = io.BytesIO(zipped(good))
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("c.png", bytes(500))
    assert load_images(written(tmp_path / "lzma.zip", stream.getvalue()), 8).skipped == (
        "c.png: compressed by a method other than deflate",
    )
    bomb = zipped([*good, ("c.png", bytes(10**6))], zipfile.ZIP_DEFLATED)
    lying = bytearray(bomb)
    lying[bomb.rindex(b"PK\1\2") + 24 : bomb.rindex(b"PK\1\2") + 28] = struct.pack("<I", 100)
    (line,) = load_images(written(tmp_path / "lying.zip", bytes(lying)), 8).skipped
    assert line.startswith("c.png: ")


def test_a_name_that_no_encoding_can_write_is_listed_all_the_same(tmp_path):
    files = [("a.png", png()), ("b.png", png()), ("\udcff\n.png", b"none")]
    source = written(tmp_path / "a.tar", tarred(files))
    images = cached_images(source, tmp_path / "run", TINY)
    assert len(images.pixels) == 2
    assert (tmp_path / "run" / "skipped.txt").read_text("utf-8").startswith("\\udcff .png is not")
    assert cached_images(source, tmp_path / "run", TINY).skipped == images.skipped


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    for name in ("a", "b"):
        written(tmp_path / f"{name}.png", png())
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root, who runs some tests, may read all
    assert load_images(tmp_path, 8).skipped == (
        "closed: the folder cannot be read: Permission denied",
    )


def test_members_beyond_a_limit_are_listed_and_too_many_are_refused(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    files = [(f"{n}.png", png()) for n in "abc"] + [("d.png", png(60, 60))]
    for name, data in files:
        written(folder / name, data)
    for source in (
        folder,
        written(tmp_path / "a.zip", zipped(files)),
        written(tmp_path / "a.tar", tarred(files)),
    ):
        (line,) = load_images(source, 8, limits=Limits(pixels=1000)).skipped
        assert line == "d.png: 3600 pixels, above the limit of 1000"
        with pytest.raises(ImageFileError, match="limit of 3|at most 3"):
            load_images(source, 8, limits=Limits(entries=3))


def test_the_limits_reach_the_decoder(tmp_path):
    """It refuses a file of more than 8 bytes a pixel: for 64 pixels, one with 600 behind them."""
    files = [("a.png", png()), ("b.png", png()), ("c.png", png() + bytes(600))]
    source = written(tmp_path / "a.zip", zipped(files))
    (line,) = load_images(source, 8, limits=Limits(pixels=64)).skipped
    assert line.startswith("c.png has more than 64 pixels")
    assert load_images(source, 8).skipped == ()


def test_no_more_is_decoded_at_once_than_one_file_may_take(tmp_path):
    source = written(tmp_path / "a.zip", zipped([(f"{n}.png", png(30, 30)) for n in range(9)]))
    for limits in (Limits(pixels=2000), Limits(member_bytes=2 * len(png(30, 30)))):
        chunks = list(_chunks(members(source, limits), limits))
        assert [len(chunk) for chunk in chunks] == [2, 2, 2, 2, 1]


def test_a_header_of_a_gigabyte_is_not_read(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**30
    packed = gzip.compress(header.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(ImageFileError, match="a header of 1073741824 bytes"):
        load_images(written(tmp_path / "a.tar.gz", packed), 8)


# -- a training run's folder ------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "images").mkdir()
    for name in "ab":
        save_image(torch.rand(1, 3, 8, 8), folder / "images" / f"{name}.png")
    train(TINY, folder / "images", folder / "p.safetensors")
    return folder


def split(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length])["__metadata__"], load(data)


CACHES = {
    "no JSON": lambda note, pixels: ("{", pixels),
    "nested JSON": lambda note, pixels: ("[" * 100_000, pixels),
    "a list": lambda note, pixels: ("[1]", pixels),
    "another shape": lambda note, pixels: (note, pixels[:, :2].contiguous()),
    "one number": lambda note, pixels: (note, pixels.sum()),
    "another type": lambda note, pixels: (note, pixels.float()),
}


@pytest.mark.parametrize("kind", CACHES)
def test_a_damaged_cache_is_made_again(run, kind):
    cache = run / "p.train" / "images.safetensors"
    metadata, tensors = split(cache)
    note, pixels = CACHES[kind](metadata[KEY], tensors["pixels"])
    cache.write_bytes(save({"pixels": pixels}, {KEY: note}))
    again = cached_images(run / "images", run / "p.train", TINY)
    assert torch.equal(again.pixels, load_images(run / "images", 32).pixels)
    assert split(cache)[0] == metadata


STATES = {
    "step": [None, "1", 1.5, -1, 10**400, True],
    "k": [None, [], "1", float("nan"), 10**400],
    "sums": [None, [1, 2], [1, 2, "3"], {"a": 1}],
    "windows": [None, 3, [[1, 2]], [[1, 2, None]]],
    "validation": [None, [1], [[1, 2, 3]], [["1", 2]]],
    "settings": [None, {}, {"method": []}, {"method": "began", "crop": 3}],
    "digest": [None, 3],
}


@pytest.mark.parametrize(
    ("field", "value"), [(f, v) for f in STATES for v in STATES[f]], ids=lambda v: f"{v!r:.20}"
)
def test_a_checkpoint_with_a_value_of_another_type_is_refused(run, field, value):
    refuse_checkpoint(run, lambda state, tensors: state.update({field: value}))


TENSORS = {
    "adam.generator.0.step": torch.zeros(3),
    "adam.generator.0.exp_avg": torch.zeros(1),
    "generator.linear.weight": torch.zeros(2, 2),
    "code.mean": torch.zeros(3),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_checkpoint_with_a_tensor_of_another_shape_is_refused(run, name):
    refuse_checkpoint(run, lambda state, tensors: tensors.update({name: TENSORS[name]}))


def test_a_checkpoint_larger_than_its_run_is_refused_before_it_is_read(run):
    huge = torch.zeros(20 * MIB, dtype=torch.uint8)
    message = refuse_checkpoint(run, lambda state, tensors: tensors.update(huge=huge))
    assert "takes at most" in message


def test_a_run_without_held_out_images_goes_on(tmp_path, run):
    """Its validation error is none; older checkpoints call it NaN."""
    settings = dc.replace(TINY, law="normal", autoencoder_steps=2)
    output, images = tmp_path / "p.safetensors", run / "images"
    train(settings, images, output)
    path = tmp_path / "p.train" / "checkpoint.safetensors"
    metadata, tensors = split(path)
    state = json.loads(metadata["iagan_training"])
    assert state["validation"] == []
    state["validation"] = [[2, float("nan")]]
    path.write_bytes(save(tensors, {"iagan_training": json.dumps(state)}))
    train(settings, images, output, resume=True)


def refuse_checkpoint(run, change):
    path = run / "p.train" / "checkpoint.safetensors"
    before = path.read_bytes()
    metadata, tensors = split(path)
    state = json.loads(metadata["iagan_training"])
    change(state, tensors)
    try:
        path.write_bytes(save(tensors, {"iagan_training": json.dumps(state)}))
        with pytest.raises(CheckpointError, match="Delete it to start again") as error:
            train(TINY, run / "images", run / "p.safetensors", resume=True)
    finally:
        path.write_bytes(before)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    return str(error.value)
