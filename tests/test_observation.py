"""Observations: the noise model, and files from strangers."""

import io
import json
import math
import os
import zipfile

import numpy as np
import pytest
import torch

import iagan
from helpers import as_users_run_it
from iagan.errors import ObservationFileError, OutputError, SettingError, ShapeError
from iagan.images import astronaut, crop_square
from iagan.operators import (
    BicubicDownsample,
    Gaussian,
    Identity,
    Inpaint,
    SubsampledFourier,
    UniformBlur,
)

SHAPE = (3, 8, 6)
OPERATORS = [
    BicubicDownsample(SHAPE, scale=2),
    SubsampledFourier.random(SHAPE, 0.5, seed=0),
    Gaussian.from_ratio(SHAPE, 0.3, seed=0),
    Inpaint.random(SHAPE, 0.5, seed=0),
]
ids = [type(operator).__name__ for operator in OPERATORS]


def _rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("operator", OPERATORS, ids=ids)
def test_the_noise_has_its_std_on_every_real_number(operator):
    """2,000 images: the std of real and of imaginary parts, and the noise floor, within 3 %."""
    x = torch.full((2000, *SHAPE), 0.5)
    observation = iagan.observe(x, operator, 0.1, _rng())
    e = observation.y - operator(x)
    parts = torch.view_as_real(e).unbind(-1) if e.is_complex() else (e,)
    for part in parts:
        assert float(part.std()) == pytest.approx(0.1, rel=0.03)
        assert abs(float(part.mean())) < 0.003
    norms = sum(part.flatten(1).square().sum(1) for part in parts).sqrt()
    assert float(norms.mean()) == pytest.approx(float(observation.noise_floor[0]), rel=0.03)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_arrays_are_observed_and_kept_as_tensors_of_their_dtype(dtype):
    x = np.random.default_rng(0).random((2, *SHAPE)).astype(dtype)
    observation = iagan.observe(x, OPERATORS[0], 0.1, _rng())
    expected = iagan.observe(torch.from_numpy(x), OPERATORS[0], 0.1, _rng())
    assert torch.equal(observation.y, expected.y)
    with as_users_run_it():
        given = iagan.Observation(expected.y.numpy(), OPERATORS[0])
    assert torch.equal(given.y, expected.y)
    assert given.y.dtype == torch.from_numpy(x).dtype


def test_what_is_neither_an_operator_nor_an_array_is_refused():
    y = torch.zeros(1, *SHAPE)
    with as_users_run_it():
        with pytest.raises(SettingError, match="expects an operator.*got str"):
            iagan.Observation(y, "denoise")
        with pytest.raises(SettingError, match="tensor or a NumPy array of numbers; got list"):
            iagan.Observation([1.0], Identity(SHAPE))
        with pytest.raises(SettingError, match="got an array of object"):
            iagan.observe(np.array([None]), Identity(SHAPE))
        with pytest.raises(SettingError, match="finite measurements"):
            iagan.Observation(np.full((1, *SHAPE), np.nan), Identity(SHAPE))


@pytest.mark.parametrize("noise_255", [2, 10, 40])
def test_noise_is_estimated_from_blurred_pictures(noise_255):
    """Within 4 % of the σ that was added, and of two images each its own."""
    photo = crop_square(astronaut(), None, None, (64, 64))
    blurred = UniformBlur((3, 64, 64), size=9)(photo.expand(2, -1, -1, -1))
    noise = torch.randn(blurred.shape, generator=_rng()) * noise_255 / 255
    noise[1] *= 2
    sigma = iagan.estimate_noise_std(blurred + noise) * 255
    assert sigma.tolist() == pytest.approx([noise_255, 2 * noise_255], rel=0.04)
    assert float(iagan.estimate_noise_std(blurred)[0]) < 0.5 / 255
    sharp = iagan.estimate_noise_std(photo + noise[:1]) * 255
    assert noise_255 < float(sharp[0]) < noise_255 + 5, "its own detail is taken for noise"


def test_noise_of_too_small_a_picture_is_not_estimated():
    with pytest.raises(ShapeError, match="at least 3×3 pixels; got 8×2"):
        iagan.estimate_noise_std(torch.zeros(1, 3, 2, 8))


@pytest.mark.parametrize("operator", OPERATORS, ids=ids)
def test_a_batch_gets_the_noise_of_its_images_one_by_one(operator):
    x = torch.rand(3, *SHAPE, generator=_rng(1))
    together, rng = iagan.observe(x, operator, 0.2, _rng(5)).y, _rng(5)
    alone = torch.cat([iagan.observe(one[None], operator, 0.2, rng).y for one in x])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("operator", OPERATORS, ids=ids)
def test_a_file_holds_the_whole_observation(operator, tmp_path):
    x = torch.rand(2, *SHAPE, generator=_rng())
    before = iagan.Observation(operator(x), operator, 0.04, crop=(3, 4, 50))
    iagan.save_observation(before, tmp_path / "y.npz")
    after = iagan.load_observation(tmp_path / "y.npz")
    assert torch.equal(after.y, before.y)
    assert after.y.dtype == before.y.dtype
    assert (after.sigma.tolist(), after.crop) == ([0.04, 0.04], (3, 4, 50))
    torch.testing.assert_close(after.operator(x), operator(x), rtol=0, atol=0)


def test_the_matrix_of_random_projections_is_not_in_the_file(tmp_path):
    operator = Gaussian.from_ratio((3, 32, 32), 0.5, seed=3)
    observation = iagan.observe(torch.rand(1, 3, 32, 32, generator=_rng()), operator)
    iagan.save_observation(observation, tmp_path / "y.npz")
    assert (tmp_path / "y.npz").stat().st_size < 20_000


def _write(path, **changes):
    """An .npz as save_observation writes it, with parts replaced, or dropped where None."""
    about = {
        "format": "iagan-observation",
        "version": 1,
        "operator": Identity(SHAPE).spec(),
        "noise_std": 0.0,
        "crop": None,
    }
    about |= changes.pop("about", {})
    text = changes.pop("about_text", json.dumps(about))
    arrays = {"y": np.zeros((1, *SHAPE), np.float32), "about": np.array(text)}
    arrays |= changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


class _Code:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y": None}, "lacks y"),
        ({"about": {"format": "theirs"}}, "format"),
        ({"about": {"version": 9}}, "version"),
        ({"about": {"operator": {"operator": "magic"}}}, "magic"),
        ({"about": {"operator": 3}}, "operator"),
        ({"about": {"noise_std": -1}}, "noise_std"),
        ({"about": {"noise_std": "loud"}}, "malformed"),
        ({"about": {"noise_std": 10**400}}, "malformed"),
        ({"about": {"crop": [1]}}, "malformed"),
        ({"about": {"crop": [float("inf"), 0, 0]}}, "malformed"),
        ({"y": np.zeros((1, *SHAPE), np.float16)}, "float16"),
        ({"y": np.zeros((0, *SHAPE), np.float32)}, r"\(0, 3, 8, 6\)"),
        ({"y": np.zeros((1, 3, 8, 7), np.float32)}, r"\(batch, 3, 8, 6\)"),
        ({"y": np.zeros((1, *SHAPE), np.complex64)}, "complex"),
        ({"y": np.zeros((1, *SHAPE), np.int32)}, "int32"),
        ({"y": np.full((1, *SHAPE), np.nan, np.float32)}, "NaN"),
        ({"y": np.array([_Code()], dtype=object)}, "array of object"),
    ],
)
def test_files_that_are_not_ours_are_refused(changes, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "y.npz"
    _write(path, **changes)
    with pytest.raises(ObservationFileError, match=words) as caught:
        iagan.load_observation(path)
    assert "\n" not in str(caught.value)
    assert "y.npz" in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_files_that_are_no_archives_are_refused(tmp_path):
    whole = tmp_path / "whole.npz"
    _write(whole)
    cut, junk, text = (tmp_path / name for name in ("cut.npz", "junk.npz", "text.npz"))
    cut.write_bytes(whole.read_bytes()[:300])
    junk.write_bytes(b"")
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("y.npy", "not an array")
        archive.writestr("about.npy", "neither")
    for path in (cut, junk, text, tmp_path / "missing.npz"):
        with pytest.raises(ObservationFileError, match=path.name) as caught:
            iagan.load_observation(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("depth", [300, 900, 100_000])
def test_a_deeply_nested_spec_is_refused(depth, tmp_path):
    text = json.dumps({"format": "iagan-observation", "version": 1, "noise_std": 0, "crop": None})
    shape = "[" * depth + "]" * depth
    text = f'{text[:-1]}, "operator": {{"operator": "denoise", "image_shape": {shape}}}}}'
    _write(tmp_path / "y.npz", about_text=text)
    with pytest.raises(ObservationFileError, match=r"y\.npz"):
        iagan.load_observation(tmp_path / "y.npz")


def _mark_encrypted(archive):
    """Set the flag of encryption in the first member's two headers."""
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.find(signature) + flags] |= 1


def test_an_encrypted_archive_is_refused(tmp_path):
    path = tmp_path / "y.npz"
    _write(path)
    archive = bytearray(path.read_bytes())
    _mark_encrypted(archive)
    path.write_bytes(archive)
    with pytest.raises(ObservationFileError, match="encrypted"):
        iagan.load_observation(path)


def test_a_damaged_archive_is_refused_in_one_line(tmp_path):
    """400 copies of a compressed file with one to three bytes changed at random."""
    path, rng = tmp_path / "y.npz", np.random.default_rng(0)
    _write(tmp_path / "plain.npz")
    with np.load(tmp_path / "plain.npz") as arrays:
        np.savez_compressed(path, **arrays)
    assert iagan.load_observation(path).y.shape == (1, *SHAPE)
    whole, refused = path.read_bytes(), 0
    for _ in range(400):
        broken = bytearray(whole)
        for place in rng.integers(len(whole), size=rng.integers(1, 4)):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        try:
            iagan.load_observation(path)
        except ObservationFileError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 200


def test_an_array_that_declares_to_be_huge_is_refused(tmp_path):
    """40 TB in the header, nothing behind it."""
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**13,)}
    np.lib.format.write_array_header_1_0(stream, header)
    _write(tmp_path / "y.npz")
    with zipfile.ZipFile(tmp_path / "y.npz") as archive:
        about = archive.read("about.npy")
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("y.npy", stream.getvalue())
        archive.writestr("about.npy", about)
    with pytest.raises(ObservationFileError, match=r"y\.npz"):
        iagan.load_observation(tmp_path / "y.npz")


def test_every_image_may_have_noise_of_its_own(tmp_path):
    operator = Identity(SHAPE)
    y = torch.zeros(3, *SHAPE)
    observation = iagan.Observation(y, operator, [0.0, 0.1, 0.2])
    assert observation.is_noisy
    assert not observation[:1].is_noisy
    floor = math.sqrt(operator.m)
    assert observation.noise_floor.tolist() == pytest.approx([0, 0.1 * floor, 0.2 * floor])
    assert observation[[2, 0]].sigma.tolist() == [0.2, 0.0]
    iagan.save_observation(observation, tmp_path / "y.npz")
    assert iagan.load_observation(tmp_path / "y.npz").sigma.tolist() == [0.0, 0.1, 0.2]
    with pytest.raises(SettingError, match="one number or 3, one per image"):
        iagan.Observation(y, operator, [0.1, 0.2])


def test_wrong_values_are_refused_in_words(tmp_path):
    operator = Identity(SHAPE)
    y, broken = torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE)
    broken[0, 1, 2, 3] = torch.inf
    with pytest.raises(SettingError, match="NaN or Inf in 1"):
        iagan.Observation(broken, operator)
    with pytest.raises(SettingError, match="noise_std"):
        iagan.Observation(y, operator, -0.1)
    with pytest.raises(SettingError, match="rng"):
        iagan.observe(y, operator, 0.1)
    with pytest.raises(ShapeError, match="Resize or crop"):
        iagan.observe(torch.zeros(1, 3, 4, 4), operator)
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        iagan.save_observation(iagan.Observation(y, operator), blocker / "y.npz")


@pytest.mark.parametrize("scale", [255.0, -1.0])
def test_an_image_of_another_range_is_refused(scale):
    """0…255, or [-1, 1]: σ = 10/255 would mean something else."""
    x = scale * torch.ones(1, 3, 8, 8)
    with pytest.raises(SettingError, match=r"image in \[0, 1\]; got values"):
        iagan.observe(x, iagan.operators.Identity((3, 8, 8)))


def test_each_image_gets_noise_of_its_own_strength():
    x = torch.full((2, 3, 64, 64), 0.5)
    rng = torch.Generator().manual_seed(0)
    y = iagan.observe(x, iagan.operators.Identity((3, 64, 64)), [0.1, 0.2], rng)
    assert (y.y - x).flatten(1).std(1).tolist() == pytest.approx([0.1, 0.2], rel=0.02)
    assert y.sigma.tolist() == [0.1, 0.2]
    with as_users_run_it(), pytest.raises(SettingError, match="got int"):
        iagan.observe(x, iagan.operators.Identity((3, 64, 64)), 0.1, 0)
