"""However a network is run, in bfloat16 or compiled too, it gives the same images and gradients."""

from functools import partial

import pytest
import torch

import iagan
from iagan.engine import Execution
from iagan.errors import SettingError
from iagan.methods import networks
from iagan.methods.networks import AdaptedNetworks, synthesis
from iagan.priors import Began, Generator, NormalLatent, Pggan, UniformLatent

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
    return Generator(make(), NormalLatent(shape))


@pytest.fixture
def without_code(monkeypatch):
    """torch.compile that traces a network, and its gradients, but writes no C++: quick."""
    compiles = []

    def compile(function):
        compiles.append(function)
        return trace(function)

    trace = partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", compile)
    networks._compiled.cache_clear()
    yield compiles
    networks._compiled.cache_clear()
    torch.compiler.reset()


def _images_and_slopes(generator, execution, apart=False):
    """Of three images whose weights differ; `apart`: a module an image."""
    rng = torch.Generator().manual_seed(1)
    stacked = AdaptedNetworks([generator] * 3, execution)
    theta = {
        name: (value + 0.1 * torch.randn(value.shape, generator=rng)).requires_grad_()
        for name, value in stacked.leaves.items()
    }
    z = torch.randn(3, *generator.latent.shape, generator=rng).requires_grad_()
    if not apart:
        x = stacked(theta, z)
        return x.detach(), torch.autograd.grad(x.square().sum(), [z, *theta.values()])
    alone = [AdaptedNetworks([generator], execution) for _ in range(3)]
    for i, one in enumerate(alone):
        for name, weight in one.leaves.items():
            weight.data = theta[name].data[i].clone()
    x = torch.cat([one(one.leaves, z[i : i + 1]) for i, one in enumerate(alone)])
    own = [weight for one in alone for weight in one.leaves.values()]
    of_z, *slopes = torch.autograd.grad(x.square().sum(), [z, *own])
    size = len(theta)
    return x.detach(), [of_z, *(torch.stack(slopes[i::size]) for i in range(size))]


@pytest.mark.parametrize("generator", NETWORKS, indirect=True)
def test_in_bfloat16_stacked_is_a_module_an_image(generator):
    quick = Execution(precision="bfloat16")
    (a, of_a), (b, of_b) = (_images_and_slopes(generator, quick, apart) for apart in (True, False))
    exact, of_exact = _images_and_slopes(generator, Execution())
    assert a.dtype == b.dtype == torch.float32
    for x in (a, b):
        assert 0 < (x - exact).norm() < 0.02 * exact.norm()
    expected = torch.cat([slope.flatten() for slope in of_exact])
    for slopes in (of_a, of_b):
        assert all(slope.dtype == torch.float32 for slope in slopes)
        whole = torch.cat([slope.flatten() for slope in slopes])
        assert torch.cosine_similarity(whole, expected, 0) > 0.95


@pytest.mark.parametrize("generator", NETWORKS, indirect=True)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_it_gives_the_same(generator, precision, without_code):
    plain, quick = Execution(precision=precision), Execution(precision=precision, compile=True)
    (x, slopes), (expected, of_expected) = (
        _images_and_slopes(generator, each) for each in (quick, plain)
    )
    torch.testing.assert_close(x, expected)
    torch.testing.assert_close(slopes, list(of_expected))
    z = torch.randn(3, *generator.latent.shape)
    torch.testing.assert_close(synthesis(generator, quick)(z), synthesis(generator, plain)(z))
    assert len(without_code) == 2, "each way of running is compiled once"


def test_a_reconstruction_with_a_compiled_prior_is_the_same(without_code):
    torch.manual_seed(0)
    prior = Generator(Began(8, 32, 5), UniformLatent((5,)))
    operator = iagan.operators.BicubicDownsample((3, 32, 32), 4)
    y = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    method = iagan.IAGAN(iagan.CSGM(steps=4), steps=4)
    result, expected = (
        iagan.reconstruct(
            iagan.Observation(y, operator), prior, method, execution=Execution(compile=compiled)
        )
        for compiled in (True, False)
    )
    assert len(without_code) == 2, "CSGM's network and IAGAN's"
    torch.testing.assert_close(result.trace, expected.trace)
    torch.testing.assert_close(result.image, expected.image)


@pytest.mark.parametrize("generator", ["began"], indirect=True)
def test_where_torch_cannot_compile_it_is_said_in_one_line(generator, monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    def fail(*given):
        raise TorchDynamoException("No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", lambda function: fail)
    networks._compiled.cache_clear()
    with pytest.raises(SettingError, match="got: No working C\\+\\+ compiler found. Use") as caught:
        synthesis(generator, Execution(compile=True))(torch.zeros(1, 5))
    assert "\n" not in str(caught.value)
    networks._compiled.cache_clear()


def test_a_network_of_one_precision_alone_is_refused_before_the_work():
    class Stubborn(Began):
        def forward(self, z):
            return super().forward(z.float())

    generator = Generator(Stubborn(8, 32, 5), UniformLatent((5,)))
    with pytest.raises(SettingError, match="bfloat16.* expects .* Use float32") as caught:
        AdaptedNetworks([generator] * 2, Execution(precision="bfloat16"))
    assert "\n" not in str(caught.value)
