"""Writers of published checkpoint layouts, and reference implementations by definition."""

import collections
import pickle
import sys
import types

import numpy as np
import torch

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
    """Compare with `expected`, in the network's range [-1, 1]; images are in [0, 1]."""
    torch.testing.assert_close(
        prior(z).double(), torch.from_numpy(expected + 1) / 2, rtol=1e-4, atol=1e-5
    )
    assert expected.std() > 0.05


def save_torch(state, path, legacy=False):
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)


# -- writers ----------------------------------------------------------------------------------

CHANNELS = (8, 8, 7, 6, 5, 4)
LATENT = 9
"""All different if the layout allows it, so that swapped axes are detected."""


RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def began_arrays(size, n=6, latent=5):
    """Linear layer, convolutions, last convolution, each (weight, bias), in PyTorch's axes."""
    rng = np.random.default_rng(1)
    count = 2 * (int(np.log2(size)) - 2)

    def layer(*shape):
        fan_in = np.prod(shape[1:])
        return (rng.normal(size=shape) * 1.4 / fan_in**0.5, rng.normal(size=shape[0]) * 0.2)

    linear = layer(64 * n, latent)
    return [linear, *(layer(n, n, 3, 3) for _ in range(count)), layer(3, n, 3, 3)]


def began_state(modules, layers):
    return collections.OrderedDict(
        (f"{module}.{part}", torch.from_numpy(array).float())
        for module, layer in zip(modules, layers, strict=True)
        for part, array in zip(("weight", "bias"), layer, strict=True)
    )


class FakeNetwork:
    """The pickled state of `tfutil.Network`: a dict of its construction and its variables."""

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
