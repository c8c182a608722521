"""Generator: a network as a prior, in [0, 1], never changed; names of priors."""

import hashlib
import json

import pytest
import torch
from torch import nn

from iagan.engine import Execution
from iagan.errors import FileError, IaganError, SettingError, ShapeError
from iagan.methods.networks import AdaptedNetworks, synthesis
from iagan.priors import (
    PRIORS,
    Began,
    Crop,
    Generator,
    NormalLatent,
    UniformLatent,
    available_priors,
    load_prior,
    parse_latent,
    save_prior,
)


def _module():
    return nn.Sequential(nn.Linear(4, 48), nn.Dropout(0.5), nn.Unflatten(1, (3, 4, 4)))


def test_images_are_mapped_from_the_value_range_without_clamping():
    network = _module()
    generator = Generator(network, NormalLatent((4,)), (-2.0, 6.0))
    z = torch.randn(5, 4)
    expected = (network.eval()(z) + 2) / 8
    torch.testing.assert_close(generator(z), expected)
    assert generator.image_shape == (3, 4, 4)


def test_the_callers_network_is_copied():
    """Values in, values out: neither its mode nor its gradients change, nor can it change ours."""
    network = _module()
    generator = Generator(network, NormalLatent((4,)))
    before = generator(torch.ones(1, 4))
    assert network.training
    assert network[0].weight.requires_grad
    network[0].weight.data.zero_()
    torch.testing.assert_close(generator(torch.ones(1, 4)), before)


def test_to_gives_a_copy_in_another_precision():
    generator = Generator(_module(), NormalLatent((4,)))
    double = generator.to("cpu", torch.float64)
    assert double(torch.ones(1, 4, dtype=torch.float64)).dtype == torch.float64
    assert generator(torch.ones(1, 4)).dtype == torch.float32


def test_an_adapted_network_is_a_copy():
    """Its weights are those of the prior at first; moving them changes it alone."""
    generator = Generator(_module(), NormalLatent((4,)))
    z = torch.randn(2, 4)
    before = generator(z)
    adapted = AdaptedNetworks([generator], Execution())
    torch.testing.assert_close(adapted(adapted.leaves, z), before)
    with torch.no_grad():
        for weight in adapted.leaves.values():
            weight.zero_()
    torch.testing.assert_close(adapted(adapted.leaves, z), torch.full((2, 3, 4, 4), 0.5))
    torch.testing.assert_close(generator(z), before)


def test_in_bfloat16_the_network_alone_loses_precision():
    """Weights, latents, images and gradients stay float32; the image differs by bfloat16's step."""
    torch.manual_seed(0)
    generator = Generator(Began(8, 32, 6), UniformLatent((6,)))
    z = torch.rand(2, 6, requires_grad=True)
    exact, x = (synthesis(generator, Execution(precision=p))(z) for p in ("float32", "bfloat16"))
    assert torch.equal(exact, generator(z))
    assert torch.equal(synthesis(generator, Execution(precision="mixed"))(z), x)
    assert torch.equal(synthesis(generator, Execution(precision="bfloat16"), exact=True)(z), exact)
    assert x.dtype == torch.float32
    assert 0 < (x - exact).abs().max() < 2**-6
    slope, expected = (torch.autograd.grad(each.square().sum(), z)[0] for each in (x, exact))
    assert slope.dtype == torch.float32
    assert (slope - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_a_prior_made_without_gradients_can_be_differentiated_through(guard):
    with guard():
        generator = Generator(_module(), NormalLatent((4,)))
    z = torch.randn(2, 4, requires_grad=True)
    generator(z).sum().backward()
    assert z.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("law", "mean", "std"), [("uniform", 0, 3**-0.5), ("normal", 0, 1), ("spherical", 0, 1)]
)
def test_latents_follow_their_law_and_seed(law, mean, std):
    space = parse_latent(f"{law}:50x2")
    z = space.sample(200, torch.Generator().manual_seed(3))
    assert z.shape == (200, 50, 2)
    assert abs(z.mean() - mean) < 0.03
    assert abs(z.std() - std) < 0.03
    torch.testing.assert_close(z, space.sample(200, torch.Generator().manual_seed(3)))
    if law == "uniform":
        assert -1 <= z.min() < -0.99
        assert 0.99 < z.max() <= 1


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Generator(_module(), NormalLatent((5,))), ShapeError),
        (lambda: Generator(nn.Linear(4, 4), NormalLatent((4,))), ShapeError),
        (lambda: Generator(_module(), NormalLatent((4,)), (1.0, -1.0)), SettingError),
        (lambda: save_prior(Generator(_module(), NormalLatent((4,))), "x"), SettingError),
    ],
    ids=["latent-shape", "no-image", "value-range", "save-custom"],
)
def test_what_is_no_generator_is_refused_in_one_line(make, error):
    with pytest.raises(error) as caught:
        make()
    assert "\n" not in str(caught.value)


# -- names ------------------------------------------------------------------------------------


def test_known_priors_say_their_license_and_are_plain_data():
    assert [prior.name for prior in available_priors()] == list(PRIORS)
    for prior in available_priors():
        assert prior.license
        assert prior.source.startswith("https://") or prior.availability == "bundled"
        assert prior.architecture in ("began", "pggan", "tapered")
        assert "\n" not in prior.describe()
        assert prior.name in prior.describe()


def test_priors_are_listed_by_unique_names():
    """A name twice in priors.json would hide one of the two."""
    from importlib.resources import files

    entries = json.loads((files("iagan") / "data" / "priors.json").read_text("utf-8"))
    assert len(entries) == len(PRIORS)


def test_a_known_prior_that_no_program_can_fetch_says_what_to_do():
    with pytest.raises(IaganError, match=r"Get karras2018iclr.*give its path") as caught:
        load_prior("pggan-1024-nvidia")
    assert "CC BY-NC 4.0" in str(caught.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SettingError, match=r"'fases'.*began-64-anantzoid"):
        load_prior("fases")


@pytest.mark.parametrize("path", ["nowhere.pth", "no/where", "./fases"])
def test_a_path_that_is_not_there_is_a_file_error(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match="No checkpoint at"):
        load_prior(path)


@pytest.mark.parametrize(
    ("name", "side", "crop"),
    [
        ("faces", 128, Crop((178, 218), (89, 124), 128)),
        ("faces-64", 64, Crop((178, 218), (89, 121), 112)),
    ],
)
def test_a_prior_in_the_package_is_the_listed_file_and_small(name, side, crop):
    """Offline, from any clone: at most 8 MB, what priors.json says, and it makes images."""
    from importlib.resources import files

    entry = PRIORS[name]
    content = (files("iagan") / "data" / entry.file).read_bytes()
    assert len(content) == entry.bytes <= 8_000_000
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert entry.availability == "bundled"
    prior = load_prior(name)
    assert prior.about.license == entry.license
    assert "LICENSE-faces.txt" in entry.describe()
    assert (files("iagan") / "data" / "LICENSE-faces.txt").is_file()
    assert prior.about.crop == crop
    assert prior.image_shape == (3, side, side)
    images = prior(prior.latent.sample(16, torch.Generator().manual_seed(0)))
    assert images.shape == (16, *prior.image_shape)
    assert -0.25 <= images.min() <= images.max() <= 1.25
    assert images.std(0).mean() > 0.1, "samples differ from one another"


def test_the_repr_of_a_prior_is_one_line_that_tells_what_it_is():
    assert repr(load_prior("faces")) == (
        "Generator('faces', architecture='tapered', image_shape=(3, 128, 128), "
        "latent=NormalLatent((256,)))"
    )
