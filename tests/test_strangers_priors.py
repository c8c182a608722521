"""Priors of strangers: what would hang, fill the memory or break in Python's words is refused."""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save

from forged import zipped
from iagan.errors import CheckpointError, FileError
from iagan.limits import MIB, Limits
from iagan.priors import Began, Generator, UniformLatent, load_prior, save_prior
from iagan.priors.weights import catalog
from iagan.priors.weights.pickles import check_pickle
from published import began_arrays, began_state, latents

MODULES = ["l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9"]
BOMB = b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * 40 + b"K\x01s."
"""A pickled dict whose key is a pair of pairs of pairs …, the same ones: 2^40 hashes."""


def state():
    return began_state(MODULES, began_arrays(64))


def torch_bytes(content, legacy=False):
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def torch_zip(program, *others):
    """What torch takes for its file, with this pickle."""
    files = [("archive/data.pkl", program), ("archive/version", "3\n"), *others]
    return zipped(files, zipfile.ZIP_DEFLATED)


def own(**metadata):
    """A prior of our own format, its metadata changed."""
    network = Began(4, 32, 3)
    header = {
        "format": "iagan-prior",
        "version": "1",
        "name": "x",
        "architecture": "began",
        "license": "",
        "source": "",
        "settings": json.dumps(network.settings),
        "value_range": "[-1, 1]",
        "latent": json.dumps({"law": "uniform", "shape": [3]}),
        "crop": "null",
    }
    return save(network.state_dict(), {**header, **metadata})


def declaring(archive, size):
    """The archive with another size, uncompressed, of its last member."""
    place = archive.rindex(b"PK\1\2") + 24
    return archive[:place] + struct.pack("<I", size) + archive[place + 4 :]


def claiming(shape):
    """An array of 4 bytes that claims this shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(4)
    return zipped([("G/x.npy", array)])


def many_tensors(count):
    """A header of `count` empty tensors."""
    entry = '"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = ("{" + ",".join(entry % i for i in range(count)) + "}").encode()
    return struct.pack("<Q", len(header)) + header


def wide_pggan():
    """Weights of 600 kB whose last features, 4096 channels of 1024×1024, would take 16 GiB."""
    channels = [1] * 17 + [4096]
    settings = json.dumps({"channels": channels, "latent": 1, "pixel_bias": False})
    return own(architecture="pggan", settings=settings)


def expanded():
    weights = state()
    weights["l1.weight"] = torch.zeros(1).expand(4096, 4096, 16, 16)
    return torch_bytes(weights)


def with_memo(index):
    return b"\x80\x04Nr" + struct.pack("<I", index) + b"."


ZEROS = declaring(zipped([("G/x.npy", bytes(MIB))], zipfile.ZIP_DEFLATED), 600 * MIB)
NASTY = {
    "a memo of 2 GiB": (with_memo(2**27 - 1), "memo"),
    "a memo of 64 GiB": (with_memo(2**32 - 1), "memo"),
    "a key of pairs": (BOMB, "parts"),
    "a key of pairs in torch's file": (torch_zip(BOMB), "parts"),
    "the same, in capitals": (torch_zip(b"N.", ("archive/DATA.pkl", BOMB)), "parts"),
    "a set of pairs": (b"\x80\x04\x8f(K\x01K\x01\x86\x90.", "not text"),
    "colliding keys": (b"\x80\x02}(\x8a\x05\x00\x00\x00\x00\x01Nu.", "not text"),
    "too many instructions": (b"\x80\x02" + b"N0" * 600_000 + b"N.", "instructions"),
    "a huge integer": (b"\x80\x02\x8b" + struct.pack("<I", 10**6) + b"\x01" * 10**6 + b".", "bits"),
    "expanded weights": (expanded(), "above the limit"),
    "deflated weights": (
        declaring(torch_zip(b"}.", ("archive/data/0", bytes(MIB))), 600 * MIB),
        "above the limit",
    ),
    "an array of zeros": (ZEROS, "above the limit"),
    "an array of 8 GB, it says": (claiming((2 * 10**9,)), "declares 8000000000 bytes"),
    "many tensors": (many_tensors(200_000), "above the limit"),
    "some too many": (many_tensors(20_000), "above the limit"),
    "latents of 2 GiB": (own(latent='{"law": "normal", "shape": [600000000]}'), "above the limit"),
    "latents of 4 TB": (own(latent='{"law": "normal", "shape": [1000000000000]}'), "above the"),
    "features of 16 GiB": (wide_pggan(), "features"),
    "a range of 10^400": (own(value_range="[0, 1" + "0" * 400 + "]"), "do not match"),
    "weights of nowhere": (
        torch_bytes(state() | {"l0.weight": torch.empty(9, device="meta")}),
        "on meta",
    ),
    "sparse weights": (torch_bytes({"l0.weight": torch.eye(3).to_sparse()}), "dense"),
    "nested JSON": (own(settings="[" * 100_000), "JSON object"),
}
CHILD = """
import json, resource, sys
import iagan
iagan.load_prior("faces")
before = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (before + (1 << 30),) * 2)
for path in sys.argv[1:]:
    try:
        iagan.load_prior(path)
        print(json.dumps("accepted"), flush=True)
    except iagan.IaganError as error:
        print(json.dumps(str(error)), flush=True)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What loading each of the files says, in a process with 1 GiB of its own."""
    folder = tmp_path_factory.mktemp("nasty")
    paths = [folder / str(i) for i in range(len(NASTY))]
    for path, (data, _) in zip(paths, NASTY.values(), strict=True):
        path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, paths)], capture_output=True, text=True, timeout=60
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (list(NASTY)[len(lines)], done.stderr[-2000:])
    return dict(zip(NASTY, lines, strict=True))


@pytest.mark.parametrize("name", NASTY)
def test_a_nasty_file_is_refused_in_one_line(said, name):
    assert NASTY[name][1] in said[name]
    assert "\n" not in said[name]
    assert len(said[name]) < 700


def test_no_limit_is_met_by_what_torch_and_numpy_write():
    values = [
        collections.OrderedDict(state()),
        {"config": {"a": (1, 2.5, None, True, "b"), 3: [{"x": 2**40}]}},
        [np.arange(9.0)] * 3,
    ]
    for value in values:
        for protocol in range(2, 6):
            stream = io.BytesIO(pickle.dumps(value, protocol))
            check_pickle(stream, Limits())
            assert stream.read() == b""


def test_two_directories_in_one_archive_are_refused(tmp_path):
    """Python reads one of them, torch the other."""
    good, bad = torch_bytes(state()), torch_zip(BOMB)
    (tmp_path / "p.pth").write_bytes(bad + good)
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_prior(tmp_path / "p.pth")


def test_limits_are_the_callers(tmp_path):
    path = tmp_path / "p.safetensors"
    path.write_bytes(own())
    load_prior(path)
    for limits in (Limits(weight_bytes=2000), Limits(tensors=3)):
        with pytest.raises(CheckpointError, match="above the limit"):
            load_prior(path, limits=limits)


def test_pipes_and_impossible_names_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "p.pth")
    with pytest.raises(CheckpointError, match="a pipe"):
        load_prior(tmp_path / "p.pth")
    for name in ("x" * 300 + ".pth", "x\0.pth"):
        with pytest.raises(FileError, match="No checkpoint at"):
            load_prior(tmp_path / name)


def test_words_of_a_file_reach_no_terminal(tmp_path):
    path = tmp_path / "p.pth"
    path.write_bytes(torch_bytes({"a\n\x1b]0;x\x07" * 40: torch.zeros(1)}))
    with pytest.raises(CheckpointError) as error:
        load_prior(path)
    assert str(error.value).isprintable()
    path.write_bytes(own(name="a\n\x1b[31m", license="b\r"))
    about = load_prior(path).about
    assert (about.name, about.license) == ("a \\x1b[31m", "b\\r")
    path = tmp_path / "a\n\x1b]0;x.pth"
    path.write_bytes(torch_bytes(state()))
    assert load_prior(path).about.name == "a \\x1b]0;x"


def test_a_known_prior_is_verified_whenever_it_is_loaded(tmp_path, monkeypatch):
    known = catalog.PRIORS["began-64-anantzoid"]
    assert known.verified_by == "SHA-256"
    monkeypatch.setenv("IAGAN_HOME", str(tmp_path))
    (tmp_path / known.file).write_bytes(torch_bytes(state()))
    with pytest.raises(CheckpointError, match="Delete it to download it again"):
        load_prior(known.name)


# -- files as people have them ----------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"g_ema": weights, "generator": {}, "step": 3},
        lambda weights: {"state_dict": {f"module.{k}": v for k, v in weights.items()}},
        lambda weights: {f"_orig_mod.module.{k}": v for k, v in weights.items()},
        lambda weights: {f"netG.{k}": v for k, v in weights.items()} | {"netD.x": torch.zeros(1)},
    ],
)
def test_what_programs_put_around_a_state_dict_is_taken_off(tmp_path, wrap):
    """Under a name that TensorFlow gives its own files, too."""
    for name in ("g.pth", "g.ckpt", "checkpoint"):
        (tmp_path / name).write_bytes(torch_bytes(state()))
    (tmp_path / "wrapped.ckpt").write_bytes(torch_bytes(wrap(state())))
    first = load_prior(tmp_path / "g.pth")
    z = latents(first)
    for name in ("g.ckpt", "checkpoint", "wrapped.ckpt"):
        assert torch.equal(load_prior(tmp_path / name)(z), first(z))


def test_two_state_dicts_are_ambiguous(tmp_path):
    (tmp_path / "p.pth").write_bytes(torch_bytes({"generator": state(), "state_dict": state()}))
    with pytest.raises(CheckpointError, match="expects one state dict; got generator, state_dict"):
        load_prior(tmp_path / "p.pth")


def test_a_pointer_of_git_lfs_is_called_one(tmp_path):
    (tmp_path / "p.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        load_prior(tmp_path / "p.pth")


def test_a_few_names_in_common_are_no_layout(tmp_path):
    keys = ["conv.0.weight", "conv.2.weight", *(f"main.{i}.weight" for i in range(18))]
    (tmp_path / "p.pth").write_bytes(torch_bytes({key: torch.zeros(1) for key in keys}))
    with pytest.raises(CheckpointError, match="expects one of the known layouts"):
        load_prior(tmp_path / "p.pth")


def test_files_that_are_saved_here_are_read_here(tmp_path):
    generator = Generator(Began(4, 32, 3), UniformLatent((3,)))
    save_prior(generator, tmp_path / "p.safetensors")
    again = load_prior(tmp_path / "p.safetensors", limits=Limits(weight_bytes=MIB))
    assert torch.equal(again(torch.zeros(1, 3)), generator(torch.zeros(1, 3)))
