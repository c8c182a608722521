"""Networks, latent spaces and priors of a user's own: saved, loaded, and run by every method."""

import dataclasses as dc
import sys

import pytest
import safetensors.torch
import torch
from torch import nn

import iagan
from iagan.cli import build_parser, main, options
from iagan.engine.minimize import MinimizeOptions
from iagan.errors import CheckpointError, SettingError
from iagan.methods import Estimate
from iagan.methods.phase import Batch
from iagan.priors import LATENTS, NETWORKS, load_prior, register, register_latent, save_prior
from iagan.priors.base import squared_length


class Smooth(nn.Module):
    """z → 8×8 with fixed noise, smoothed, batch-normalised: buffers of numbers, of integers, and
    one that no file holds.
    """

    def __init__(self, length=5, colours=1):
        super().__init__()
        self.settings = {"length": length, "colours": colours}
        self.linear = nn.Linear(length, colours * 64)
        self.norm = nn.BatchNorm2d(colours)
        self.register_buffer("noise", torch.randn(1, 1, 8, 8))
        self.register_buffer("kernel", torch.full((3, 3), 1 / 9), persistent=False)

    def forward(self, z):
        x = self.linear(z).unflatten(1, (-1, 8, 8)) + self.noise
        kernel = self.kernel.expand(x.shape[1], 1, 3, 3)
        return self.norm(nn.functional.conv2d(x, kernel, padding=1, groups=x.shape[1]))


def trained(module):
    """With statistics that no new network has."""
    module.norm.train()(torch.randn(9, module.settings["colours"], 8, 8) + 2)
    return module


@register_latent
@dc.dataclass(frozen=True, eq=False)
class Layers(iagan.LatentSpace):
    """A toy W+: a latent a layer, spread about a centre."""

    law = "layers"
    centre: torch.Tensor
    spread: float = 1.0

    def sample(self, count, rng):
        return self.centre + self.spread * torch.randn((count, *self.shape), generator=rng)

    def penalty(self, z):
        return squared_length(z - self.mean.to(z)) / self.spread**2

    def project(self, z):
        return self.mean + (z - self.mean).clamp(-self.spread, self.spread)

    @property
    def mean(self):
        return self.centre.expand(self.shape)


class LayerWise(nn.Module):
    """(batch, 2, 5) → 1×8×8: each layer of the latent adds an image."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 64), nn.Linear(5, 64)

    def forward(self, w):
        return torch.tanh(self.first(w[:, 0]) + self.second(w[:, 1])).view(-1, 1, 8, 8)


class Placed(nn.Module):
    """A photograph with the inner network's square in it."""

    def __init__(self, inner, photo, top, left):
        super().__init__()
        self.inner, self.top, self.left = inner, top, left
        self.register_buffer("photo", photo)

    def forward(self, z):
        square = self.inner(z)
        below = self.photo.shape[-2] - self.top - square.shape[-2]
        right = self.photo.shape[-1] - self.left - square.shape[-1]
        edges = (self.left, right, self.top, below)
        outside = nn.functional.pad(torch.zeros_like(square), edges, value=1.0)
        return nn.functional.pad(square, edges) + outside * self.photo


# -- files ------------------------------------------------------------------------------------


@pytest.fixture
def smooth_registered(monkeypatch):
    monkeypatch.setitem(NETWORKS, "smooth", Smooth)


@pytest.mark.parametrize("colours", [1, 3, 5])
def test_a_registered_network_comes_back_with_its_buffers(smooth_registered, tmp_path, colours):
    torch.manual_seed(0)
    about = iagan.About("blurred", "smooth", "CC0-1.0", "a test")
    prior = iagan.Generator(trained(Smooth(4, colours)), "uniform:4", (0.0, 2.0), about)
    save_prior(prior, tmp_path / "p.safetensors")
    state = torch.get_rng_state()
    again = load_prior(tmp_path / "p.safetensors")
    assert torch.equal(torch.get_rng_state(), state), "loading draws nothing from torch's stream"
    z = torch.randn(3, 4)
    assert torch.equal(again(z), prior(z))
    assert again.image_shape == (colours, 8, 8)
    assert (again.about, again.latent, again.value_range) == (about, prior.latent, (0.0, 2.0))
    assert again.module.norm.num_batches_tracked.dtype == torch.int64
    y = iagan.observe(prior(z).clamp(0, 1), iagan.operators.Identity(prior.image_shape))
    assert iagan.reconstruct(y, again, iagan.CSGM(3)).image.shape == (3, colours, 8, 8)


def test_a_function_is_a_factory_too_and_an_encoder_is_a_network(tmp_path):

    class Encoder(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(64, 5))

    def make(length=5):
        module = nn.Sequential(nn.Linear(length, 64), nn.Unflatten(1, (1, 8, 8)))
        module.settings = {"length": length}
        return module

    try:
        register("flat", make)
        register("flat-encoder", Encoder)
        about = iagan.About(architecture="flat")
        prior = iagan.Generator(make(), "normal:5", about=about, encoder=Encoder())
        save_prior(prior, tmp_path / "p.safetensors")
        again = load_prior(tmp_path / "p.safetensors")
        x = torch.rand(2, 1, 8, 8)
        assert torch.equal(again.encode(x), prior.encode(x))
        register("flat", make)  # as a module that is imported anew does
        with pytest.raises(SettingError, match="not in use"):
            register("flat", Smooth)
        longer = make(7)
        longer.settings = {"length": 5}
        with pytest.raises(SettingError, match="settings that recreate 'flat'"):
            save_prior(iagan.Generator(longer, "normal:7", about=about), tmp_path / "q.safetensors")
    finally:
        NETWORKS.pop("flat", None)
        NETWORKS.pop("flat-encoder", None)


def test_a_latent_space_keeps_its_tensors_in_the_file(monkeypatch, tmp_path):
    monkeypatch.setitem(NETWORKS, "layer-wise", LayerWise)
    space = Layers((2, 5), torch.linspace(-1, 1, 5), 0.25)
    prior = iagan.Generator(LayerWise(), space)
    save_prior(prior, tmp_path / "p.safetensors")
    again = load_prior(tmp_path / "p.safetensors").latent
    assert (again.shape, again.spread) == ((2, 5), 0.25)
    assert torch.equal(again.centre, space.centre)
    monkeypatch.delitem(LATENTS, "layers")
    with pytest.raises(CheckpointError, match="law as one of normal"):
        load_prior(tmp_path / "p.safetensors")
    with pytest.raises(SettingError, match="registered latent space"):
        save_prior(prior, tmp_path / "p.safetensors")
    with pytest.raises(SettingError, match="not in use"):
        register_latent(type("Other", (Layers,), {"law": "normal"}))


def test_a_saved_prior_of_a_network_that_is_not_registered(tmp_path):
    path = tmp_path / "p.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "smooth", Smooth)
        prior = iagan.Generator(trained(Smooth()), "normal:5")
        save_prior(prior, path)
    with pytest.raises(CheckpointError, match="'smooth'; known: began"):
        load_prior(path)
    again = load_prior(path, network=Smooth)
    assert torch.equal(again(torch.ones(1, 5)), prior(torch.ones(1, 5)))
    with pytest.raises(SettingError, match="leave latent out"):
        load_prior(path, network=Smooth, latent="normal:5")


# -- methods ----------------------------------------------------------------------------------


def test_a_latent_a_layer_with_a_mean_fits_every_method():
    """CSGM starts about the mean, stays near where it is bounded, and pays for leaving."""
    torch.manual_seed(0)
    space = Layers((2, 5), torch.linspace(2, 3, 5), 0.1)
    prior = iagan.Generator(LayerWise(), space)
    x = prior(torch.randn(2, 2, 5))
    y = iagan.observe(x, iagan.operators.Inpaint.random((1, 8, 8), 0.5, seed=0))
    y = dc.replace(y, noise_std=0.05)
    start = iagan.reconstruct(y, prior, iagan.CSGM(0)).latent
    assert (start - space.mean).abs().max() < 0.5
    free, bounded, result = (
        iagan.reconstruct(y, prior, iagan.CSGM(150, **options))
        for options in ({}, {"bounded": True}, {"latent_prior_weight": 0.1})
    )
    free, bounded, held = free.latent, bounded.latent, result.latent
    misfit = y.operator.misfit(result.image, y.y)
    torch.testing.assert_close(result.trace.amin(1), misfit * (0.1 * space.penalty(held)).exp())
    assert (free - space.mean).abs().max() > 0.2
    assert (bounded - space.mean).abs().max() <= 0.1 + 1e-5
    assert space.penalty(held).max() < space.penalty(free).min()
    assert iagan.presets.fast("csgm", y, prior).latent_prior_weight == 1 / y.operator.m
    assert iagan.reconstruct(y, prior, iagan.IAGAN(iagan.CSGM(5), 5)).latent.shape == (2, 2, 5)


def test_the_encoder_gives_way_to_a_mean_that_fits_better():
    torch.manual_seed(0)
    space = Layers((2, 5), torch.linspace(-1, 1, 5))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    prior = iagan.Generator(LayerWise(), space, encoder=encoder)
    y = iagan.observe(prior(space.mean[None]), iagan.operators.Identity((1, 8, 8)))
    result = iagan.reconstruct(y, prior, iagan.CSGM(0, first_start="encoder"))
    assert torch.equal(result.latent[0], space.mean)


def test_a_prior_placed_in_a_photograph_changes_its_square_alone():
    torch.manual_seed(0)
    inner, photo = LayerWise(), 2 * torch.rand(1, 1, 20, 24) - 1
    space = Layers((2, 5), torch.zeros(5))
    prior = iagan.Generator(Placed(inner, photo, 4, 9), space)
    assert prior.image_shape == (1, 20, 24)
    x = prior(space.sample(2, torch.Generator().manual_seed(1)))
    y = iagan.observe(x, iagan.operators.UniformBlur((1, 20, 24), size=3))
    outside = torch.ones(20, 24, dtype=torch.bool)
    outside[4:12, 9:17] = False
    around = (photo[..., outside] / 2 + 0.5).expand(2, 1, -1)
    for method in (
        iagan.CSGM(100, optimizer="lbfgs", restarts=2),
        iagan.IAGAN(iagan.CSGM(100), 50, weight_rate=1e-3),
    ):
        image = iagan.reconstruct(y, prior, method).image
        torch.testing.assert_close(image[..., outside], around)
        assert (image - x)[..., ~outside].abs().mean() < 0.05


def test_the_spheres_latents_are_all_as_likely():
    space = iagan.SphericalLatent((3, 1, 1))
    z = torch.randn(4, 3, 1, 1)
    assert torch.equal(space.penalty(z), torch.zeros(4))
    torch.testing.assert_close(space.project(z).flatten(1).norm(dim=1), torch.full((4,), 3**0.5))
    assert torch.equal(space.project(2 * z).sign(), z.sign())
    assert torch.equal(space.mean, torch.zeros(3, 1, 1))


class Shrinking(iagan.Prior):
    """A prior that is no generator: a denoiser that draws images towards a grey."""

    image_shape = (1, 8, 8)

    def __init__(self, grey):
        self.about, self.grey = iagan.About("shrinking"), grey

    def parameters(self):
        return {"grey": self.grey}

    def to(self, device, dtype=None):
        return Shrinking(self.grey.to(device, dtype))


@dc.dataclass(frozen=True)
class Towards(iagan.Method):
    """Two variables of each image, an offset and a contrast about the prior's grey."""

    kind = "towards"

    def run(self, task):
        x, grey = task.observation.operator.naive(task.observation.y), task.prior.grey

        def make(problems, checkpointing):
            def objective(leaves, step, among):
                contrast = leaves["contrast"][:, None, None, None]
                image = grey + contrast * (x[problems][among] - grey)
                image = image + leaves["offset"][:, None, None, None]
                return task.misfit(image, problems[among]), image

            start = {"contrast": torch.zeros(len(problems)), "offset": torch.zeros(len(problems))}
            return Batch(objective, start, MinimizeOptions(30, None))

        everything = torch.arange(task.count)
        return Estimate.of(task.minimize("towards", make, everything, together=True))


def test_a_prior_that_is_no_generator_serves_the_methods_that_ask_for_it():
    prior = Shrinking(torch.tensor(0.25))
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = iagan.observe(x, iagan.operators.Identity((1, 8, 8)))
    result = iagan.reconstruct(y, prior, Towards())
    torch.testing.assert_close(result.image, x, rtol=0, atol=1e-3)
    assert set(result.variables) == {"contrast", "offset"}
    torch.testing.assert_close(result.variables["contrast"], torch.ones(6), rtol=0, atol=1e-2)
    assert result.latent is None
    with pytest.raises(SettingError, match="expects an iagan.Generator as its prior; got Shrink"):
        iagan.reconstruct(y, prior, "csgm")


def test_a_reconstruction_holds_what_was_fitted_but_no_weights():
    torch.manual_seed(0)
    prior = iagan.Generator(LayerWise(), "normal:2x5")
    y = iagan.observe(prior(torch.randn(2, 2, 5)), iagan.operators.Identity((1, 8, 8)))
    result = iagan.reconstruct(y, prior, iagan.IAGAN(iagan.CSGM(3), 3))
    assert list(result.variables) == ["z"]
    assert result.latent is result.variables["z"]


# -- module:factory ---------------------------------------------------------------------------


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """A file in the working directory that makes a network of three channels."""
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Linear(4, 192), nn.Unflatten(1, (3, 8, 8)),\n"
        "                         nn.BatchNorm2d(3), nn.Tanh())\n"
        "seven = 7\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "my_networks:make"
    sys.modules.pop("my_networks", None)


def _write_state(path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 192), nn.Unflatten(1, (3, 8, 8)), nn.BatchNorm2d(3), nn.Tanh()
    )
    network[2](torch.randn(9, 3, 8, 8) + 1)
    write = safetensors.torch.save_file if path.suffix == ".safetensors" else torch.save
    write(network.state_dict(), path)
    return network.eval()


@pytest.mark.parametrize("file", ["state.pth", "state.safetensors"])
def test_a_state_dict_of_your_own_network(file, factory, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    network = _write_state(tmp_path / file)
    prior = load_prior(file, network=factory, latent="normal:4")
    z = torch.randn(2, 4)
    torch.testing.assert_close(prior(z), (network(z) + 1) / 2)
    assert (prior.latent, prior.about.name) == (iagan.NormalLatent((4,)), "state")


def test_the_command_line_runs_your_own_network(factory, tmp_path):
    _write_state(tmp_path / "state.pth")
    iagan.save_image(torch.rand(1, 3, 4, 4), tmp_path / "photo.png")
    own = ["--prior", factory, "--weights", "state.pth", "--latent", "normal:4"]
    made = ["--operator", "bicubic", "--scale", "2", "--method", "csgm", "--csgm-steps", "3"]
    assert main(["reconstruct", "photo.png", *own, *made, "-o", "out.png"]) == 0
    assert iagan.load_image(tmp_path / "out.png").shape == (1, 3, 8, 8)
    seen = ["--operator", "bicubic", "--scale", "2", "-o", "y.npz"]
    assert main(["observe", "out.png", *own, *seen]) == 0
    assert iagan.load_observation("y.npz").operator.image_shape == (3, 8, 8)
    args = build_parser().parse_args(["demo", *own, "-o", "figures"])
    assert options.load_generator(args).image_shape == (3, 8, 8)
    assert main(["reconstruct", "photo.png", *own[4:], *made, "-o", "other.png"]) == 2


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"network": "my_networks:make"}, SettingError, "also expects latent"),
        ({"latent": "normal:4"}, SettingError, "only together with network"),
        ({"network": "no_such:make", "latent": "normal:4"}, SettingError, "No module named"),
        ({"network": "my_networks:none", "latent": "normal:4"}, SettingError, "no attribute"),
        ({"network": "my_networks", "latent": "normal:4"}, SettingError, "module:factory"),
        ({"network": "my_networks:seven", "latent": "normal:4"}, SettingError, "a int"),
        ({"network": "my_networks:make", "latent": "normal"}, SettingError, "normal:512"),
        ({"network": "my_networks:make", "latent": "cauchy:4"}, SettingError, "one of normal"),
        ({"network": LayerWise, "latent": "normal:4"}, CheckpointError, "missing first.weight"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(given, error, words, factory, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    _write_state(tmp_path / "state.pth")
    with pytest.raises(error, match=words) as caught:
        load_prior("state.pth", **given)
    assert "\n" not in str(caught.value)
