"""Networks of a user's own that cannot be a prior, or look as if they could not."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from iagan.engine import Execution
from iagan.errors import IaganError, SettingError, ShapeError
from iagan.methods import CSGM, IAGAN, reconstruct
from iagan.observation import observe
from iagan.operators import BicubicDownsample
from iagan.priors import Generator, NormalLatent

SHAPE = (3, 8, 8)


class Network(nn.Module):
    """A linear generator whose latents or images `change` passes."""

    def __init__(self, before=lambda z: z, after=lambda x: x):
        super().__init__()
        self.linear, self.before, self.after = nn.Linear(4, 192), before, after

    def forward(self, z):
        return self.after(torch.tanh(self.linear(self.before(z)))).view(-1, *SHAPE)


class Fixed(nn.Module):
    """One without parameters."""

    def forward(self, z):
        return torch.tanh(z).repeat(1, 48).view(-1, *SHAPE)


def observation(images=1):
    rng = torch.Generator().manual_seed(0)
    return observe(torch.rand(images, *SHAPE, generator=rng), BicubicDownsample(SHAPE, 2))


FLAT = {
    "detached": Network(after=lambda x: x.detach()),
    "rounded": Network(after=lambda x: (x * 127).round() / 127),
    "of rounded latents": Network(before=torch.round),
    "through numpy": Network(after=lambda x: torch.from_numpy(x.detach().numpy())),
}
METHODS = {
    "adam": CSGM(steps=3),
    "lbfgs": CSGM(steps=3, optimizer="lbfgs", latent_prior_weight=0.1),
    "iagan": IAGAN(start=CSGM(steps=3), steps=3),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", FLAT)
def test_a_generator_without_gradient_is_refused(kind, method):
    """Whatever the objective says beside it, and in every thread."""
    prior = Generator(FLAT[kind], NormalLatent((4,)))
    with pytest.raises(SettingError, match="can be differentiated") as error:
        reconstruct(observation(3), prior, METHODS[method])
    assert "\n" not in str(error.value)


def test_a_generator_that_fits_at_once_is_not_refused():
    prior = Generator(Network(), NormalLatent((4,)))
    black = observe(prior(torch.zeros(1, 4)).clamp(0, 1) * 0, BicubicDownsample(SHAPE, 2))
    constant = Generator(Network(after=lambda x: 0 * x - 1), NormalLatent((4,)))
    assert float(reconstruct(black, constant, METHODS["adam"]).residual) == 0


def test_a_generator_without_parameters_works():
    prior = Generator(Fixed(), NormalLatent((4,)))
    for method in METHODS.values():
        assert reconstruct(observation(), prior, method).image.shape == (1, *SHAPE)
    quick = Execution(precision="bfloat16")
    assert (
        reconstruct(observation(), prior, METHODS["iagan"], execution=quick).image.isfinite().all()
    )


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and not gone
        return torch.jit.trace(Network(), torch.zeros(1, 4))


def of_old_weight_norm():
    network = Network()
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(network.linear)
    network(torch.zeros(1, 4))
    return network


class TwoInputs(nn.Module):
    def forward(self, z, noise):
        return z + noise


UNUSABLE = {
    "scripted": (scripted, "scripted"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(192), nn.Unflatten(1, SHAPE)), "lazy"),
    "meta": (lambda: Network().to("meta"), "meta device"),
    "parallel": (lambda: nn.DataParallel(Network()), ".module"),
    "weight_norm": (of_old_weight_norm, "weight_norm"),
    "two inputs": (TwoInputs, "takes latents"),
    "noise": (lambda: Network(after=lambda x: x + 0.1 * torch.randn_like(x)), "one image for each"),
    "dropout": (
        lambda: Network(after=lambda x: nn.functional.dropout(x, 0.5, training=True)),
        "one image for each",
    ),
    "batch statistics": (
        lambda: Network(after=lambda x: nn.functional.batch_norm(x, None, None, training=True)),
        "one image for each|takes latents",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_module_that_is_no_plain_one_is_refused_when_it_is_given(kind):
    make, word = UNUSABLE[kind]
    with pytest.raises((SettingError, ShapeError), match=word) as error:
        Generator(make(), NormalLatent((4,)))
    assert isinstance(error.value, IaganError)
    assert "\n" not in str(error.value)


def test_a_network_that_does_not_fit_into_memory_is_said_to():
    def allocate(x):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(IaganError, match="does not fit into memory"):
        Generator(Network(after=allocate), NormalLatent((4,)))
