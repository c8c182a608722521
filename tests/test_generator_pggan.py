"""Weights in the three layouts of published PGGANs, against a second forward pass of each.

It is written from the layouts' descriptions, on the raw arrays, with sums over kernel positions in
place of library convolutions.
"""

import sys
import types

import numpy as np
import pytest
import torch

from iagan.priors import load_prior
from published import (
    CHANNELS,
    LATENT,
    assert_same,
    column,
    conv,
    latents,
    leaky,
    norm,
    normal,
    nvidia_variables,
    save_nvidia,
    save_torch,
    tf_conv,
    tf_fused_upscale_conv,
    twice,
    zoo_state,
)


def assert_pggan(path, forward):
    prior = load_prior(path)
    assert prior.latent.law == "spherical"
    assert prior.latent.shape == (LATENT, 1, 1)
    assert prior.image_shape == (3, 16, 16)
    assert prior.about.architecture == "pggan"
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
    assert "CC BY-NC 4.0" in prior.about.license
    assert len(prior.parameters()) == 21


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
