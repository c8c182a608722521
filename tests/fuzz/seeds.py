"""Small valid files of every kind that is read, made once a process."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageCms

import iagan
from fuzz.mutate import safetensors_parts
from iagan.images import Crop
from iagan.operators import (
    BicubicDownsample,
    FFTBlur,
    Gaussian,
    Identity,
    Inpaint,
    Matrix,
    SeparableBlur,
    Stack,
    SubsampledFourier,
    UniformBlur,
)
from iagan.priors import About, Began, Generator, NormalLatent, Pggan, UniformLatent
from iagan.train import BeganSettings, train
from published import began_arrays, began_state, nvidia_variables, save_nvidia

SHAPE = (3, 8, 8)
TRAINING = BeganSettings(size=32, width=4, latent=4, batch=2, steps=2)
MODULES = [f"l{index}" for index in range(10)]


@functools.cache
def images() -> dict[str, list[bytes]]:
    """Pictures by format, in every mode and with every kind of note that Pillow writes."""
    rng = np.random.default_rng(0)
    rgb = Pillow.fromarray((rng.random((24, 20, 3)) * 255).astype(np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(rgb.convert("L"))
    deep = Pillow.fromarray((rng.random((24, 20)) * 65535).astype(np.uint16))
    pictures = [rgb, *map(rgb.convert, ("L", "P", "1", "CMYK", "YCbCr")), rgba, rgba.convert("LA")]
    pictures += [deep, Pillow.fromarray(rng.random((24, 20)).astype(np.float32))]
    exif = Pillow.Exif()
    exif[274], exif[270] = 6, "words"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, list[dict[str, Any]]] = {
        "PNG": [{"exif": exif}, {"transparency": 3}, {"icc_profile": profile}],
        "JPEG": [{"exif": exif}, {"progressive": True}, {"icc_profile": profile}],
        "WEBP": [{"lossless": True}, {"save_all": True, "append_images": [rgb]}],
        "TIFF": [{"compression": f"tiff_{name}"} for name in ("lzw", "deflate")]
        + [{"compression": name} for name in ("jpeg", "group4", "packbits")],
        "GIF": [{"transparency": 3}, {"save_all": True, "append_images": [rgb]}],
        "BMP": [],
        "PPM": [],
    }
    made: dict[str, list[bytes]] = {}
    for name, extras in options.items():
        for extra in ({}, *extras):
            for picture in pictures:
                stream = io.BytesIO()
                with contextlib.suppress(Exception):  # many formats lack many modes
                    picture.save(stream, name, **extra)
                    made.setdefault(name, []).append(stream.getvalue())
    return made


def _written(write: Callable[[Path], object], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        write(path)
        return path.read_bytes()


def npy(content: object) -> bytes:
    """A .npy of an array or text."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(content))
    return stream.getvalue()


def array(data: bytes) -> np.ndarray:
    """The array of a valid .npy."""
    return np.load(io.BytesIO(data))


@functools.cache
def masks() -> list[bytes]:
    mask = np.random.default_rng(0).random((24, 20)) < 0.5
    kinds = (bool, np.uint8, ">f8", np.int16)
    return [npy(mask.astype(kind)) for kind in kinds] + [npy(np.asfortranarray(mask))]


@functools.cache
def operators() -> list[Any]:
    """Every kind of operator on images of `SHAPE`."""
    torch.manual_seed(0)
    blur, small = UniformBlur(SHAPE, 3), BicubicDownsample(SHAPE, 2)
    mask = Inpaint.random(SHAPE, 0.5, 0)
    return [
        *(small, blur, mask, Identity(SHAPE), SeparableBlur(SHAPE, (1.0, 2.0, 1.0), (1.0, 1.0))),
        *(SubsampledFourier.random(SHAPE, 0.5, 0), FFTBlur(SHAPE, torch.rand(3, 3))),
        *(Gaussian.from_ratio(SHAPE, 0.3, 0), Matrix((1, 3, 2), torch.rand(4, 6))),
        *(small @ blur, Identity(SHAPE) + blur, 2.5 * small, Stack((mask, small @ blur))),
    ]


@functools.cache
def specs() -> list[Any]:
    return [operator.spec() for operator in operators()]


@functools.cache
def methods() -> list[Any]:
    inner = iagan.IAGAN(iagan.CSGM(steps=3, restarts=2, halving_steps=1), 2)
    every = (inner, iagan.CSGM(), iagan.DIP(), iagan.Naive(), iagan.PseudoInverse())
    return [each.spec() for each in (*every, iagan.BackProjected(inner))]


@functools.cache
def observations() -> list[bytes]:
    made = []
    for operator in operators():
        for dtype in (torch.float32, torch.float64):
            x = torch.rand(2, *operator.image_shape, dtype=dtype)
            y = iagan.observe(x, operator, 0.1, torch.Generator().manual_seed(0))
            made.append(_written(lambda path, y=y: iagan.save_observation(y, path), ".npz"))
    return made


def prior() -> Generator:
    """A generator of 32×32 images, of 3 kB."""
    torch.manual_seed(0)
    about = About("tiny", "began", crop=Crop((178, 218), (89, 121), 112))
    return Generator(Began(4, 32, 3), UniformLatent((3,)), about=about)


@functools.cache
def priors() -> list[bytes]:
    """In the format of `save_prior`."""
    torch.manual_seed(0)
    pggan = Generator(Pggan((4, 4, 3, 3), 5), NormalLatent((5, 1, 1)))
    generators = (prior(), pggan, prior().to("cpu", torch.float16))
    return [_written(functools.partial(iagan.save_prior, g), ".safetensors") for g in generators]


@functools.cache
def torch_files() -> list[bytes]:
    """A state dict, alone and in a dict, as torch writes it now and wrote it."""
    state = began_state(MODULES, began_arrays(64, 4, 3))
    nested = {"generator": state, "step": 3, "config": {"a": (1, 2.5, None)}}
    made = []
    for content in (state, nested):
        for new in (True, False):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=new)
            made.append(stream.getvalue())
    return made


@functools.cache
def tensorflow_arrays() -> list[tuple[str, bytes]]:
    rng, count = np.random.default_rng(0), 4
    shapes = {"fully_connected": (3, 64 * count)}
    for index in range(9):
        name = f"Conv_{index}" if index else "Conv"
        shapes[name] = (3, 3, count, 3 if index == 8 else count)
    arrays = {f"G/{name}/weights": rng.random(shape) for name, shape in shapes.items()}
    arrays |= {f"G/{name}/biases": np.zeros(shape[-1]) for name, shape in shapes.items()}
    return [(f"{name}.npy", npy(value.astype("<f4"))) for name, value in arrays.items()]


@functools.cache
def nvidia_pickles() -> list[bytes]:
    import pytest

    return [
        _written(
            lambda path, f=fused, p=protocol: save_nvidia(
                nvidia_variables(f), path, pytest.MonkeyPatch, p
            ),
            ".pkl",
        )
        for fused in (True, False)
        for protocol in (2, 4)
    ]


@functools.cache
def record() -> dict[str, Any]:
    texts = {"setting": "sr-4", "method": "csgm", "image": "a.png", "image_sha256": ""}
    names = ("mse", "psnr", "ssim", "haarpsi", "lpips", "seconds", "relative_residual")
    return texts | {"mask": 0} | dict.fromkeys(names, 0.5)


@functools.cache
def run() -> tuple[bytes, str]:
    """Checkpoint of a training run, and the digest of its images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for index in range(2):
            x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(index))
            iagan.save_image(x, folder / "images" / f"{index}.png")
        train(TRAINING, folder / "images", folder / "p.safetensors")
        checkpoint = (folder / "p.train" / "checkpoint.safetensors").read_bytes()
        data = (folder / "p.train" / "images.safetensors").read_bytes()
    header, _ = safetensors_parts(data)
    return checkpoint, json.loads(header["__metadata__"]["iagan_images"])["digest"]
