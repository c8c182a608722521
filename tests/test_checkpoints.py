"""Every published layout: weights written as its program writes them, read back as one function.

The expected images come from a second forward pass, written here from the layouts' descriptions on
the raw arrays, with sums over kernel positions in place of library convolutions.
"""

import collections
import hashlib
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from iagan.generators import Crop, load_prior, save_prior

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights"
CELEBA = Crop(photo_size=(178, 218), center=(89, 121), side=112)


# -- arithmetic by definition, float64 --------------------------------------------------------


def conv(x, w):
    """Cross-correlation with zero padding that keeps the size; w is (out, in, row, column)."""
    k = w.shape[-1]
    h, width = x.shape[-2:]
    x = np.pad(x, [(0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    terms = (
        np.einsum("bchw,oc->bohw", x[:, :, i : i + h, j : j + width], w[:, :, i, j])
        for i in range(k)
        for j in range(k)
    )
    return sum(terms)


def tf_conv(x, w):
    """TensorFlow's conv2d, SAME, NCHW; w is (row, column, in, out)."""
    return conv(x, w.transpose(3, 2, 0, 1))


def tf_fused_upscale_conv(x, w):
    """conv2d_transpose, stride 2, SAME, by four shifts of w (row, column, out, in) summed.

    The transpose of a convolution of stride 2 with one line of padding: pixel (r, c) of x adds
    w[i, j] x to pixel (2r + i - 1, 2c + j - 1).
    """
    w = np.pad(w, [(1, 1), (1, 1), (0, 0), (0, 0)])
    w = w[1:, 1:] + w[:-1, 1:] + w[1:, :-1] + w[:-1, :-1]
    b, _, h, width = x.shape
    out = np.zeros((b, w.shape[2], 2 * h + 2, 2 * width + 2))
    for i in range(4):
        for j in range(4):
            term = np.einsum("bchw,oc->bohw", x, w[i, j])
            out[:, :, i : i + 2 * h : 2, j : j + 2 * width : 2] += term
    return out[:, :, 1:-1, 1:-1]


def twice(x):
    return x.repeat(2, axis=2).repeat(2, axis=3)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def norm(x):
    return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)


def column(b):
    return b.reshape(1, -1, 1, 1)


def latents(prior, count=3):
    return prior.latent.sample(count, torch.Generator().manual_seed(5))


def assert_same(prior, z, expected):
    """`expected` in the network's own range [-1, 1]; images are in [0, 1]."""
    torch.testing.assert_close(
        prior(z).double(), torch.from_numpy(expected + 1) / 2, rtol=1e-4, atol=1e-5
    )
    assert expected.std() > 0.05


def save_torch(state, path, legacy=False):
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)


# -- BEGAN ------------------------------------------------------------------------------------


def began_arrays(size, n=6, latent=5):
    """Linear layer, convolutions, last convolution, each (weight, bias), as PyTorch has them."""
    rng = np.random.default_rng(1)
    count = 2 * (int(np.log2(size)) - 2)

    def layer(*shape):
        fan_in = np.prod(shape[1:])
        return (rng.normal(size=shape) * 1.4 / fan_in**0.5, rng.normal(size=shape[0]) * 0.2)

    linear = layer(64 * n, latent)
    return [linear, *(layer(n, n, 3, 3) for _ in range(count)), layer(3, n, 3, 3)]


def began_forward(layers, z, output):
    (w, b), *convs, (w_last, b_last) = layers
    x = (z @ w.T + b).reshape(len(z), -1, 8, 8)
    for index, (weight, bias) in enumerate(convs):
        if index in (2, 4, 6, 8):
            x = twice(x)
        x = elu(conv(x, weight) + column(bias))
    return output(conv(x, w_last) + column(b_last))


def began_state(modules, layers):
    return collections.OrderedDict(
        (f"{module}.{part}", torch.from_numpy(array).float())
        for module, layer in zip(modules, layers, strict=True)
        for part, array in zip(("weight", "bias"), layer, strict=True)
    )


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
    assert prior.metadata.architecture == "began"
    assert prior.metadata.crop == crop
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


# -- PGGAN ------------------------------------------------------------------------------------

CHANNELS = (8, 8, 7, 6, 5, 4)
LATENT = 9
"""All different where a layout allows it, so that a swapped pair of axes cannot pass."""


RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def assert_pggan(path, forward):
    prior = load_prior(path)
    assert prior.latent.law == "normal"
    assert prior.latent.shape == (LATENT, 1, 1)
    assert prior.image_shape == (3, 16, 16)
    assert prior.metadata.architecture == "pggan"
    z = latents(prior)
    assert_same(prior, z, forward(z.double().numpy()))
    return prior


def test_pggan_of_ptrblck(tmp_path):
    """Scale and b are parameters of any value; PixelNorm before each convolution."""
    state = {}
    inputs = (LATENT, *CHANNELS[:-1])
    for i, (before, after) in enumerate(zip(inputs, CHANNELS, strict=True)):
        kernel = 4 if i == 0 else 3
        state[f"features.{i}.conv.weight"] = normal(after, before, kernel, kernel)
        state[f"features.{i}.wscale.scale"] = np.float32([0.3 + 0.02 * i])
        state[f"features.{i}.wscale.b"] = normal(after)
    state["output.conv.weight"] = normal(3, CHANNELS[-1], 1, 1)
    state["output.wscale.scale"] = np.float32([0.2])
    state["output.wscale.b"] = normal(3)
    save_torch({k: torch.from_numpy(v) for k, v in state.items()}, tmp_path / "p.pth")

    def block(x, name, convolve):
        w, s, b = (state[f"{name}.{part}"] for part in ("conv.weight", "wscale.scale", "wscale.b"))
        return convolve(x, w) * s + column(b)

    def first(x, w):
        # Padding 3 about one pixel: output (r, c) meets the kernel at (3 - r, 3 - c).
        return np.einsum("bc,ocrs->bors", x[:, :, 0, 0], w[:, :, ::-1, ::-1])

    def forward(z):
        x = leaky(block(norm(z), "features.0", first))
        for i in range(1, 6):
            x = norm(x)
            x = twice(x) if i in (2, 4) else x
            x = leaky(block(x, f"features.{i}", conv))
        return block(norm(x), "output", conv)

    prior = assert_pggan(tmp_path / "p.pth", forward)
    assert "CC BY-NC 4.0" in prior.metadata.licence
    assert len(prior.parameters()) == 21


class FakeNetwork:
    """What `tfutil.Network` pickles: a dict of its construction and its variables."""

    def __init__(self, variables):
        self.variables = variables

    def __getstate__(self):
        return {
            "version": 2,
            "name": "Gs",
            "static_kwargs": {"resolution": np.int64(16), "fused_scale": True},
            "build_module_src": "import os; os.system('false')",
            "build_func_name": "G_paper",
            "variables": list(self.variables.items()),
        }


def save_nvidia(variables, path, monkeypatch, protocol=4):
    """A pickle of (G, D, Gs) that names `tfutil.Network`, as the published ones do."""
    module = types.ModuleType("tfutil")
    module.Network = type("Network", (FakeNetwork,), {"__module__": "tfutil"})
    other = module.Network({"lod": np.float32(0.0), "weight": normal(2, 2)})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tfutil", module)
        networks = (other, other, module.Network(variables))
        path.write_bytes(pickle.dumps(networks, protocol=protocol))


def nvidia_variables(fused):
    variables = {"lod": np.float32(0.0)}
    variables["4x4/Dense/weight"] = normal(LATENT, CHANNELS[0] * 16)
    variables["4x4/Dense/bias"] = normal(CHANNELS[0])
    for i, name in enumerate(["4x4/Conv", "8x8/Conv0", "8x8/Conv1", "16x16/Conv0", "16x16/Conv1"]):
        up = fused and name.endswith("Conv0")
        axes = (CHANNELS[i + 1], CHANNELS[i]) if up else (CHANNELS[i], CHANNELS[i + 1])
        name += "_up" if up else ""
        variables[f"{name}/weight"] = normal(3, 3, *axes)
        variables[f"{name}/bias"] = normal(CHANNELS[i + 1])
    for lod, count in enumerate((CHANNELS[5], CHANNELS[3], CHANNELS[1])):
        variables[f"ToRGB_lod{lod}/weight"] = normal(1, 1, count, 3)
        variables[f"ToRGB_lod{lod}/bias"] = normal(3)
    # Fortran order and big endian, which numpy also pickles.
    variables["4x4/Dense/weight"] = np.asfortranarray(variables["4x4/Dense/weight"])
    variables["4x4/Dense/bias"] = variables["4x4/Dense/bias"].astype(">f4")
    return variables


def nvidia_forward(v, z, fused):
    """The released program's G_paper with its defaults, lod 0."""

    def after(x, name, fan_in, gain=2**0.5):
        return leaky(x * gain / fan_in**0.5 + column(v[f"{name}/bias"]))

    dense = norm(z[:, :, 0, 0]) @ v["4x4/Dense/weight"]
    dense = dense.reshape(len(z), CHANNELS[0], 4, 4)
    x = norm(after(dense, "4x4/Dense", LATENT, gain=2**0.5 / 4))
    x = norm(after(tf_conv(x, v["4x4/Conv/weight"]), "4x4/Conv", 9 * CHANNELS[0]))
    for i, side in ((1, "8x8"), (3, "16x16")):
        if fused:
            name = f"{side}/Conv0_up"
            x = after(tf_fused_upscale_conv(x, v[f"{name}/weight"]), name, 9 * CHANNELS[i])
        else:
            name = f"{side}/Conv0"
            x = after(tf_conv(twice(x), v[f"{name}/weight"]), name, 9 * CHANNELS[i])
        name = f"{side}/Conv1"
        x = norm(after(tf_conv(norm(x), v[f"{name}/weight"]), name, 9 * CHANNELS[i + 1]))
    return tf_conv(x, v["ToRGB_lod0/weight"]) / CHANNELS[5] ** 0.5 + column(v["ToRGB_lod0/bias"])


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
def test_pggan_of_nvidia(fused, protocol, tmp_path, monkeypatch):
    variables = nvidia_variables(fused)
    save_nvidia(variables, tmp_path / "karras.pkl", monkeypatch, protocol)
    assert_pggan(tmp_path / "karras.pkl", lambda z: nvidia_forward(variables, z, fused))
    assert "tfutil" not in sys.modules


def zoo_state(prefix, inner):
    """Older revisions of the zoo write `.module` after each layer's name, newer ones do not."""
    layers = {"formatLayer": (CHANNELS[0] * 16, LATENT), "groupScale0.0": (8, 8, 3, 3)}
    for scale in (0, 1):
        before, middle, last = CHANNELS[2 * scale + 1 : 2 * scale + 4]
        layers[f"scaleLayers.{scale}.0"] = (middle, before, 3, 3)
        layers[f"scaleLayers.{scale}.1"] = (last, middle, 3, 3)
    for scale, count in enumerate((8, CHANNELS[3], CHANNELS[5])):
        layers[f"toRGBLayers.{scale}"] = (3, count, 1, 1)
    state = {}
    for name, shape in layers.items():
        state[f"{prefix}{name}{inner}.weight"] = torch.from_numpy(normal(*shape))
        state[f"{prefix}{name}{inner}.bias"] = torch.from_numpy(normal(shape[0]))
    return state


def zoo_forward(state, z):
    """y = (W x + b)·√(2 / fan_in) everywhere; the first bias differs from pixel to pixel."""

    def layer(x, name, apply):
        w, b = (state[f"{name}.{part}"].numpy() for part in ("weight", "bias"))
        y = apply(x, w)
        return (y + b.reshape(1, -1, *[1] * (y.ndim - 2))) * (2 / np.prod(w.shape[1:])) ** 0.5

    x = leaky(layer(norm(z[:, :, 0, 0]), "formatLayer", lambda x, w: x @ w.T))
    x = norm(x.reshape(len(z), -1, 4, 4))
    x = norm(leaky(layer(x, "groupScale0.0", conv)))
    for scale in (0, 1):
        x = twice(x)
        for i in (0, 1):
            x = norm(leaky(layer(x, f"scaleLayers.{scale}.{i}", conv)))
    return layer(x, "toRGBLayers.2", conv)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(("prefix", "inner"), [("", ".module"), ("module.", ".module"), ("", "")])
def test_pggan_of_the_gan_zoo(prefix, inner, legacy, tmp_path, monkeypatch):
    """`avgG` is used, not `netG`; the pickled configuration's class is neither needed nor run."""
    state = zoo_state(prefix, inner)
    config_module = types.ModuleType("models.utils.config")
    config_class = type("BaseConfig", (), {"__module__": "models.utils.config"})
    config_module.BaseConfig = config_class
    config = config_class()
    config.depthOtherScales = [6, 4]
    whole = {
        "config": config,
        "netG": {name: value * 0 for name, value in state.items()},
        "netD": {"decisionLayer.module.weight": torch.zeros(2)},
        "avgG": state,
    }
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "models", types.ModuleType("models"))
        patch.setitem(sys.modules, "models.utils", types.ModuleType("models.utils"))
        patch.setitem(sys.modules, "models.utils.config", config_module)
        save_torch(whole, tmp_path / "celebaHQ.pth", legacy)
    plain = {name.replace("module.", ""): value for name, value in state.items()}
    assert_pggan(tmp_path / "celebaHQ.pth", lambda z: zoo_forward(plain, z))
    assert "models.utils.config" not in sys.modules


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
    assert again.metadata == first.metadata
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
    assert again.metadata.crop == CELEBA


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
    assert prior.metadata.crop == CELEBA
    average = samples.mean(0)
    centred = average - average.mean()
    mirrored = torch.nn.functional.cosine_similarity(
        centred.flatten(), centred.flip(2).flatten(), dim=0
    )
    assert mirrored > 0.9
    face, corners = average[:, 20:48, 20:44], average[:, :8, [0, 1, 2, 61, 62, 63]]
    assert face[0].mean() > face[2].mean() + 0.1
    assert face.mean() > corners.mean()
