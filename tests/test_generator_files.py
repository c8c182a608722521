"""Files that are no priors: refused in one line, and nothing in them is ever run."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from iagan.errors import CheckpointError, OutputError
from iagan.priors import About, Began, Crop, Generator, UniformLatent, load_prior, save_prior

KEYS = [f"l{i}" for i in range(10)]


def began_state(n=4, latent=3):
    """A small 64-px BEGAN in anantzoid's keys."""
    rng = torch.Generator().manual_seed(0)
    shapes = {"l0": (64 * n, latent), **{key: (n, n, 3, 3) for key in KEYS[1:]}, "l9": (3, n, 3, 3)}
    state = {f"{key}.weight": torch.randn(shapes[key], generator=rng) * 0.2 for key in KEYS}
    return state | {f"{key}.bias": torch.zeros(shapes[key][0]) for key in KEYS}


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_prior(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def write(path, content):
    path.write_bytes(content)
    return path


def torch_bytes(content, legacy=False):
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def npz_bytes(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def stored_bytes(tmp_path):
    torch.manual_seed(0)
    generator = Generator(
        Began(4, 32, 3),
        UniformLatent((3,)),
        about=About("tiny", "began", crop=Crop((178, 218), (89, 121), 112)),
    )
    save_prior(generator, tmp_path / "good.safetensors")
    return (tmp_path / "good.safetensors").read_bytes()


# -- no checkpoint at all ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<html>404: not found</html>", "not a checkpoint"),
        (b"{", "not a checkpoint"),
        (b"PK\x03\x04", "truncated or damaged"),
        (b"\x80\x04", "truncated or damaged"),
        (b"\x80\x04N.", "got a NoneType"),
        (b"\xff" * 40, "not a checkpoint"),
        (b"\xff" * 8 + b"{" * 8, "above the limit"),
    ],
)
def test_files_of_another_kind(content, words, tmp_path):
    assert words in refusal(write(tmp_path / "prior.pth", content))


def test_a_folder_is_no_checkpoint(tmp_path):
    assert "Cannot read" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["model.ckpt-97000.index", "model.ckpt-97000.data-00000-of-00001", "model.ckpt", "checkpoint"],
)
def test_tensorflow_checkpoints_say_how_to_convert(name, tmp_path):
    assert "numpy.savez" in refusal(write(tmp_path / name, b"\x00\x05model"))


def container(kind, tmp_path):
    if kind == "safetensors":
        return stored_bytes(tmp_path)
    if kind == "npz":
        return npz_bytes(**{"G/Conv/weights": np.ones((3, 3, 4, 4))})
    if kind == "pickle":
        return pickle.dumps({"variables": [np.ones(30)]})
    return torch_bytes(began_state(), legacy=kind == "legacy")


KINDS = ["zip", "legacy", "npz", "pickle", "safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_refused_wherever_they_end(kind, tmp_path):
    content = container(kind, tmp_path)
    for share in (0.01, 0.2, 0.5, 0.9, 0.999):
        refusal(write(tmp_path / "cut", content[: int(share * len(content))]))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_load_or_are_refused_in_words(kind, tmp_path):
    """Bytes changed at random: no other exception than ours may come out."""
    content = container(kind, tmp_path)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 3000), 8):
            damaged[place] = rng.integers(256)
        try:
            load_prior(write(tmp_path / "damaged", bytes(damaged)))
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 0


# -- code -------------------------------------------------------------------------------------


class Runs:
    """Pickles as a call, which unpickling carries out."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile(place, attack):
    if place == "pickle":
        return pickle.dumps(attack)
    if place == "protocol 0":
        return pickle.dumps(attack, protocol=0)
    if place == "nested":
        return pickle.dumps([{"variables": [("a", np.ones(2)), ("b", attack)]}] * 3, protocol=2)
    if place == "npz":
        return npz_bytes(**{"G/Conv/weights": np.array([attack], dtype=object)})
    return torch_bytes({"l0.weight": torch.ones(2), "config": attack}, legacy=place == "legacy")


@pytest.mark.parametrize("place", ["pickle", "protocol 0", "nested", "npz", "zip", "legacy"])
@pytest.mark.parametrize("function", [os.system, eval, __import__, os.mkdir])
def test_code_in_a_file_is_refused_and_not_run(function, place, tmp_path):
    victim = tmp_path / "ran"
    argument = {
        os.system: f"touch {victim}",
        eval: f"open({str(victim)!r}, 'w')",
        __import__: "antigravity",
        os.mkdir: str(victim),
    }[function]
    content = hostile(place, Runs(function, argument))
    message = refusal(write(tmp_path / "evil.pth", content))
    assert not victim.exists()
    if place in ("pickle", "nested", "zip", "legacy"):
        assert function.__name__ in message


def test_a_configuration_class_does_not_open_the_door_to_others(tmp_path):
    """`BaseConfig` is replaced by a stand-in; a call beside it is refused as ever."""
    source = f"cmodels.utils.config\nBaseConfig\n(cos\nsystem\n(S'touch {tmp_path}/ran'\ntRtR."
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + source.encode())
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    message = refusal(write(tmp_path / "zoo.pth", stream.getvalue()))
    assert "system" in message
    assert not (tmp_path / "ran").exists()


# -- weights that do not fit ------------------------------------------------------------------


def test_an_unknown_layout_lists_the_known_ones_and_the_keys(tmp_path):
    content = torch_bytes({"encoder.weight": torch.ones(2, 2)})
    message = refusal(write(tmp_path / "vae.pth", content))
    assert "encoder.weight" in message
    assert "l0.weight" in message
    assert "features.0.conv.weight" in message


def test_the_closest_layout_says_what_is_missing_and_surplus(tmp_path):
    state = began_state()
    del state["l4.bias"]
    message = refusal(write(tmp_path / "a.pth", torch_bytes(state | {"l44.bias": torch.ones(3)})))
    assert "anantzoid" in message
    assert "missing l4.bias; unexpected l44.bias" in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("l3.weight", torch.ones(4, 4, 3, 5), "l3.weight expects shape (4, 4, 3, 3)"),
        ("l3.weight", torch.ones(4, 36), "l3.weight expects shape (4, 4, 3, 3)"),
        ("l0.weight", torch.ones(4), "inconsistent shapes"),
        ("l0.weight", torch.ones(250, 3), "l0.weight expects shape (256, 3)"),
        ("l9.weight", torch.ones(3, 0, 3, 3), "channels as an integer from 1"),
        ("l8.bias", torch.full((4,), float("nan")), "l8.bias contains NaN or Inf"),
        ("l8.bias", torch.full((4,), float("inf")), "l8.bias contains NaN or Inf"),
        ("l8.bias", torch.ones(4, dtype=torch.int64), "dense floating-point"),
        ("l8.bias", 7, "'l8.bias' is a int"),
    ],
)
def test_weights_of_another_shape_or_kind(key, value, words, tmp_path):
    content = torch_bytes(began_state() | {key: value})
    assert words in refusal(write(tmp_path / "a.pth", content))


@pytest.mark.parametrize("content", [[torch.ones(2)], {"netG": {"a": torch.ones(1)}}, {}])
def test_torch_files_that_hold_no_state_dict(content, tmp_path):
    refusal(write(tmp_path / "a.pth", torch_bytes(content)))


def test_arrays_of_objects_are_not_taken_for_weights(tmp_path):
    refusal(write(tmp_path / "a.npz", npz_bytes(**{"G/Conv/weights": np.array(["text"])})))


# -- our own format ---------------------------------------------------------------------------


def rewritten(tmp_path, **changes):
    """A good prior with some metadata replaced; None takes an entry away."""
    content = stored_bytes(tmp_path)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])["__metadata__"] | changes
    header = {key: value for key, value in header.items() if value is not None}
    tensors = safetensors.torch.load(content)
    return write(tmp_path / "p.safetensors", safetensors.torch.save(tensors, header))


def settings(**changes):
    return json.dumps({"channels": 4, "size": 32, "latent": 3, "output": "tanh"} | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "pt"}, "expects the metadata format 'iagan-prior'"),
        ({"version": "2"}, "version '1'"),
        ({"architecture": "vae"}, "expects the network 'vae'; known: began, pggan, tapered"),
        ({"architecture": "pggan"}, "invalid settings"),
        ({"license": None}, "lacks 'license'"),
        ({"settings": None}, "lacks 'settings'"),
        ({"settings": "{"}, "expects a JSON object as 'settings' in its metadata"),
        ({"settings": "null"}, "expects a JSON object as 'settings' in its metadata"),
        ({"settings": '{"channels": "4"}'}, "invalid settings"),
        ({"settings": '{"depth": 4}'}, "invalid settings"),
        ({"settings": '{"channels": 4}'}, "expects all settings of Began"),
        ({"settings": settings(channels=5)}, "given the other weights"),
        ({"settings": settings(size=64)}, "missing convs.6.weight"),
        ({"settings": settings(output="relu")}, "one of 'tanh', 'linear', 'elu'"),
        ({"settings": settings(size=32.0)}, "invalid settings"),
        ({"value_range": "[1, 0]"}, "low < high"),
        ({"value_range": "[0, 1, 2]"}, "do not match"),
        ({"value_range": "[NaN, 1]"}, "low < high"),
        ({"latent": '{"law": "cauchy", "shape": [3]}'}, "do not match"),
        ({"latent": '{"law": "uniform", "shape": [4]}'}, "do not match"),
        ({"latent": '{"law": "uniform", "shape": "3"}'}, "lists of positive integers"),
        ({"latent": '{"law": "uniform"}'}, "do not match"),
        ({"crop": '{"side": 3}'}, "do not match"),
        ({"crop": '{"photo_size": [1, 2], "center": [1, 1], "side": "big"}'}, "positive integers"),
        ({"crop": '{"photo_size": [1], "center": [1, 1], "side": 1}'}, "do not match"),
        ({"crop": "[" * 5000}, "expects a JSON object as 'crop' in its metadata"),
    ],
)
def test_metadata_that_are_wrong_are_named(changes, words, tmp_path):
    assert words in refusal(rewritten(tmp_path, **changes))


def test_a_safetensors_file_of_another_program_says_what_to_do(tmp_path):
    content = safetensors.torch.save({"weight": torch.ones(2)})
    assert "iagan.save_prior" in refusal(write(tmp_path / "lora.safetensors", content))


def test_a_prior_that_cannot_be_written_leaves_nothing(tmp_path):
    write(tmp_path / "file", b"here first")
    generator = Generator(Began(4, 32, 3), UniformLatent((3,)))
    with pytest.raises(OutputError):
        save_prior(generator, tmp_path / "file" / "prior.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"here first"
