"""A user's own operator or method that returns another shape is told in one line."""

from __future__ import annotations

import dataclasses as dc

import pytest
import torch

import iagan
from helpers import as_users_run_it
from iagan.errors import ShapeError
from iagan.methods import Estimate, Method
from iagan.operators import LinearOperator
from toys import SHAPE, images, observe


@dc.dataclass(frozen=True, eq=False)
class EverySecondRow(LinearOperator):
    """Right, but for what `wrong` does to the result of `_forward` or `_adjoint`."""

    name = "test-every-second-row"
    wrong_forward = staticmethod(lambda y: y)
    wrong_adjoint = staticmethod(lambda x: x)

    @property
    def measurement_shape(self):
        return (self.image_shape[0], self.image_shape[1] // 2, self.image_shape[2])

    def _forward(self, x):
        return self.wrong_forward(x[..., ::2, :])

    def _adjoint(self, y):
        x = y.new_zeros(len(y), *self.image_shape)
        x[..., ::2, :] = y
        return self.wrong_adjoint(x)


@dc.dataclass(frozen=True)
class Wrong(Method):
    """Gives back what `made` makes of its task."""

    kind = "test-wrong"
    needs_prior = False
    made: object = None

    def run(self, task):
        return self.made(task)


@pytest.mark.parametrize(
    ("name", "wrong", "got"),
    [
        ("forward", lambda y: y[..., :-1], "(1, 3, 8, 15)"),
        ("forward", lambda y: y.numpy(), "a ndarray"),
        ("adjoint", lambda x: x[..., ::2, :], "(1, 3, 8, 16)"),
        ("adjoint", lambda x: x[:, :1], "(1, 1, 16, 16)"),
        ("adjoint", lambda x: None, "a NoneType"),
    ],
)
def test_an_operator_of_wrong_shapes_names_its_class(name, wrong, got):
    parts = {f"wrong_{name}": staticmethod(wrong)}
    operator = type("Camera", (EverySecondRow,), parts)(SHAPE)
    y = iagan.Observation(images(1)[..., ::2, :], operator)
    with as_users_run_it(), pytest.raises(ShapeError) as caught:
        iagan.reconstruct(y, method="naive")
    expected = "(1, 3, 8, 16)" if name == "forward" else "(1, 3, 16, 16)"
    told = str(caught.value)
    assert f"_{name} is expected to return a tensor of shape {expected}; got {got}." in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("made", "got"),
    [
        (lambda task: Estimate.direct(task.observation.y), "one of (2, 3, 4, 4)"),
        (lambda task: Estimate.direct(torch.zeros(1, *SHAPE)), "one of (1, 3, 16, 16)"),
        (lambda task: torch.zeros(2, *SHAPE), "a Tensor"),
        (lambda task: None, "a NoneType"),
    ],
)
def test_a_method_that_returns_something_else_names_its_class(made, got):
    with as_users_run_it(), pytest.raises(ShapeError) as caught:
        iagan.reconstruct(observe(2), method=Wrong(made))
    told = str(caught.value)
    assert "Wrong.run is expected to return an Estimate with images of (2, 3, 16, 16)" in told
    assert f"got {got}." in told and "\n" not in told
