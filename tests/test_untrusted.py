"""Files of strangers: each is read, or refused in one line, without hanging or filling memory."""

import os
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageCms

from iagan import images
from iagan.decode import decode_rgb
from iagan.errors import ImageFileError, OutputError, shown
from iagan.images import load_image, save_image
from iagan.limits import Limits
from iagan.masks import load_mask

GREY = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)


def one_line(error):
    """The message of a refusal, checked as a terminal would show it."""
    text = str(error.value if hasattr(error, "value") else error)
    assert text.isprintable(), repr(text)
    assert len(text) < 1000
    return text


def png(ihdr, *chunks):
    def chunk(kind, body):
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *ihdr))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*c) for c in chunks) + chunk(b"IEND", b"")


def npy(header, version=1):
    body = header.encode().ljust(117) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(body))
    return b"\x93NUMPY" + bytes((version, 0)) + length + body


def in_a_child(code, folder, gib=None, seconds=20):
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
    with pytest.raises(ImageFileError, match="more than 47 pixels"):
        load_mask(path, (6, 8), Limits(pixels=limit))


def test_what_waits_for_ever_is_not_opened(tmp_path):
    """A pipe by the name of an image hung; so would a terminal."""
    for name in ("a.png", "m.npy", "y.npz", "k.png"):
        os.mkfifo(tmp_path / name)
    code = """
    refused(iagan.load_image, "a.png")
    refused(iagan.masks.load_mask, "m.npy", (8, 8))
    refused(iagan.masks.load_mask, "k.png", (8, 8))
    refused(iagan.load_image, "/dev/zero")
    assert iagan.images.png_text("a.png", "iagan") is None
    """
    in_a_child(code, tmp_path)
    with pytest.raises(ImageFileError, match="it is a folder"):
        load_image(tmp_path)


def test_large_pictures_take_little_memory(tmp_path):
    """Some 15 bytes a pixel, 0.7 GiB at the limit; 100 million pixels, or 4 GiB of a chunk, are not
    read."""
    side = 5000
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
        assert iagan.load_image(f"{name}.png").shape[-1] == 5000
        each = (peak() - begun) * 2**30 / 5000**2
        assert each < 18, (name, each)
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
        assert "colour profile cannot be used" in caplog.messages[-1]


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
    assert "cut to 8" in said(tmp_path / "p.png")
    (tmp_path / "p.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    assert "cut to 8" in said(tmp_path / "p.ppm")
    assert "inks" in said(_saved(tmp_path, plain.convert("CMYK"), "p.jpg"))
    clear = plain.convert("RGBA")
    assert not said(_saved(tmp_path, clear)), "opaque throughout"
    clear.putalpha(100)
    assert "laid on white" in said(_saved(tmp_path, clear))


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
    assert "2 files of other kinds (.avif, .heic) and 1 folders in it are passed over" in message

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
