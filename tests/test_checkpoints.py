"""Weights in the layouts of published BEGANs, and our own format, read back as one function.

The expected images come from a second forward pass, written here from the layouts' descriptions on
the raw arrays, with sums over kernel positions in place of library convolutions.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from iagan.priors import Crop, load_prior, save_prior
from published import (
    assert_same,
    began_arrays,
    began_state,
    column,
    conv,
    elu,
    latents,
    nvidia_variables,
    save_nvidia,
    save_torch,
    twice,
    zoo_state,
)

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights"
CELEBA = Crop(photo_size=(178, 218), center=(89, 121), side=112)


def began_forward(layers, z, output):
    (w, b), *convs, (w_last, b_last) = layers
    x = (z @ w.T + b).reshape(len(z), -1, 8, 8)
    for index, (weight, bias) in enumerate(convs):
        if index in (2, 4, 6, 8):
            x = twice(x)
        x = elu(conv(x, weight) + column(bias))
    return output(conv(x, w_last) + column(b_last))


BEGAN = {
    "anantzoid-64": (64, "l0 l1 l2 l3 l4 l5 l6 l7 l8 l9", np.tanh, CELEBA),
    "anantzoid-128": (128, "l0 l1 l2 l3 l4 l5 l6 l7 l8 l10 l11 l9", np.tanh, None),
    "sunshineatnoon-64": (
        64,
        "embed1 deconv1.0 deconv1.2 deconv2.0 deconv2.2 deconv3.0 deconv3.2 "
        "deconv4.0 deconv4.2 deconv4.4",
        np.tanh,
        CELEBA,
    ),
    "sunshineatnoon-128": (
        128,
        "embed1 deconv1.0 deconv1.2 deconv2.0 deconv2.2 deconv3.0 deconv3.2 "
        "deconv4.0 deconv4.2 deconv5.0 deconv5.2 deconv5.4",
        np.array,
        None,
    ),
    "carpedm20-64": (
        64,
        "fc conv.0 conv.2 conv.5 conv.7 conv.10 conv.12 conv.15 conv.17 conv.19",
        elu,
        None,
    ),
    "carpedm20-32": (32, "fc conv.0 conv.2 conv.5 conv.7 conv.10 conv.12 conv.14", elu, None),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", BEGAN)
def test_began_layouts_in_torch_files(layout, legacy, tmp_path):
    size, modules, output, crop = BEGAN[layout]
    layers = began_arrays(size)
    save_torch(began_state(modules.split(), layers), tmp_path / "g.pth", legacy)
    prior = load_prior(tmp_path / "g.pth")
    z = latents(prior)
    assert prior.latent.law == "uniform"
    assert prior.image_shape == (3, size, size)
    assert prior.about.architecture == "began"
    assert prior.about.crop == crop
    assert_same(prior, z, began_forward(layers, z.double().numpy(), output))


TF_NAMES = {
    "slim": ("G/fully_connected", "G/Conv", "weights", "biases", ""),
    "layers": ("model/G/fully_connected", "model/G/conv2d", "kernel", "bias", ":0"),
}


@pytest.mark.parametrize("style", TF_NAMES)
def test_began_of_carpedm20_in_tensorflow(style, tmp_path):
    """HWIO kernels, transposed matrix, other variables of the training beside them; no tanh."""
    dense, convs, weight, bias, end = TF_NAMES[style]
    layers = began_arrays(32)
    names = [dense, convs, *(f"{convs}_{i}" for i in range(1, len(layers) - 1))]
    variables = {"D/Conv/weights": np.zeros((3, 3, 3, 6)), "step": np.array(7)}
    for name, (w, b) in zip(names, layers, strict=True):
        axes = (1, 0) if w.ndim == 2 else (2, 3, 1, 0)
        variables[f"{name}/{weight}{end}"] = w.transpose(axes)
        variables[f"{name}/{bias}{end}"] = b
        variables[f"{name}/{weight}/Adam{end}"] = w.transpose(axes) * 0
    np.savez(tmp_path / "began.npz", **variables)
    prior = load_prior(tmp_path / "began.npz")
    z = latents(prior)
    assert_same(prior, z, began_forward(layers, z.double().numpy(), np.array))


def test_data_parallel_prefix_and_half_precision_are_understood(tmp_path):
    layers = [(w.astype(np.float16), b.astype(np.float16)) for w, b in began_arrays(64)]
    state = began_state(BEGAN["anantzoid-64"][1].split(), layers)
    save_torch({f"module.{key}": value.half() for key, value in state.items()}, tmp_path / "g.pt")
    prior = load_prior(tmp_path / "g.pt")
    assert {value.dtype for value in prior.parameters().values()} == {torch.float32}
    z = latents(prior)
    layers = [(w.astype(float), b.astype(float)) for w, b in layers]
    assert_same(prior, z, began_forward(layers, z.double().numpy(), np.tanh))


# -- our own format ---------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["began", "nvidia", "zoo"])
def test_a_converted_checkpoint_is_the_same_function(layout, tmp_path, monkeypatch):
    """Published file → Generator → safetensors → Generator: same images, same metadata."""
    path = tmp_path / "published"
    if layout == "began":
        save_torch(began_state(BEGAN["carpedm20-32"][1].split(), began_arrays(32)), path)
    elif layout == "nvidia":
        save_nvidia(nvidia_variables(True), path, monkeypatch)
    else:
        save_torch({"avgG": zoo_state("", ".module")}, path)
    first = load_prior(path)
    save_prior(first, tmp_path / "deep" / "prior.safetensors")
    again = load_prior(tmp_path / "deep" / "prior.safetensors")
    z = latents(first)
    assert torch.equal(first(z), again(z))
    assert again.about == first.about
    assert again.latent == first.latent
    assert again.value_range == first.value_range
    assert again.module.settings == first.module.settings


def test_half_precision_priors_are_read_as_float32(tmp_path):
    save_torch(began_state(BEGAN["anantzoid-64"][1].split(), began_arrays(64)), tmp_path / "p")
    first = load_prior(tmp_path / "p")
    save_prior(first.to("cpu", torch.float16), tmp_path / "half.safetensors")
    save_prior(first, tmp_path / "full.safetensors")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    again = load_prior(tmp_path / "half.safetensors")
    assert sizes[0] < 0.6 * sizes[1]
    assert {value.dtype for value in again.parameters().values()} == {torch.float32}
    z = latents(first)
    torch.testing.assert_close(again(z), first(z), rtol=0, atol=0.02)
    assert again.about.crop == CELEBA


# -- the real files ---------------------------------------------------------------------------

REAL = {
    "began64-celeba-anantzoid.pth": "4c935bc0",
    "began64-celeba-sunshineatnoon.pth": "6a9b0f4d",
}


@pytest.mark.parametrize("file", REAL)
def test_real_checkpoints_draw_faces(file):
    """In range by themselves, varied, and mirror-symmetric on average, as centred faces are."""
    path = WEIGHTS / file
    if not path.is_file():
        pytest.skip("the published checkpoints are not here")
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(REAL[file])
    prior = load_prior(path)
    samples = prior(latents(prior, 64))
    assert 0 <= samples.min() < 0.1
    assert 0.9 < samples.max() <= 1
    assert samples.std(0).mean() > 0.1
    assert prior.about.crop == CELEBA
    average = samples.mean(0)
    centred = average - average.mean()
    mirrored = torch.nn.functional.cosine_similarity(
        centred.flatten(), centred.flip(2).flatten(), dim=0
    )
    assert mirrored > 0.9
    face, corners = average[:, 20:48, 20:44], average[:, :8, [0, 1, 2, 61, 62, 63]]
    assert face[0].mean() > face[2].mean() + 0.1
    assert face.mean() > corners.mean()
