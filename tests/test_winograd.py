"""Winograd's algorithm is the convolution, in value and gradients, and steps aside elsewhere."""

import pytest
import torch
import torch.nn.functional as F

from iagan.priors import Began, Pggan
from iagan.priors.networks import winograd
from iagan.priors.networks.recompute import recomputing
from iagan.priors.networks.winograd import convolve, quick_convolutions


@pytest.fixture(autouse=True)
def as_without_avx512(monkeypatch):
    """Whatever this machine is."""
    monkeypatch.setattr(winograd, "WIDE_VECTORS", False)


def _problem(*shape, outputs, seed=0, dtype=torch.float32):
    """x, weight, bias as leaves, in single precision by default."""
    rng = torch.Generator().manual_seed(seed)
    sizes = (shape, (outputs, shape[1], 3, 3), (outputs,))
    return [torch.randn(size, generator=rng, dtype=dtype).requires_grad_() for size in sizes]


def _with_gradients(convolution, leaves):
    """The result, and the gradients of its product with something random."""
    y = convolution(*leaves)
    rng = torch.Generator().manual_seed(1)
    weights = torch.randn(y.shape, generator=rng, dtype=torch.float64).to(y)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), leaves)]


@pytest.mark.parametrize("batch, height, width", [(1, 32, 32), (3, 36, 64), (2, 40, 32)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_convolution(batch, height, width, layout):
    """Against torch's convolution in double precision."""
    leaves = _problem(batch, 64, height, width, outputs=96)
    laid_out = [leaves[0].detach().to(memory_format=layout).requires_grad_(), *leaves[1:]]
    with quick_convolutions():
        y = convolve(*laid_out)
        assert "_Convolution" in type(y.grad_fn).__name__, "the algorithm was not taken"
        found = _with_gradients(convolve, laid_out)
    doubles = [value.detach().double().requires_grad_() for value in leaves]
    expected = _with_gradients(lambda x, w, b: F.conv2d(x, w, b, padding=1), doubles)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32 and a.shape == b.shape
        assert (a - b).norm() < 5e-6 * b.norm()


def test_a_tile_is_exact_in_double_precision():
    """The matrices themselves: one tile of one channel, by their definition."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(6, 6, generator=rng, dtype=torch.float64)
    w = torch.randn(3, 3, generator=rng, dtype=torch.float64)
    spread = (winograd.INPUT.double() @ x.flatten()) * (winograd.FILTER.double() @ w.flatten())
    y = (winograd.OUTPUT.double() @ spread).view(4, 4)
    expected = F.conv2d(x[None, None], w[None, None])[0, 0]
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)  # 1/6 and 1/12 are float32


def test_only_what_wants_a_gradient_gets_one():
    x, weight, bias = _problem(1, 64, 32, 32, outputs=64)
    weight.requires_grad_(False)
    bias.requires_grad_(False)
    with quick_convolutions():
        y = convolve(x, weight, bias)
    y.sum().backward()
    assert x.grad is not None and weight.grad is None and bias.grad is None


@pytest.mark.parametrize(
    "change",
    [
        *("outside", "several threads", "avx512", "double"),
        *("few channels", "odd side", "small", "autocast"),
    ],
)
def test_it_steps_aside_where_it_does_not_pay_or_knows_too_little(change, monkeypatch):
    side = {"odd side": 34, "small": 16}.get(change, 32)
    channels = 32 if change == "few channels" else 64
    dtype = torch.float64 if change == "double" else torch.float32
    leaves = _problem(1, channels, side, side, outputs=channels, dtype=dtype)
    if change == "several threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    if change == "avx512":
        monkeypatch.setattr(winograd, "WIDE_VECTORS", True)
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        if change == "outside":
            y = convolve(*leaves)
        else:
            with quick_convolutions():
                y = convolve(*leaves)
    assert "_Convolution" not in type(y.grad_fn).__name__


def test_outside_the_second_derivative_is_there():
    """What a user of the network may want; inside it is refused, not wrong."""
    x, weight, bias = _problem(1, 64, 32, 32, outputs=64)

    def gradient():
        return torch.autograd.grad(convolve(x, weight, bias).square().sum(), x, create_graph=True)[
            0
        ]

    assert torch.autograd.grad(gradient().sum(), weight)[0].isfinite().all()
    with quick_convolutions(), pytest.raises(RuntimeError, match="once_differentiable"):
        gradient().sum().backward()


@pytest.mark.parametrize("network", [Began(64, 64, 8), Pggan([64] * 10, latent=8)])
@pytest.mark.parametrize("thrifty", [False, True])
def test_networks_take_it_and_give_the_same(network, thrifty, monkeypatch):
    """Also where layers are computed twice to save memory. Biases of 0 would leave PGGAN's scales
    with gradients of 0, which rounding hides.
    """
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith(".b"):
                value += torch.randn(value.shape, generator=torch.Generator().manual_seed(2))
    shape = (8, 1, 1) if isinstance(network, Pggan) else (8,)
    leaves = [torch.ones(2, *shape, requires_grad=True), *network.parameters()]
    expected = _with_gradients(lambda *all_of_them: network(leaves[0]), leaves)
    taken = []
    algorithm = winograd._convolution
    monkeypatch.setattr(
        winograd, "_convolution", lambda *given: taken.append(1) or algorithm(*given)
    )
    with quick_convolutions():
        if thrifty:
            with recomputing():
                found = _with_gradients(lambda *all_of_them: network(leaves[0]), leaves)
        else:
            found = _with_gradients(lambda *all_of_them: network(leaves[0]), leaves)
    assert len(taken) >= 4, "one layer at 32×32 and one at 64×64, there and back"
    assert (found[0] - expected[0]).norm() < 1e-5 * expected[0].norm()
    for a, b in zip(found[1:], expected[1:], strict=True):
        assert (a - b).norm() < 1e-3 * b.norm()
