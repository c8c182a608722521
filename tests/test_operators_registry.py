"""Specs from strangers: everything that is not one is refused in one line, at once."""

import dataclasses as dc
import json
import time

import pytest
import torch

import iagan
from helpers import as_users_run_it
from iagan.errors import SettingError
from iagan.operators import (
    OPERATORS,
    FFTBlur,
    Identity,
    Inpaint,
    LinearOperator,
    from_spec,
    register,
)

SHAPE = [3, 8, 6]
DENOISE = {"operator": "denoise", "image_shape": SHAPE}
MASK = Inpaint.random((3, 8, 6), 0.5, 0).spec()["mask"]


def nested(depth):
    """A spec that is `depth` operators deep."""
    spec = DENOISE
    for _ in range(depth - 1):
        spec = {"operator": "scaled", "base": spec, "factor": 1.5}
    return spec


def wide_and_deep():
    """Ten operators beneath each, twelve deep."""
    spec = DENOISE
    for _ in range(12):
        spec = {"operator": "stack", "parts": [spec] * 10}
    return spec


def a_long_comb():
    """On each of 14 levels 20 operators, of which one goes on: no level has too many."""
    spec = DENOISE
    for _ in range(14):
        spec = {"operator": "stack", "parts": [DENOISE] * 19 + [spec]}
    return spec


def test_names_are_those_of_the_command_line():
    expected = "bicubic blur separable-blur fft-blur fourier gaussian inpaint denoise"
    made_in_python = "matrix compose sum scaled stack"
    names = [name for name in OPERATORS if not name.startswith("test-")]
    assert names == expected.split() + made_in_python.split()
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
            "above the limit of 50000000 pixels",
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
        ({"operator": "stack", "parts": []}, "tuple of operators"),
        ({"operator": "stack", "parts": "denoise"}, "tuple of operators"),
        ({"operator": "stack", "parts": [1]}, "expects an operator.*got int"),
        ({"operator": "stack", "parts": [[DENOISE]]}, "expects an operator.*got tuple"),
        ({"operator": "stack", "parts": [DENOISE | {"operator": "x"}]}, "one of bicubic.*got 'x'"),
        ({"operator": "stack", "parts": [DENOISE | {"image_shape": [3, 9, 6]}, DENOISE]}, "same"),
        ({"operator": "compose", "parts": [DENOISE], "image_shape": SHAPE}, "exactly parts; got"),
        ({"operator": "compose", "parts": [DENOISE | {"image_shape": [3, 8, 10**9]}]}, "at most"),
        ({"operator": "scaled", "base": DENOISE, "factor": 0}, "number other than 0; got 0"),
        ({"operator": "scaled", "base": DENOISE, "factor": "2"}, "number other than 0; got '2'"),
        ({"operator": "scaled", "base": DENOISE, "factor": True}, "number other than 0; got True"),
        ({"operator": "scaled", "base": DENOISE, "factor": float("nan")}, "other than 0; got nan"),
        ({"operator": "scaled", "base": MASK, "factor": 2}, "expects an operator.*got Tensor"),
        (nested(65), "nested at most 64 deep"),
        (nested(10_000), "nested at most 64 deep"),
        ({"operator": "stack", "parts": [DENOISE] * 256}, "at most 256 operators"),
        ({"operator": "stack", "parts": [[[DENOISE] * 256]]}, "at most 256 operators"),
        (wide_and_deep(), "at most 256 operators"),
        (a_long_comb(), "at most 256 operators"),
        ({"operator": "matrix", "image_shape": SHAPE, "matrix": [[1.0]]}, "NumPy array of numbers"),
        ({"operator": "matrix", "image_shape": SHAPE, "matrix": MASK}, "n = 144.*got \\(8, 6"),
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


def test_a_spec_may_be_nested_as_deep_as_is_said():
    operator = from_spec(nested(64))
    x = torch.ones(1, *SHAPE)
    torch.testing.assert_close(operator(x), 1.5**63 * x)
    assert len(from_spec({"operator": "stack", "parts": [DENOISE] * 255}).parts) == 255


@dc.dataclass(frozen=True, eq=False)
class Half(Identity):
    name = "test-half"


@pytest.fixture
def clean_registry(monkeypatch):
    for name in [name for name in OPERATORS if name.startswith("test-half")]:
        monkeypatch.delitem(OPERATORS, name)
    monkeypatch.setitem(OPERATORS, "test-half", Half)


def test_a_registered_class_is_saved_and_loaded_and_may_be_registered_again(clean_registry):
    assert register(Half) is Half
    assert type(from_spec(json.loads(json.dumps(Half(tuple(SHAPE)).spec())))) is Half
    again = type("Half", (Identity,), {"name": "test-half", "__module__": Half.__module__})
    register(again)
    assert type(from_spec(Half(tuple(SHAPE)).spec())) is again


def test_an_operator_that_could_not_be_loaded_is_not_saved(clean_registry, tmp_path, monkeypatch):
    """One that is not registered, also inside another, and one with a field that is not JSON."""
    stray = type("Stray", (Identity,), {"name": "test-half-stray"})(tuple(SHAPE))
    odd = dc.make_dataclass("Odd", [("what", object)], bases=(Half,), frozen=True, eq=False)
    odd.name = "test-half-odd"
    monkeypatch.setitem(OPERATORS, odd.name, odd)
    for operator, words in (
        (stray, "registered operator; got Stray"),
        (2.0 * (Half(tuple(SHAPE)) @ stray), "registered operator; got Stray"),
        (odd(tuple(SHAPE), object()), "got others"),
    ):
        observation = iagan.Observation(torch.zeros(1, *SHAPE), operator)
        with as_users_run_it(), pytest.raises(SettingError, match=words):
            iagan.save_observation(observation, tmp_path / "y.npz")
    assert list(tmp_path.iterdir()) == []
    fine = iagan.Observation(torch.zeros(1, *SHAPE), 2.0 * Half(tuple(SHAPE)))
    iagan.save_observation(fine, tmp_path / "y.npz")
    assert type(iagan.load_observation(tmp_path / "y.npz").operator.base) is Half


def refused_classes():
    def kind(title, **namespace):
        return type(title, (Identity,), namespace)

    field = dc.make_dataclass(
        "Field", [("operator", int)], bases=(Identity,), namespace={"name": "test-f"}, frozen=True
    )
    return [
        (Half((1, 2, 2)), "concrete subclass of LinearOperator; got"),
        (int, "concrete subclass of LinearOperator; got"),
        (LinearOperator, "concrete subclass"),
        (kind("Taken"), "a name that is not in use; got 'denoise', which is used by Identity"),
        (kind("Blank", name=""), "Blank.name, the name in specs"),
        (kind("Number", name=3), "Number.name, the name in specs"),
        (field, "no field called 'operator' in Field"),
    ]


@pytest.mark.parametrize(("kind", "words"), refused_classes())
def test_what_cannot_be_registered_is_refused_in_one_line(kind, words):
    before = dict(OPERATORS)
    with as_users_run_it(), pytest.raises(SettingError, match=words) as info:
        register(kind)
    assert "\n" not in str(info.value)
    assert before == OPERATORS


def test_a_deeply_nested_name_is_refused_in_one_line():
    name = []
    for _ in range(3000):
        name = [name]
    with pytest.raises(SettingError, match="got a list"):
        from_spec({"operator": name})
