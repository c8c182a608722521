"""torch's process-wide defaults change neither results nor devices."""

import contextlib

import pytest
import torch

import iagan

SHAPE = (3, 64, 64)
METHODS = (
    iagan.CSGM(steps=3),
    iagan.IAGAN(iagan.CSGM(steps=2, optimizer="lbfgs", latent_prior_weight=1e-3), steps=2),
    iagan.DIP(steps=2),
    iagan.Naive(),
)


def _recover():
    operator = iagan.operators.BicubicDownsample(SHAPE, scale=4)
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(1, *SHAPE, generator=rng, device="cpu", dtype=torch.float32)
    y = iagan.observe(x, operator, 0.01, rng)
    prior = iagan.load_prior("faces-64")
    return [iagan.reconstruct(y, prior, method).image for method in METHODS]


@contextlib.contextmanager
def _double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "defaults", [_double, lambda: torch.device("meta")], ids=["dtype", "device"]
)
def test_results_do_not_depend_on_torchs_defaults(defaults):
    """ "meta" stands for any device other than the CPU: its tensors have no values."""
    expected = _recover()
    with defaults():
        images = _recover()
    for image, its in zip(images, expected, strict=True):
        assert image.dtype == torch.float32
        assert torch.equal(image, its)
