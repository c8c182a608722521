"""The tapered decoder and its encoder: by definition, within their bounds, saved and loaded."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

import iagan
from helpers import as_users_run_it
from iagan.errors import CheckpointError, SettingError, ShapeError
from iagan.priors.networks.tapered import Tapered, TaperedEncoder, side_of

CHANNELS, ENCODER = (6, 5, 4), (4, 6)


def small(encoder=True, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Tapered(CHANNELS, latent=7)
        network = TaperedEncoder(ENCODER, outputs=7) if encoder else None
    about = iagan.About("small", "tapered", "CC0-1.0", "a test")
    return iagan.Generator(decoder, iagan.NormalLatent((7,)), about=about, encoder=network)


def plainly(decoder: Tapered, z: torch.Tensor) -> torch.Tensor:
    """As its docstring says, one layer after another."""
    x = F.leaky_relu(decoder.linear(z).view(len(z), -1, 4, 4), 0.2)
    for index, (first, second) in enumerate(zip(decoder.convs, decoder.residuals, strict=True)):
        if index > 0:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = F.leaky_relu(first(x), 0.2)
        x = F.leaky_relu(x + second(x), 0.2)
    return decoder.rgb(x)


def test_the_decoder_is_its_layers_one_after_another():
    decoder = Tapered(CHANNELS, latent=7).double()
    z = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).double()
    assert decoder(z).shape == (3, 3, 16, 16)
    torch.testing.assert_close(decoder(z), plainly(decoder, z))


def test_the_default_network_is_quick_and_small():
    """Issue: at most 3.5 GFLOP a forward pass, plain, and 8 MB in fp16 with its encoder."""
    decoder, encoder = Tapered(), TaperedEncoder()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        image = plainly(decoder, torch.zeros(1, 256))
    assert image.shape == (1, 3, 128, 128)
    assert counter.get_total_flops() < 3.5e9
    weights = sum(p.numel() for net in (decoder, encoder) for p in net.parameters())
    assert 2 * weights < 8_000_000
    assert encoder(image).shape == (1, 256)


@pytest.mark.parametrize("channels", [(8,), (8, 8, 8, 8), CHANNELS])
def test_the_number_of_channels_gives_the_size(channels):
    decoder = Tapered(channels, latent=2, colours=1)
    side = side_of(channels)
    assert decoder(torch.zeros(1, 2)).shape == (1, 1, side, side)


@pytest.mark.parametrize(
    "bad", [{"channels": ()}, {"channels": (4, 0)}, {"channels": "44"}, {"latent": 0}]
)
def test_impossible_settings_are_refused(bad):
    with as_users_run_it(), pytest.raises(SettingError):
        Tapered(**{"channels": CHANNELS, "latent": 3, **bad})


@pytest.mark.parametrize("encoder", [True, False])
def test_a_saved_prior_comes_back_with_its_encoder(tmp_path, encoder):
    prior = small(encoder)
    path = tmp_path / "p.safetensors"
    iagan.save_prior(prior, path)
    again = iagan.load_prior(str(path))
    z = prior.latent.sample(2, torch.Generator().manual_seed(1))
    torch.testing.assert_close(again(z), prior(z), rtol=0, atol=0)
    assert again.about == prior.about
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    if not encoder:
        assert again.encode(x) is None
    else:
        torch.testing.assert_close(again.encode(x), prior.encode(x), rtol=0, atol=0)
        assert again.encode(x).shape == (2, 7)
    assert not any(name.startswith("encoder") for name in again.parameters())


def test_the_encoder_sees_the_networks_own_range():
    prior = small()
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(prior.encode(x), prior.encoder(2 * x - 1))


def test_an_encoder_of_other_latents_or_images_is_refused():
    prior = small()
    with pytest.raises(ShapeError, match="latents"):
        iagan.Generator(prior.module, prior.latent, encoder=TaperedEncoder(ENCODER, outputs=6))
    with pytest.raises(ShapeError, match="encoder of images"):
        iagan.Generator(prior.module, prior.latent, encoder=TaperedEncoder((4,), outputs=7))


def test_an_encoder_that_is_not_whole_is_named(tmp_path):
    path = tmp_path / "p.safetensors"
    iagan.save_prior(small(), path)
    with safe_open(path, "pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    less = {name: value for name, value in tensors.items() if name != "encoder.linear.bias"}
    save_file(less, path, header)
    with pytest.raises(CheckpointError, match=r"TaperedEncoder.*linear\.bias"):
        iagan.load_prior(str(path))
    wrong = {**header, "encoder": json.dumps({"channels": [4, 6], "outputs": "7", "colours": 3})}
    save_file(tensors, path, wrong)
    with as_users_run_it(), pytest.raises(CheckpointError, match="outputs"):
        iagan.load_prior(str(path))


def test_the_prior_faces_is_the_networks_and_reconstructs_a_face():
    """Its encoder finds a face that it never saw, also when it is blurred."""
    prior = iagan.load_prior("faces")
    assert prior.image_shape == (3, 128, 128)
    assert prior.about.architecture == "tapered"
    truth = iagan.images.crop_square(iagan.images.astronaut(), None, prior.about.crop, (128, 128))
    blur = iagan.operators.UniformBlur((3, 128, 128), size=9)
    with as_users_run_it():
        for picture, least in ((truth, 18.0), (blur(truth), 17.0)):
            estimate = prior(prior.encode(picture))
            assert iagan.measure.psnr(estimate, truth) > least
        unlike = prior(torch.zeros(1, 256))
    assert iagan.measure.psnr(unlike, truth) < 15.0
