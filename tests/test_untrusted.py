"""Files of strangers: each is read, or refused in one line, without hanging or filling memory."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageCms

import iagan
from forged import npy, png, zipped
from iagan import images
from iagan.cli import main
from iagan.decode import decode_rgb
from iagan.errors import (
    FileError,
    IaganError,
    ImageFileError,
    ObservationFileError,
    OutputError,
    SettingError,
    shown,
)
from iagan.experiments.plan import Plan, seeds
from iagan.experiments.run import KEYS
from iagan.experiments.table import cells, markdown
from iagan.images import load_image, save_image
from iagan.jobs import RunFolder
from iagan.jobs.inputs import find_inputs
from iagan.jobs.outputs import KEYWORD, Outputs
from iagan.jobs.records import keep_settings
from iagan.limits import Limits
from iagan.masks import load_mask
from iagan.rounding import rounding_std

GREY = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)


def one_line(error):
    """The message of a refusal, checked as a terminal would show it."""
    text = str(error.value if hasattr(error, "value") else error)
    assert text.isprintable(), repr(text)
    assert len(text) < 1000
    return text


def in_a_child(code, folder, gib=None, seconds=120):
    """What it prints, run in `folder` with at most `gib` GiB more of memory than it begins with."""
    start = """
    import resource, sys
    import numpy as np, torch, iagan
    from pathlib import Path
    from iagan.errors import IaganError
    import iagan.images, iagan.masks
    torch.set_num_threads(1)
    def peak():
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 2**20
    def refused(function, *arguments):
        try:
            function(*arguments)
        except IaganError as error:
            assert str(error).isprintable()
            return
        raise AssertionError(f"{arguments} accepted")
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(code)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def sparse(path, head, size):
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


READERS = (load_image, lambda path: load_mask(path, (4, 4)), rounding_std)


# -- images -----------------------------------------------------------------------------------


def test_a_broken_palette_is_refused(tmp_path):
    """Two colours, transparency for 300: found only when the picture is converted."""
    path = tmp_path / "a.png"
    parts = (b"PLTE", bytes(6)), (b"tRNS", bytes(300)), (b"IDAT", zlib.compress(bytes(72)))
    path.write_bytes(png((8, 8, 8, 3, 0, 0, 0), *parts))
    for read in (load_image, lambda p: decode_rgb(p, "a.png"), lambda p: load_mask(p, (8, 8))):
        with pytest.raises(ImageFileError) as error:
            read(path)
        assert "a.png" in one_line(error)


@pytest.mark.parametrize("limit", [47, 48])
def test_the_limit_of_pixels_is_a_parameter(limit, tmp_path):
    path = tmp_path / "a.png"
    Pillow.fromarray(GREY).save(path)
    if limit == 48:
        assert load_image(path, Limits(pixels=limit)).shape == (1, 3, 6, 8)
        return
    with pytest.raises(ImageFileError, match="more than 47 pixels.*Limits.pixels"):
        load_image(path, Limits(pixels=limit))
    for read in (
        lambda: load_mask(path, (6, 8), Limits(pixels=limit)),
        lambda: rounding_std(path, Limits(pixels=limit)),
    ):
        with pytest.raises(ImageFileError, match="more than 47 pixels"):
            read()


@pytest.fixture
def soon():
    """A test that hangs fails."""

    def fail(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_what_waits_for_ever_is_not_opened(tmp_path, soon):
    """A pipe by the name of an image hung; so would a terminal."""
    for name in ("a.png", "m.npy", "y.npz"):
        os.mkfifo(tmp_path / name)
        for read in (*READERS, iagan.load_observation):
            with pytest.raises(FileError, match="pipe, device or the like") as error:
                read(tmp_path / name)
            one_line(error)
    assert images.png_text(tmp_path / "a.png", "iagan") is None
    with pytest.raises(ImageFileError, match="pipe, device or the like"):
        load_image("/dev/zero")
    with pytest.raises(ImageFileError, match="is a folder; expected an image"):
        load_image(tmp_path)


def test_large_pictures_take_little_memory(tmp_path):
    """Some 15 bytes a pixel, 0.7 GiB at the limit; 100 million pixels, or 4 GiB of a chunk, are not
    read."""
    side = 4000
    for name, kind, row in (("rgb", 2, 3), ("alpha", 6, 4), ("deep", 0, 2)):
        pack = zlib.compressobj(1)
        line = bytes(row * side + 1)
        data = b"".join(pack.compress(line) for _ in range(side)) + pack.flush()
        header = (side, side, 16 if name == "deep" else 8, kind, 0, 0, 0)
        (tmp_path / f"{name}.png").write_bytes(png(header, (b"IDAT", data)))
    head = png((8, 8, 8, 2, 0, 0, 0))[:33] + struct.pack(">I", 2**31 - 9) + b"tEXt"
    sparse(tmp_path / "sparse.png", head, 2**32)
    mask = npy("{'descr': '|b1', 'fortran_order': False, 'shape': (65536, 65536)}")
    sparse(tmp_path / "sparse.npy", mask, 2**32)
    (tmp_path / "bomb.png").write_bytes(png((10000, 10000, 8, 2, 0, 0, 0), (b"IDAT", b"")))
    code = """
    begun = peak()
    refused(iagan.load_image, "sparse.png")
    refused(iagan.load_image, "bomb.png")
    refused(iagan.masks.load_mask, "sparse.npy", (8, 8))
    assert peak() - begun < 0.05, peak() - begun
    for name in ("rgb", "alpha", "deep"):
        assert iagan.load_image(f"{name}.png").shape[-1] == 4000
        each = (peak() - begun) * 2**30 / 4000**2
        assert each < 22, (name, each)
    """
    in_a_child(code, tmp_path)


def test_names_are_shown_on_one_line(tmp_path):
    """A terminal would obey the escape sequence of a name; no file can have a null in its."""
    name = "\x1b]0;pwned\x07\n.png"
    (tmp_path / name).write_bytes(b"no image")
    for path in (tmp_path / name, tmp_path / f"no{name}", tmp_path / "a\0.png", "\udcff.png"):
        with pytest.raises(ImageFileError) as error:
            load_image(path)
        one_line(error)
        with pytest.raises(ImageFileError) as error:
            load_mask(path, (4, 4))
        one_line(error)
        assert images.png_text(path, "iagan") is None
    with pytest.raises(OutputError) as error:
        save_image(torch.zeros(1, 3, 4, 4), tmp_path / "a\0.png")
    one_line(error)
    assert shown("a" * 10**6) == "a" * 199 + "…"


def test_the_error_of_a_large_jpeg_is_that_of_its_middle(tmp_path):
    """Not all of its pixels are held in double precision."""
    noise = np.random.default_rng(0).integers(100, 156, (1024, 1024, 3), dtype=np.uint8)
    one = rounding_std(_saved(tmp_path, Pillow.fromarray(noise), "a.jpg", quality=60))
    wide = Pillow.new("RGB", (3072, 2048), "red")
    wide.paste(Pillow.fromarray(noise), (1024, 512))
    assert rounding_std(_saved(tmp_path, wide, "b.jpg", quality=60)) == pytest.approx(one, rel=0.01)


def test_a_jpeg_whose_table_holds_zeros_has_an_error_too(tmp_path):
    """It was NaN, which no observation takes for σ."""
    path = _saved(tmp_path, Pillow.fromarray(GREY), "a.jpg", quality=60)
    data = bytearray(path.read_bytes())
    table = data.index(b"\xff\xdb") + 5
    data[table : table + 64] = bytes(64)
    path.write_bytes(data)
    assert 0 < rounding_std(path) < 0.1


def _saved(tmp_path, picture, name="p.png", **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def test_colours_are_converted_by_their_profile(tmp_path, caplog):
    """Against LittleCMS itself: another white and other primaries; grey and CMYK alike. An invalid
    profile is said."""
    rgb = Pillow.fromarray(np.stack([GREY, GREY.T.reshape(6, 8), 255 - GREY], 2))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    tagged = load_image(_saved(tmp_path, rgb, icc_profile=srgb.tobytes()))
    assert torch.equal(tagged, load_image(_saved(tmp_path, rgb, "plain.png"))), "sRGB is as it is"
    # sRGB with its red and blue exchanged, which no reader that ignores profiles would show.
    other = srgb.tobytes().replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    places = [other.index(tag) for tag in (b"rXYZ", b"bXYZ")]
    swapped = bytearray(other)
    swapped[places[0] : places[0] + 4], swapped[places[1] : places[1] + 4] = b"bXYZ", b"rXYZ"
    seen = load_image(_saved(tmp_path, rgb, "other.png", icc_profile=bytes(swapped)))
    torch.testing.assert_close(seen, tagged.flip(1), rtol=0, atol=2.5 / 255)
    rgba = rgb.copy()
    rgba.putalpha(255)
    seen = load_image(_saved(tmp_path, rgba, "alpha.png", icc_profile=bytes(swapped)))
    torch.testing.assert_close(seen, tagged.flip(1), rtol=0, atol=2.5 / 255)
    assert not caplog.messages
    for profile in (b"junk", lab.tobytes(), other[:200]):
        seen = load_image(_saved(tmp_path, rgb, "bad.png", icc_profile=profile))
        assert torch.equal(seen, tagged)
        assert "colour profile is unusable" in caplog.messages[-1]


def test_what_is_lost_or_assumed_is_said(tmp_path, caplog):
    """12 bits in 16, 16 bits a colour, inks, transparency; a plain photograph says nothing."""

    def said(path):
        caplog.clear()
        load_image(path)
        assert all("p." in message and message.isprintable() for message in caplog.messages)
        return " ".join(caplog.messages)

    plain = Pillow.fromarray(GREY)
    assert not said(_saved(tmp_path, plain))
    dark = Pillow.fromarray(GREY.astype(np.uint16) * 16)
    assert f"brightest pixel is {16 * int(GREY.max())} of 65535" in said(_saved(tmp_path, dark))
    assert not said(_saved(tmp_path, Pillow.fromarray(GREY.astype(np.uint16) * 257)))
    rows = b"".join(b"\0" + bytes(48) for _ in range(8))
    (tmp_path / "p.png").write_bytes(png((8, 8, 16, 2, 0, 0, 0), (b"IDAT", zlib.compress(rows))))
    assert "reduced to 8" in said(tmp_path / "p.png")
    (tmp_path / "p.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    assert "reduced to 8" in said(tmp_path / "p.ppm")
    assert "CMYK" in said(_saved(tmp_path, plain.convert("CMYK"), "p.jpg"))
    clear = plain.convert("RGBA")
    assert not said(_saved(tmp_path, clear)), "opaque throughout"
    clear.putalpha(100)
    assert "blended with white" in said(_saved(tmp_path, clear))


def test_floating_point_grey_is_read(tmp_path):
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    image = load_image(_saved(tmp_path, Pillow.fromarray(values), "p.tif"))
    assert torch.equal(image, torch.from_numpy(values).expand(1, 3, -1, -1))


def test_folders_say_what_they_pass_over(tmp_path, caplog, monkeypatch):
    for name in ("a.gif", "b.ppm", "c.jfif", "d.heic", "e.avif", ".hidden", "y.npz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more").mkdir()
    assert [p.name for p in images.find_images([tmp_path])] == ["a.gif", "b.ppm", "c.jfif"]
    (message,) = caplog.messages
    assert (
        "skipped 2 files that are not regular image files (.avif, .heic) and 1 subfolder."
        in message
    )

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ImageFileError, match="cannot be read: Permission denied"):
        images.find_images([tmp_path])


# -- masks ------------------------------------------------------------------------------------

HEADER = "{'descr': '|b1', 'fortran_order': False, 'shape': (4, 4)}"


@pytest.mark.parametrize(
    "content",
    [
        npy("(" * 50),
        npy("  x\n y\n"),
        npy("-" * 3000 + "1"),
        npy("[" * 3000),
        npy("{}"),
        npy(HEADER.replace("(4, 4)", "(4, True)")) + bytes(16),
        npy(HEADER.replace("(4, 4)", "(-4, -4)")) + bytes(16),
        npy(HEADER.replace("(4, 4)", "(99999999999999999999, 4)")),
        npy(HEADER.replace("|b1", "|O")) + bytes(128),
        npy(HEADER.replace("'|b1'", "[('a', '|b1')]")) + bytes(16),
        npy(HEADER.replace("|b1", "<U1")) + bytes(64),
        npy(HEADER) + bytes(15),
        npy(HEADER) + bytes(17),
        npy(HEADER, version=3) + bytes(16),
        npy(HEADER.replace("|b1", "<f8")) + struct.pack("<d", float("nan")) * 16,
        b"\x93NUMPY\x02\0" + struct.pack("<I", 2**32 - 1),
    ],
)
def test_a_mask_of_any_header_is_refused(content, tmp_path):
    (tmp_path / "m.npy").write_bytes(content)
    with pytest.raises(ImageFileError, match="Save it again|Threshold") as error:
        load_mask(tmp_path / "m.npy", (4, 4))
    one_line(error)


def test_masks_of_any_order_are_read(tmp_path):
    mask = np.random.default_rng(0).random((4, 6)) < 0.5
    for index, same in enumerate((np.asfortranarray(mask), mask.astype(">f8"), mask.astype("<i2"))):
        np.save(tmp_path / f"{index}.npy", same)
        assert torch.equal(load_mask(tmp_path / f"{index}.npy", (4, 6)), torch.from_numpy(mask))


def test_masks_with_holes_soft_edges_or_zeros_and_ones(tmp_path, caplog):
    """Transparent: not measured. Neither black nor white: said. 0 and 1: read as such, said."""
    mask = np.random.default_rng(0).random((4, 6)) < 0.5
    white = Pillow.new("RGBA", (6, 4), "white")
    white.putalpha(Pillow.fromarray((255 * mask).astype(np.uint8)))
    hole = load_mask(_saved(tmp_path, white, "hole.png"), (4, 6))
    assert torch.equal(hole, torch.from_numpy(mask))
    assert not caplog.messages
    for kind in (np.uint8, np.uint16):
        path = _saved(tmp_path, Pillow.fromarray(mask.astype(kind)), "ones.png")
        assert torch.equal(load_mask(path, (4, 6)), torch.from_numpy(mask))
        assert "its values are 0 and 1" in caplog.messages[-1]
    soft = Pillow.fromarray(np.array([[0, 100, 200, 255]], dtype=np.uint8))
    assert load_mask(_saved(tmp_path, soft, "soft.png"), (1, 4)).tolist() == [[0, 0, 1, 1]]
    assert "2 of its 4 pixels are neither black nor white" in caplog.messages[-1]


# -- observations and operators ---------------------------------------------------------------

SPEC = {"operator": "denoise", "image_shape": [3, 4, 4]}
ABOUT = {"format": "iagan-observation", "version": 1, "noise_std": 0.0, "crop": None}


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def observation(path, spec=SPEC, y=None, text=None, **about):
    """An .npz as save_observation writes it."""
    y = np.zeros((1, 3, 4, 4), np.float32) if y is None else y
    text = json.dumps(ABOUT | {"operator": spec} | about) if text is None else text
    np.savez(path, y=y, about=np.array(text))
    return path


SMALL = saved(np.zeros((1, 3, 4, 4), np.float32))
GOOD = saved(np.array(json.dumps(ABOUT | {"operator": SPEC})))
BEYOND_UNICODE = saved(np.array(json.dumps(ABOUT | {"operator": SPEC, "version": "X"})))
BEYOND_UNICODE = BEYOND_UNICODE.replace(b"X\0\0\0", b"\xff\xff\xff\x7f")
FLOATS = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}")


@pytest.mark.parametrize(
    ("members", "method", "damage"),
    [
        ({"y.npy": npy("(" * 50), "about.npy": b""}, 0, ()),
        ({"y.npy": npy("  x\n y\n"), "about.npy": b""}, 0, ()),
        ({"y.npy": FLOATS, "about.npy": b""}, 0, ()),
        ({"y.npy": npy("{}") + bytes(500), "about.npy": bytes(500)}, 14, range(60, 80)),
        ({"y.npy": saved(np.zeros((1, 3, 4, 4))), "about.npy": b"a" * 200}, 12, ()),
        ({"y.npy": SMALL, "about.npy": BEYOND_UNICODE}, 0, ()),
        ({"y.npy": SMALL, "about.npy": GOOD}, 12, ()),
        ({"y.npy": SMALL, "about.npy": GOOD}, 14, ()),
        ({"y.npy": saved(np.zeros(0, "U")), "about.npy": saved(np.array(""))}, 0, ()),
        ({f"\x1b[31m{i}.npy": b"" for i in range(40)}, 0, ()),
        ({}, 0, ()),
    ],
)
def test_archives_of_any_content_are_refused(members, method, damage, tmp_path):
    path = tmp_path / "y.npz"
    path.write_bytes(zipped(members, method, damage))
    with pytest.raises(ObservationFileError) as error:
        iagan.load_observation(path)
    one_line(error)


@pytest.mark.parametrize(
    "about",
    [
        {"noise_std": 1e300},
        {"noise_std": 10**400},
        {"noise_std": {"a": 1}},
        {"noise_std": "\x1b]0;pwned\x07"},
        {"version": "\x1b]0;pwned\x07"},
        {"crop": [10**400, "\n", None]},
        {"crop": {"0": 1}},
        {"text": "[" * 10**5},
        {"text": "{" * 50 + "}" * 50},
        {"text": "\x1b]0;pwned\x07"},
        {"text": json.dumps({**ABOUT, "operator": SPEC, "more": json.loads("[" * 70 + "]" * 70)})},
        {"text": json.dumps({**ABOUT, "operator": SPEC, "more": [0] * 1_000_001})},
        {"spec": {"operator": "\x1b]0;pwned\x07"}},
        {"spec": {**SPEC, "\x1b]0;pwned\x07": 1}},
        {"spec": {**SPEC, "image_shape": [3, 4, "\x1b]0;pwned\x07"]}},
        {"spec": {"operator": "scaled", "base": SPEC, "factor": 1e300}},
        {"spec": {"operator": "scaled", "base": SPEC, "factor": 1e-300}},
        {"spec": {"operator": "fft-blur", "image_shape": [3, 4, 4], "kernel": 1}},
        {"spec": {"operator": "denoise", "image_shape": [3, 8192, 8192]}},
        {"spec": {"operator": "denoise", "image_shape": [8192, 8192, 2]}},
        {"spec": {"operator": "gaussian", "image_shape": [3, 64, 64], "m": 12288, "seed": 0}},
        {"spec": {"operator": "blur", "image_shape": [3, 8, 8192], "size": 3, "border": "mirror"}},
        {"y": np.zeros((0, 3, 4, 4), np.float32)},
        {"y": np.zeros((1, 3, 4, 4), "U")},
    ],
)
def test_observations_that_ask_for_too_much_are_refused(about, tmp_path):
    with pytest.raises(ObservationFileError, match=r"y\.npz") as error:
        iagan.load_observation(observation(tmp_path / "y.npz", **about))
    one_line(error)


@pytest.mark.parametrize("taps", [[1e308, 1.0], [1e-320, 0.0], [10**400, 1]])
def test_taps_beyond_all_measure_are_refused(taps, tmp_path):
    """The SVD of such a blur failed in its pseudoinverse."""
    spec = {"operator": "separable-blur", "image_shape": [3, 4, 4], "border": "mirror"}
    spec |= {"vertical": taps, "horizontal": [1.0]}
    with pytest.raises(ObservationFileError, match="the largest from 1e-12 to 1e.12|cannot be"):
        iagan.load_observation(observation(tmp_path / "y.npz", spec))
    with pytest.raises(SettingError):
        iagan.operators.SeparableBlur((3, 4, 4), taps, [1.0])


def test_the_limits_of_an_observation_are_parameters(tmp_path):
    """Operators share one budget: three matrices of 32 kB each are not within 64."""
    gaussian = {"operator": "gaussian", "image_shape": [1, 16, 16], "m": 32, "seed": 0}
    path = observation(
        tmp_path / "y.npz",
        {"operator": "stack", "parts": [gaussian] * 3},
        np.zeros((1, 96), np.float32),
    )
    assert iagan.load_observation(path, Limits(array_bytes=2**17)).y.shape == (1, 96)
    for limits, words in (
        (Limits(array_bytes=2**16), "above the limit of 65536 bytes.*Limits.array_bytes"),
        (Limits(array_bytes=300), "384 bytes, above the limit of 300"),
        (Limits(pixels=255), "255 pixels"),
        (Limits(text_bytes=80), "above the limit of 320"),
        (Limits(nesting=1), "nested"),
    ):
        with pytest.raises(ObservationFileError, match=words) as error:
            iagan.load_observation(path, limits)
        one_line(error)


def test_observations_of_zeros_take_little_memory(tmp_path):
    """3 MB that unpack to 3 GiB took 6 GiB; half a million entries 0.5 GiB. What is within the
    limit (46 MiB) is held twice."""
    about = json.dumps(ABOUT | {"operator": {**SPEC, "image_shape": [3, 2000, 2000]}})
    header = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 2000, 2000)}")
    large = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3, 2000, 2000)}")
    for name, head, mib in (("good", header, 45), ("zeros", large, 137), ("short", large, 1)):
        path, deflated = tmp_path / f"{name}.npz", zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", deflated, compresslevel=1) as archive:
            with archive.open("y.npy", "w", force_zip64=True) as member:
                member.write(head)
                for _ in range(mib):
                    member.write(bytes(2**20))
                member.write(bytes(4 * 3 * 2000**2 - mib * 2**20 if name == "good" else 0))
            archive.writestr("about.npy", saved(np.array(about)))
    entry = b"PK\x01\x02" + bytes(42)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 46 * 500_000, 0, 0)
    (tmp_path / "entries.npz").write_bytes(entry * 500_000 + end)
    code = """
    begun = peak()
    for name in ("zeros", "short", "entries"):
        refused(iagan.load_observation, f"{name}.npz", iagan.Limits(array_bytes=2**26))
    assert peak() - begun < 0.05, peak() - begun
    assert iagan.load_observation("good.npz").y.shape == (1, 3, 2000, 2000)
    assert peak() - begun < 0.12, peak() - begun
    """
    in_a_child(code, tmp_path)


def test_a_batch_of_0_is_refused():
    operator = iagan.operators.Identity((3, 4, 4))
    for make in (iagan.Observation, iagan.observe):
        with pytest.raises(SettingError, match="expects one image or more"):
            make(torch.zeros(0, 3, 4, 4), operator)


def test_an_operator_of_ones_own_may_raise_anything(monkeypatch):
    class Own(iagan.operators.Identity):
        name = "test-untrusted"

        def __post_init__(self):
            raise AttributeError("a\nb")

    monkeypatch.setitem(iagan.operators.registry.OPERATORS, Own.name, Own)
    with pytest.raises(SettingError, match="a b") as error:
        iagan.operators.from_spec(SPEC | {"operator": Own.name})
    one_line(error)


# -- records ----------------------------------------------------------------------------------

RECORD = {"setting": "sr-4", "method": "csgm", "image": "a.png", "image_sha256": "", "mask": 0}
RECORD |= dict.fromkeys(("mse", "psnr", "ssim", "haarpsi", "lpips", "seconds"), 0.5)
RECORD |= {"relative_residual": 2.5e295}


def run_folder(path, *lines):
    (path / "settings.json").write_text("{}")
    (path / "records.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return RunFolder(path, {}, (), KEYS)


def test_records_of_every_kind_are_read(tmp_path):
    lines = [json.dumps(RECORD | {"lpips": lpips}).encode() for lpips in (0.5, None, 1)]
    records = run_folder(tmp_path, *lines).records()
    assert [record["lpips"] for record in records] == [0.5, None, 1]
    assert "sr-4" in markdown(cells("table2", records), "alex")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mse": None}, "mse is null, not a number"),
        ({"mse": "0.5"}, "mse is"),
        ({"mse": True}, "mse is true"),
        ({"psnr": 10**400}, "psnr is"),
        ({"psnr": float("nan")}, "psnr is NaN"),
        ({"ssim": 1e200}, "ssim is"),
        ({"lpips": []}, "lpips is"),
        ({"relative_residual": float("inf")}, "relative_residual is Infinity, not a finite"),
        ({"mask": 0.5}, "mask is"),
        ({"image": ["a.png"]}, "image is"),
        ({"method": {"a": 1}}, "method is"),
        ({"setting": "\x1b]0;pwned\x07", "mask": "\x1b\n"}, "mask is"),
    ],
)
def test_records_of_other_kinds_are_refused_with_their_line(changes, words, tmp_path):
    good, bad = json.dumps(RECORD).encode(), json.dumps(RECORD | changes).encode()
    with pytest.raises(FileError, match=rf"records.jsonl, line 2: {words}") as error:
        run_folder(tmp_path, good, bad)
    one_line(error)


def test_records_that_are_no_objects_within_the_limits_are_refused(tmp_path):
    good = json.dumps(RECORD).encode()
    nested = json.dumps(RECORD | {"more": json.loads("[" * 70 + "]" * 70)}).encode()
    for line in (b"[" * 100_000, nested, b"\x1b]0;pwned\x07", b"\xff", b""):
        with pytest.raises(FileError, match="line 2: expected a JSON object") as error:
            run_folder(tmp_path, good, line)
        one_line(error)
    with pytest.raises(FileError, match="above the limit of 100 bytes"):
        RunFolder(tmp_path, {}, (), KEYS, Limits(text_bytes=100))
    for text in ("[" * 100_000, '{"a": "\\u001b\\n"}'):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(IaganError) as error:
            keep_settings(tmp_path / "s.json", {"a": 1}, ("a",))
        one_line(error)


def test_names_that_no_encoding_can_write(tmp_path):
    """They are escaped in records, and read back; a photograph of such a name has a seed."""
    folder = run_folder(tmp_path)
    folder.append(RECORD | {"image": "\udcff.png"})
    assert folder.records()[0]["image"] == "\udcff.png"
    plan = Plan(("table2",), (Path("\udcff.png"), Path("b.png")))
    assert len(set(seeds(plan, next(plan.tasks())[1], plan.images))) == 2


def test_names_in_the_messages_of_jobs_are_on_one_line(tmp_path):
    folder = tmp_path / "\x1b]0;pwned\x07"
    folder.mkdir()
    with pytest.raises(ImageFileError, match="No image") as error:
        find_inputs([folder])
    one_line(error)
    target = folder / "a.png"
    for text in ("", "[" * 100_000):
        save_image(torch.zeros(1, 3, 4, 4), target, {KEYWORD: text})
        with pytest.raises(OutputError, match="settings are unknown"):
            Outputs(folder, [target], 1).are_made([target], {})
    target.write_bytes(b"")
    with pytest.raises(OutputError, match="settings are unknown") as error:
        Outputs(folder, [target], 1).are_made([target], {})
    one_line(error)


def test_the_command_line_takes_what_its_user_trusts(tmp_path, capsys):
    """A Gaussian matrix of 2 MiB, within 1 MiB refused, by the option's default read."""
    spec = {"operator": "gaussian", "image_shape": [3, 64, 64], "m": 50, "seed": 0}
    path = observation(tmp_path / "y.npz", spec, np.zeros((1, 50), np.float32))
    argv = ["reconstruct", str(path), "-o", str(tmp_path / "out"), "--prior", "faces-64"]
    argv += ["--method", "naive"]
    assert main([*argv, "--limit", "1"]) == 2
    assert "--limit on the command line" in capsys.readouterr().err
    assert main(argv) == 0
