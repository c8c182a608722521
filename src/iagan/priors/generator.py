"""A generator G: latent → image, with everything that methods need of it."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from iagan.engine.memory import is_out_of_memory
from iagan.errors import IaganError, SettingError, ShapeError, shown
from iagan.priors.base import About, LatentSpace, Prior, parse_latent
from iagan.priors.networks.registry import NETWORKS
from iagan.types import Image, Latent

IRREPRODUCIBLE = 0.01
"""Difference between two images of one latent, as a fraction of their range, above which a network
counts as random. bfloat16 rounds by 0.004."""


class Generator(Prior):
    r"""A pretrained network as a prior: $x = G_\theta(z)$ with images in [0, 1].

    The network is copied, put into `eval` mode and never modified. Its output is mapped affinely
    from `value_range` to [0, 1], without clamping.

    **Arguments:**
    - `module`: any `nn.Module` from `(batch, *latent.shape)` to `(batch, channels, h, w)`.
    - `latent`: the latent space that it was trained with, or its description, such as
      `"normal:512"`.
    - `value_range`: output values of `module` for black and white; (-1, 1) for most GANs.
    - `about`: metadata: name, architecture, license, source, crop.
    - `encoder`: an approximate inverse of `module`, from images in `value_range` to latents; it
      provides an initial z for CSGM.

    **Raises:** `SettingError` for an invalid argument; `ShapeError` if the module does not map one
    latent to one image, or the encoder one image to one latent.
    """

    def __init__(
        self,
        module: nn.Module,
        latent: LatentSpace | str,
        value_range: tuple[float, float] = (-1.0, 1.0),
        about: About | None = None,
        encoder: nn.Module | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise SettingError(
                f"Generator expects a torch.nn.Module; got {type(module).__name__}. "
                "Load a checkpoint with iagan.load_prior(path) instead."
            )
        if isinstance(latent, str):
            latent = parse_latent(latent)
        if not isinstance(latent, LatentSpace):
            raise SettingError(
                "Generator expects a latent space, such as iagan.NormalLatent((512,)) or "
                f"'normal:512'; got {latent!r}."
            )
        low, high = value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise SettingError(
                f"Generator expects value_range (low, high), low < high; got {value_range}."
            )
        self.module = _copied(module)
        self.encoder = None if encoder is None else _frozen(encoder)
        self.latent = latent
        self.value_range = (float(low), float(high))
        self.about = about or About()
        self.image_shape = self._probe()
        if self.encoder is not None:
            self._probe_encoder(self.encoder)

    def __repr__(self) -> str:
        name, network = shown(repr(self.about.name), 60), shown(repr(self.about.architecture), 60)
        latent = f"{type(self.latent).__name__}({self.latent.shape})"
        return (
            f"Generator({name}, architecture={network}, image_shape={self.image_shape}, "
            f"latent={latent})"
        )

    def __call__(self, z: Latent) -> Image:
        """G(z) in [0, 1]: `(batch, *latent.shape)` → `(batch, *image_shape)`."""
        return self.to_unit_range(self.module(z))

    @torch.no_grad()
    def encode(self, x: Image) -> Latent | None:
        """Approximate latents of `x`, which may be degraded: `(batch, *image_shape)` in [0, 1] →
        `(batch, *latent.shape)`; None without an encoder.
        """
        if self.encoder is None:
            return None
        low, high = self.value_range
        z: Latent = self.encoder(low + (high - low) * x)
        return z.view(-1, *self.latent.shape)

    @property
    def reference(self) -> Tensor:
        """The first weight of the network, detached, for its device and precision."""
        return next(
            self.module.parameters(), torch.zeros((), dtype=torch.float32, device="cpu")
        ).detach()

    def parameters(self) -> dict[str, Tensor]:
        """The pretrained weights θ by name, without buffers."""
        return {name: each.detach().clone() for name, each in self.module.named_parameters()}

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Generator:
        """A copy on `device`, optionally converted to `dtype`."""
        moved = copy.copy(self)
        moved.module = _frozen(self.module).to(device=device, dtype=dtype)
        if self.encoder is not None:
            moved.encoder = _frozen(self.encoder).to(device=device, dtype=dtype)
        return moved

    def to_unit_range(self, output: Tensor) -> Image:
        """Map the network's output from `value_range` to [0, 1]."""
        low, high = self.value_range
        return (output - low) / (high - low)

    @torch.no_grad()
    def _probe(self) -> tuple[int, int, int]:
        z = self.latent.sample(1, torch.Generator().manual_seed(0)).to(self.reference)
        x = self._output(z)
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[0] != 1:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ShapeError(
                f"Generator expects a module that gives images (batch, channels, h, w); got {got}. "
                "Wrap it in one that returns the image alone."
            )
        if type(self.module) not in NETWORKS.values():
            self._check_reproducible(z, x)
        return (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))

    def _output(self, z: Latent) -> Any:
        try:
            return self.module(z)
        except Exception as error:  # a user's code
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise IaganError(
                    f"The network does not fit into memory for latents {tuple(z.shape)}. Use "
                    "smaller images, or a machine with more memory."
                ) from error
            raise ShapeError(
                f"Generator expects a module that takes latents {tuple(z.shape)}; it raised: "
                f"{shown(error).rstrip('.')}. Give the latent shape that it was trained with."
            ) from error

    def _check_reproducible(self, z: Latent, x: Tensor) -> None:
        """Refuse a network whose image of `z`, `x`, is another one in a batch or a second call."""
        again = self._output(torch.cat([z, -z]))[:1]
        low, high = self.value_range
        gap = float((again - x).abs().max()) / (high - low)
        if gap > IRREPRODUCIBLE and x.isfinite().all():
            raise SettingError(
                "Generator expects a module with one image for each latent, alone or in a batch; "
                f"got images that differ by {gap:.2g} of their range. Turn off its noise, its "
                "dropout and its batch statistics."
            )

    @torch.no_grad()
    def _probe_encoder(self, encoder: nn.Module) -> None:
        try:
            z = encoder(torch.zeros(1, *self.image_shape, device="cpu").to(self.reference))
        except Exception as error:  # as above
            raise ShapeError(
                f"Generator expects an encoder of images {self.image_shape}; it raised: "
                f"{shown(error).rstrip('.')}. Give the encoder that was trained with the network."
            ) from error
        if not isinstance(z, Tensor) or z.numel() != math.prod(self.latent.shape):
            got = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise ShapeError(
                f"Generator expects an encoder that gives latents (1, *{self.latent.shape}); got "
                f"{got}. Give the encoder that was trained with the network."
            )


def _refuse_unusable(module: nn.Module) -> None:
    """Refuse a module that cannot be copied, differentiated or run.

    **Raises:** `SettingError`.
    """
    values = [*module.parameters(), *module.buffers()]
    if isinstance(module, torch.jit.ScriptModule):
        problem, remedy = "a scripted one", "Give the module that it was scripted from"
    elif isinstance(module, nn.DataParallel):
        problem, remedy = "nn.DataParallel", "Give its .module"
    elif any(is_lazy(value) for value in values):
        problem, remedy = "one with lazy parameters", "Run it once on a latent first"
    elif any(value.is_meta for value in values):
        problem, remedy = "one on the meta device", "Load its weights first"
    else:
        return
    raise SettingError(f"Generator expects a plain torch.nn.Module; got {problem}. {remedy}.")


def _copied(module: nn.Module) -> nn.Module:
    """A frozen copy (`_frozen`) of a user's module.

    **Raises:** `SettingError` if it cannot be copied.
    """
    _refuse_unusable(module)
    try:
        return _frozen(module)
    except Exception as error:  # from user code, or torch's old weight_norm
        raise SettingError(
            f"Generator expects a module that can be copied; copying it raised: "
            f"{shown(error).rstrip('.')}. Remove weight_norm and hooks first, or load its weights "
            "into a new one."
        ) from error


def _frozen(module: nn.Module) -> nn.Module:
    """A copy for inference, in the memory format that is faster for convolutions.

    Its tensors support autograd even if the caller is in `torch.inference_mode`.
    """
    with torch.inference_mode(False):
        frozen = copy.deepcopy(module).eval().requires_grad_(False)
        return frozen.to(memory_format=torch.channels_last)
