"""However a network is run, in bfloat16 or compiled too, it gives the same images and gradients."""

from functools import partial

import pytest
import torch

import iagan
from iagan.errors import SettingError
from iagan.priors import Began, Generator, LatentLaw, Pggan, run
from iagan.reconstruction import optimize
from iagan.reconstruction.adapt import all_together, one_by_one

NETWORKS = {
    "began": (lambda: Began(8, 32, 5), (5,)),
    "pggan": (lambda: Pggan((8, 8, 6, 6), 5), (5, 1, 1)),
}


pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
"""torch.compile looks there, and hides its warning unless warnings are errors."""


@pytest.fixture
def generator(request):
    make, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    return Generator(make(), LatentLaw("normal", shape))


@pytest.fixture
def without_code(monkeypatch):
    """torch.compile that traces a network, and its gradients, but writes no C++: quick."""
    compiles = []

    def compile(function):
        compiles.append(function)
        return trace(function)

    trace = partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", compile)
    run.compiled.cache_clear()
    yield compiles
    run.compiled.cache_clear()
    torch.compiler.reset()


def _images_and_slopes(generator, way):
    """Of three images whose weights differ."""
    rng = torch.Generator().manual_seed(1)
    theta = {
        name: (value + 0.1 * torch.randn(3, *value.shape, generator=rng)).requires_grad_()
        for name, value in generator.parameters().items()
    }
    z = torch.randn(3, *generator.latent.shape, generator=rng).requires_grad_()
    x = way(generator, theta, z)
    return x.detach(), torch.autograd.grad(x.square().sum(), [z, *theta.values()])


@pytest.mark.parametrize("generator", NETWORKS, indirect=True)
def test_in_bfloat16_all_together_is_one_by_one(generator):
    """Under torch.autocast and vmap some convolutions got features of another type than weights."""
    quick = generator.in_bfloat16()
    (a, of_a), (b, of_b) = (_images_and_slopes(quick, w) for w in (one_by_one, all_together))
    exact, of_exact = _images_and_slopes(generator, all_together)
    assert a.dtype == b.dtype == torch.float32
    assert (a - b).norm() < 0.02 * exact.norm()
    assert 0 < (b - exact).norm() < 0.02 * exact.norm()
    expected = torch.cat([slope.flatten() for slope in of_exact])
    for slopes in (of_a, of_b):
        assert all(slope.dtype == torch.float32 for slope in slopes)
        whole = torch.cat([slope.flatten() for slope in slopes])
        assert torch.cosine_similarity(whole, expected, 0) > 0.95


@pytest.mark.parametrize("generator", NETWORKS, indirect=True)
@pytest.mark.parametrize("precise", [True, False], ids=["float32", "bfloat16"])
def test_compiled_it_gives_the_same(generator, precise, without_code):
    generator = generator if precise else generator.in_bfloat16()
    for way in (one_by_one, all_together, lambda g, theta, z: g(z)[:, :, ::2] * theta_sum(theta)):
        (x, slopes), (expected, of_wanted) = (
            _images_and_slopes(g, way) for g in (generator.compiled(), generator)
        )
        torch.testing.assert_close(x, expected)
        torch.testing.assert_close(slopes, of_wanted)
    assert len(without_code) == 3, "each way of running is compiled once"


def theta_sum(theta):
    """So that every weight has a gradient where the network does not use it."""
    return sum(value.square().sum() for value in theta.values())


def test_a_reconstruction_with_a_compiled_prior_is_the_same(monkeypatch, without_code):
    """In whole batches, as on a GPU."""
    monkeypatch.setattr(optimize, "by_rows", lambda device: False)
    torch.manual_seed(0)
    prior = Generator(Began(8, 32, 5), LatentLaw("uniform", (5,)))
    operator = iagan.operators.BicubicDownsample((3, 32, 32), 4)
    y = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found, expected = (
        iagan.reconstruct(iagan.Observation(y, operator), p, "iagan", csgm_steps=4, steps=4)
        for p in (prior.compiled(), prior)
    )
    assert len(without_code) == 2, "CSGM's network and IAGAN's"
    torch.testing.assert_close(found.trace, expected.trace)
    torch.testing.assert_close(found.image, expected.image)


@pytest.mark.parametrize("generator", ["began"], indirect=True)
def test_where_torch_cannot_compile_it_is_said_in_one_line(generator, monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    def fail(*given):
        raise TorchDynamoException("No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", lambda function: fail)
    run.compiled.cache_clear()
    with pytest.raises(
        SettingError, match="got: No working C\\+\\+ compiler found. Go on"
    ) as caught:
        generator.compiled()(torch.zeros(1, 5))
    assert "\n" not in str(caught.value)
    run.compiled.cache_clear()


def test_a_network_of_one_precision_alone_is_refused_before_the_work():
    class Stubborn(Began):
        def forward(self, z):
            return super().forward(z.float())

    generator = Generator(Stubborn(8, 32, 5), LatentLaw("uniform", (5,)))
    with pytest.raises(SettingError, match="in_bfloat16 expects .* Go on in full precision"):
        generator.in_bfloat16()
