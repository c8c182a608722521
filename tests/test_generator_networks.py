"""The networks against their definitions, written out a second time."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap

from iagan.engine import Execution
from iagan.errors import SettingError, ShapeError
from iagan.methods.networks import AdaptedNetworks
from iagan.priors import Began, Generator, NormalLatent, Pggan, SkipNet
from iagan.priors.networks.layers import enlarge_and_convolve


def test_the_default_pggan_has_the_published_size():
    """57 tensors and 23,071,526 numbers: the 1024×1024 network of CelebA-HQ."""
    with torch.device("meta"):
        network = Pggan()
    parameters = list(network.parameters())
    assert len(parameters) == 57
    assert sum(value.numel() for value in parameters) == 23_071_526
    with torch.device("meta"):
        assert network(torch.empty(1, 512, 1, 1)).shape == (1, 3, 1024, 1024)


def test_pggan_starts_with_outputs_of_order_one():
    """Equalized learning rate: unit weights times √2/√fan_in keep the signal's variance."""
    torch.manual_seed(0)
    x = Pggan((64, 64, 32, 32), 64)(torch.randn(16, 64, 1, 1))
    assert 0.3 < x.std() < 3


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_began_makes_images_of_every_size_and_width(size):
    with torch.device("meta"):
        network = Began(channels=24, size=size, latent=7)
        assert network(torch.empty(2, 7)).shape == (2, 3, size, size)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Began(size=48),
        lambda: Began(channels=0),
        lambda: Began(output="relu"),
        lambda: Pggan((8, 8, 8)),
        lambda: Pggan((8,) * 20),
        lambda: Pggan((8, -8)),
        lambda: SkipNet(upsample="cubic"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(make):
    with pytest.raises(SettingError, match="expects") as caught:
        make()
    assert "\n" not in str(caught.value)


# -- the skip network -------------------------------------------------------------------------


def _nested_skip_network(u, weights, scales):
    """DIP's network by its recursive definition, with batch normalisation as its authors have it.

    f_i(x) = up_i(norm(skip_i(x) ⊕ ×2(f_{i+1}(down_i(x))))), f_last(x) = x; then 1×1 and a sigmoid.
    """

    def norm(x, name):
        return F.batch_norm(
            x, None, None, weights[name + ".weight"], weights[name + ".bias"], training=True
        )

    def layer(x, name, stride=1):
        weight = weights[name + ".0.weight"]
        pad = weight.shape[-1] // 2
        x = F.pad(x, (pad,) * 4, mode="reflect")
        x = F.conv2d(x, weight, weights[name + ".0.bias"], stride)
        return F.leaky_relu(norm(x, name + ".1"), 0.2)

    def scale(x, i):
        deep = layer(layer(x, f"down.{i}.0", stride=2), f"down.{i}.1")
        if i + 1 < scales:
            deep = scale(deep, i + 1)
        deep = F.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False)
        # Sides here are even or one too long: the authors' centred crop then drops the last line.
        deep = deep[..., : x.shape[-2], : x.shape[-1]]
        joined = norm(torch.cat([layer(x, f"skip.{i}"), deep], 1), f"up.{i}.0")
        return layer(layer(joined, f"up.{i}.1"), f"up.{i}.2")

    x = F.conv2d(scale(u, 0), weights["rgb.weight"], weights["rgb.bias"])
    return torch.sigmoid(x)


@pytest.mark.parametrize("size", [(16, 24), (13, 18)])
def test_skip_network_is_the_nested_definition_with_batch_norm(size):
    """One image at a time, instance normalisation is the authors' batch normalisation."""
    torch.manual_seed(0)
    network = SkipNet(5, 3, 6, skip_channels=2, scales=3).double()
    for value in network.parameters():
        value.data += 0.1 * torch.randn_like(value)
    u = torch.rand(1, 5, *size, dtype=torch.float64)
    expected = _nested_skip_network(u, dict(network.named_parameters()), scales=3)
    torch.testing.assert_close(network(u), expected)
    assert network(u).shape == (1, 3, *size)


def test_default_skip_network_has_the_authors_layers():
    """Five scales of 128, skips of 4: the parameters counted from the layers' table."""
    conv = lambda i, o, k: i * o * k * k + o + 2 * o  # noqa: E731 - weights, bias, norm
    widths = [32, 128, 128, 128, 128]
    down = sum(conv(w, 128, 3) + conv(128, 128, 3) for w in widths)
    skip = sum(conv(w, 4, 1) for w in widths)
    up = 5 * (2 * 132 + conv(132, 128, 3) + conv(128, 128, 1))
    expected = down + skip + up + 128 * 3 + 3
    assert sum(value.numel() for value in SkipNet().parameters()) == expected


def test_images_of_a_batch_do_not_meet_in_the_skip_network():
    torch.manual_seed(0)
    network = SkipNet(4, 3, 6, scales=3).double()
    u = torch.rand(3, 4, 16, 16, dtype=torch.float64)
    alone = torch.cat([network(u[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(u), alone)


def test_skip_network_refuses_sides_that_vanish():
    with pytest.raises(ShapeError, match=r"sides above 32; got \(32, 64\)"):
        SkipNet()(torch.rand(1, 32, 32, 64))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: SkipNet(4, 3, 6, scales=3), (4, 16, 13)),
        (lambda: Pggan((6, 6, 4, 4), 5), (5, 1, 1)),
        (lambda: Pggan((6, 6), 5, pixel_bias=True), (5, 1, 1)),
        (lambda: Began(4, 32, 5), (5,)),
    ],
    ids=["skip", "pggan", "pggan-pixel-bias", "began"],
)
def test_networks_run_with_weights_of_their_own_for_every_image(make, shape):
    """IAGAN and DIP batch images by vmap over weights: same images and gradients as a loop."""
    torch.manual_seed(0)
    network = make().double()
    inputs = torch.randn(3, *shape, dtype=torch.float64)
    weights = {
        name: value.detach() + 0.1 * torch.randn(3, *value.shape, dtype=torch.float64)
        for name, value in network.named_parameters()
    }

    def image(theta, z):
        return functional_call(network, theta, (z[None],))[0]

    def energy(theta, z):
        return image(theta, z).square().sum()

    together = vmap(image)(weights, inputs)
    slopes = vmap(grad(energy))(weights, inputs)
    for i in range(3):
        theta = {name: value[i] for name, value in weights.items()}
        torch.testing.assert_close(together[i], image(theta, inputs[i]))
        alone = grad(energy)(theta, inputs[i])
        torch.testing.assert_close({name: value[i] for name, value in slopes.items()}, alone)


@pytest.mark.parametrize("count", [1, 2], ids=["a module", "stacked"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: SkipNet(4, 3, 6, scales=3), (4, 16, 16)),
        (lambda: Pggan((6, 6, 4, 4), 5), (5, 1, 1)),
        (lambda: Began(4, 32, 5), (5,)),
    ],
    ids=["skip", "pggan", "began"],
)
def test_gradients_of_all_weights_are_finite_differences(make, shape, count):
    """In the memory layout of a generator: kernels of torch 2.15 are wrong in some layouts."""
    torch.manual_seed(0)
    generator = Generator(make().double(), NormalLatent(shape))
    z = torch.randn(count, *shape, dtype=torch.float64)
    networks = AdaptedNetworks([generator] * count, Execution())
    leaves = {name: value.requires_grad_() for name, value in networks.leaves.items()}
    weigh = torch.randn(count, *generator.image_shape, dtype=torch.float64)
    energy = lambda: (networks(leaves, z) * weigh).sum()  # noqa: E731
    with torch.no_grad():
        for value in leaves.values():
            value += 0.1 * torch.randn_like(value)
    slopes = torch.autograd.grad(energy(), list(leaves.values()))
    for value, slope in zip(leaves.values(), slopes, strict=True):
        move = torch.randn_like(value)
        with torch.no_grad():
            value += 1e-6 * move
            up = energy()
            value -= 2e-6 * move
            down = energy()
            value += 1e-6 * move
        assert math.isclose((slope * move).sum(), (up - down) / 2e-6, rel_tol=1e-4, abs_tol=1e-4)


def test_gradients_of_a_batch_are_the_sum_of_those_of_its_images():
    """Of the network with weights shared by a batch, channels-last as in a generator."""
    torch.manual_seed(0)
    network = SkipNet(4, 3, 6, scales=3).double().to(memory_format=torch.channels_last)
    u = torch.rand(2, 4, 16, 16, dtype=torch.float64)
    weigh = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    weights = list(network.parameters())
    batch = torch.autograd.grad((network(u) * weigh).sum(), weights)
    alone = [
        torch.autograd.grad((network(u[i : i + 1]) * weigh[i : i + 1]).sum(), weights)
        for i in range(2)
    ]
    for together, first, second in zip(batch, *alone, strict=True):
        torch.testing.assert_close(together, first + second)


@pytest.mark.parametrize("biased", [True, False])
def test_enlarging_and_convolving_at_once_is_one_after_the_other(biased):
    """Held against torch's own two steps; the gradients too, which decide every reconstruction."""
    rng = torch.Generator().manual_seed(1)
    x, weight, bias = (
        torch.randn(size, generator=rng, dtype=torch.float64, requires_grad=True)
        for size in ((2, 3, 5, 4), (6, 3, 3, 3), (6,))
    )
    given = (x, weight, bias) if biased else (x, weight)
    output = enlarge_and_convolve(*given)
    enlarged = torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
    expected = torch.nn.functional.conv2d(enlarged, *given[1:], padding=1)
    torch.testing.assert_close(output, expected)
    direction = torch.randn(output.shape, generator=rng, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad(output, given, direction),
        torch.autograd.grad(expected, given, direction),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
