"""`iagan.isolated`: results, errors and notes come back; what exceeds a limit is ended."""

import ctypes
import functools
import logging
import os
import pickle
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image as Pillow

import iagan
from iagan.errors import ImageFileError, LimitError, SettingError
from iagan.limits import MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")


def test_a_loader_gives_what_it_gives_here(tmp_path, caplog):
    """A tensor, bit for bit, and what was said of the picture; a prior that makes the same image;
    keywords; an error of the same kind and words."""
    path = tmp_path / "a.png"
    Pillow.effect_noise((20, 10), 50).convert("RGBA").save(path)
    with Pillow.open(path) as picture:
        picture.putalpha(100)
        picture.save(path)
    expected = iagan.load_image(path)
    said = list(caplog.messages)
    caplog.clear()
    assert torch.equal(iagan.isolated(iagan.load_image, path), expected)
    assert caplog.messages == said
    assert "blended with white" in said[0]
    assert caplog.records[0].levelno == logging.WARNING
    prior, here = iagan.isolated(iagan.load_prior, "faces-64"), iagan.load_prior("faces-64")
    z = here.latent.sample(1, torch.Generator().manual_seed(0))
    assert torch.equal(prior(z), here(z))
    small = functools.partial(iagan.load_image, limits=iagan.Limits(pixels=10))
    with pytest.raises(ImageFileError, match="more than 10 pixels") as error:
        iagan.isolated(small, path)
    assert type(error.value) is ImageFileError


@pytest.mark.parametrize(
    ("function", "arguments", "limits", "kind", "words"),
    [
        (time.sleep, (60,), {"seconds": 0.2}, LimitError, "sleep took more than 0.2 seconds"),
        (bytearray, (64 * MIB,), {"memory": 32 * MIB}, LimitError, "exceeded its memory, 33554432"),
        (os.abort, (), {}, LimitError, "SIGABRT"),
        (ctypes.string_at, (8,), {}, iagan.IaganError, "string_at returned no result.*SIGSEGV"),
        (os._exit, (3,), {}, iagan.IaganError, "ended with code 3"),
        (int, ("\x1b",), {}, iagan.IaganError, r"int raised ValueError: .*\\x1b"),
        (memoryview, (b"",), {}, iagan.IaganError, "memoryview raised TypeError: cannot pickle"),
    ],
)
def test_every_other_end_is_an_error_of_one_line(function, arguments, limits, kind, words):
    """Too slow, too large, killed, crashed, gone, another exception, a result that cannot come."""
    begun = time.monotonic()
    with pytest.raises(kind, match=words) as error:
        iagan.isolated(function, *arguments, **limits)
    assert type(error.value) is kind
    assert str(error.value).isprintable()
    assert time.monotonic() - begun < 20


def test_want_of_memory_is_told_whatever_the_loader_calls_it(tmp_path):
    """`load_image` says that the image cannot be read, which it can."""
    Pillow.new("L", (4000, 4000)).save(tmp_path / "a.png")
    with pytest.raises(LimitError, match="load_image exceeded its memory.*an allocation failed"):
        iagan.isolated(iagan.load_image, tmp_path / "a.png", memory=64 * MIB)


def test_processor_time_is_limited_where_nobody_waits():
    """The process of a page that was killed does not go on for ever."""
    code = "import os, resource; print(resource.getrlimit(resource.RLIMIT_CPU)[0])"
    printed = iagan.isolated(subprocess.check_output, [sys.executable, "-c", code], seconds=7)
    assert 7 <= int(printed) <= 60


@pytest.mark.parametrize(
    ("function", "limits"),
    [
        (lambda: 0, {}),
        (max, {"memory": 0}),
        (max, {"memory": 2.5}),
        (max, {"seconds": 0}),
        (max, {"seconds": float("nan")}),
        (max, {"seconds": True}),
    ],
)
def test_arguments_out_of_range_are_refused(function, limits):
    with pytest.raises(SettingError, match="isolated expects"):
        iagan.isolated(function, 1, **limits)


def test_memory_is_not_promised_where_it_cannot_be_limited(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SettingError, match="Pass memory=None"):
        iagan.isolated(max, [1])


def test_a_script_without_a_main_block_is_told(tmp_path):
    """A new process runs the script again, and again, were it not ended."""
    script = tmp_path / "script.py"
    script.write_text("import iagan\nprint(iagan.isolated(max, [1, 2]))\n")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert "isolated could not start max" in ran.stderr


def test_an_error_of_a_limit_pickles():
    """So that jobs elsewhere can bring it back."""
    assert str(pickle.loads(pickle.dumps(LimitError("a")))) == "a"
