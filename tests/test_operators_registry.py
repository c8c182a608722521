"""Specs from strangers: everything that is not one is refused in one line, at once."""

import json
import time

import pytest
import torch

from helpers import as_users_run_it
from iagan.errors import SettingError
from iagan.operators import OPERATORS, FFTBlur, Inpaint, from_spec

SHAPE = [3, 8, 6]
MASK = Inpaint.random((3, 8, 6), 0.5, 0).spec()["mask"]


def test_names_are_those_of_the_command_line():
    expected = "bicubic blur separable-blur fft-blur fourier gaussian inpaint denoise"
    assert list(OPERATORS) == expected.split()
    assert all(kind.name == name for name, kind in OPERATORS.items())


def test_a_mask_takes_a_bit_a_pixel_in_a_spec():
    spec = Inpaint.random((3, 512, 512), 0.5, seed=0).spec()
    assert len(json.dumps(spec)) < 512 * 512 / 8 * 4 / 3 + 200


def test_a_kernel_keeps_every_digit_in_a_spec():
    kernel = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    again = from_spec(json.loads(json.dumps(FFTBlur((1, 8, 6), kernel).spec())))
    assert torch.equal(again.kernel, kernel)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (None, "expects 'operator', one of bicubic"),
        ([], "expects 'operator'"),
        ({}, "got None"),
        ({"operator": "__import__"}, "got '__import__'"),
        ({"operator": ["bicubic"]}, "expects 'operator'"),
        ({"operator": "x" * 10_000}, "expects 'operator'"),
        ({"operator": "bicubic", "image_shape": SHAPE}, "exactly image_shape, scale; got"),
        ({"operator": "denoise", "image_shape": SHAPE, "run": "rm"}, "got image_shape, run"),
        ({"operator": "bicubic", "image_shape": SHAPE, "scale": 4}, "divides"),
        ({"operator": "bicubic", "image_shape": SHAPE, "scale": "2"}, "scale as an integer"),
        ({"operator": "bicubic", "image_shape": SHAPE, "scale": 2.0}, "scale as an integer"),
        ({"operator": "bicubic", "image_shape": "abc", "scale": 2}, "three positive integers"),
        ({"operator": "bicubic", "image_shape": [3, 8], "scale": 2}, "three positive integers"),
        ({"operator": "bicubic", "image_shape": [3, 8, -6], "scale": 2}, "at least 1"),
        ({"operator": "bicubic", "image_shape": {"a": 1}, "scale": 2}, "tensor"),
        ({"operator": "denoise", "image_shape": [3, 8, 10**9]}, "at most 8192 pixels"),
        ({"operator": "denoise", "image_shape": [10**9, 8, 8]}, "at most 8192 pixels"),
        ({"operator": "blur", "image_shape": SHAPE, "size": 3, "border": []}, "border"),
        (
            {"operator": "gaussian", "image_shape": [3, 8192, 8192], "m": 10**6, "seed": 0},
            "entries in its matrix",
        ),
        ({"operator": "gaussian", "image_shape": SHAPE, "m": 10**30, "seed": 0}, "at most n"),
        ({"operator": "gaussian", "image_shape": SHAPE, "m": 9, "seed": 10**30}, "seed"),
        ({"operator": "inpaint", "image_shape": SHAPE, "mask": "x"}, "torch.bool"),
        ({"operator": "inpaint", "image_shape": SHAPE, "mask": {"bits": MASK["bits"]}}, "shape"),
        ({"operator": "inpaint", "image_shape": SHAPE, "mask": MASK | {"bits": "!"}}, "used: "),
        ({"operator": "inpaint", "image_shape": SHAPE, "mask": MASK | {"bits": 3}}, "base64"),
        ({"operator": "inpaint", "image_shape": SHAPE, "mask": MASK | {"shape": [9, 9]}}, "bytes"),
        ({"operator": "inpaint", "image_shape": SHAPE, "mask": MASK | {"shape": [6, 8]}}, "8, 6"),
        (
            {"operator": "inpaint", "image_shape": SHAPE, "mask": MASK | {"shape": [10**9, 1]}},
            "two sides of at most 8192",
        ),
        (
            {"operator": "fft-blur", "image_shape": SHAPE, "kernel": MASK},
            "real floating-point tensor",
        ),
        (
            {
                "operator": "separable-blur",
                "image_shape": SHAPE,
                "vertical": [float("inf")],
                "horizontal": [1],
                "border": "mirror",
            },
            "finite",
        ),
        (
            {
                "operator": "separable-blur",
                "image_shape": SHAPE,
                "vertical": [1],
                "horizontal": [[1]],
                "border": "mirror",
            },
            "finite",
        ),
    ],
)
def test_what_is_no_spec_is_refused_in_one_line(spec, words):
    start = time.perf_counter()
    with as_users_run_it(), pytest.raises(SettingError, match=words) as info:
        from_spec(spec)
    message = str(info.value)
    assert "\n" not in message
    assert len(message) < 600
    assert time.perf_counter() - start < 1
