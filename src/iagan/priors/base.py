"""The interface of priors, and the latent spaces of generators."""

from __future__ import annotations

import abc
import dataclasses as dc
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from iagan.errors import SettingError
from iagan.images import Crop
from iagan.types import Latent, PerImage


@dc.dataclass(frozen=True)
class About:
    """Metadata of a prior, saved with its weights.

    `architecture` names the network ("began", "pggan", "custom") and selects the paper's iteration
    counts and learning rates. `crop` is the square region of a photograph that the prior was
    trained on.
    """

    name: str = "unnamed"
    architecture: str = "custom"
    license: str = "unknown"
    source: str = ""
    crop: Crop | None = None


class Prior(abc.ABC):
    """A model of images, as every method uses it; `Generator` is the only kind so far.

    - `about`: name, architecture, license, source and crop.
    - `image_shape`: `(channels, height, width)`.
    """

    about: About
    image_shape: tuple[int, int, int]

    @abc.abstractmethod
    def parameters(self) -> dict[str, Tensor]:
        """The pretrained weights by name; they define the prior's device and precision."""

    @property
    def reference(self) -> Tensor:
        """A tensor with the prior's device and precision: its first weight, if it has one."""
        return next(
            iter(self.parameters().values()), torch.zeros((), dtype=torch.float32, device="cpu")
        )

    @abc.abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Prior:
        """A copy on `device`, optionally converted to `dtype`."""


@dc.dataclass(frozen=True)
class LatentSpace(abc.ABC):
    """The latent distribution that a generator was trained with: how to sample it, and a penalty.

    A subclass is a frozen dataclass that sets `law`. Its fields, JSON values or tensors, are stored
    in files; with the decorator `register_latent`, it can be read back from them.

    **Arguments:**
    - `shape`: shape of one latent, without the batch: `(64,)` for BEGAN, `(512, 1, 1)` for PGGAN.
    """

    law: ClassVar[str] = ""
    """Name of the distribution in files and in `parse_latent`; set by a concrete class."""
    penalty_weight: ClassVar[float | None] = None
    """Weight of `penalty` in a fast CSGM; None: 1/N for a y with N independent values, which is
    correct if the penalty is -2 log p(z) up to a constant."""

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        sides = tuple(self.shape) if isinstance(self.shape, tuple | list | torch.Size) else ()
        if not sides or not all(type(side) is int and side > 0 for side in sides):
            raise SettingError(
                f"{type(self).__name__} expects shape as positive integers; got {self.shape!r}."
            )
        object.__setattr__(self, "shape", sides)

    @abc.abstractmethod
    def sample(self, count: int, rng: torch.Generator) -> Latent:
        """Draw `count` random latents on the device of `rng`, float32: `(count, *shape)`."""

    @abc.abstractmethod
    def penalty(self, z: Latent) -> PerImage:
        """Penalty on unlikely latents, `(batch,)`; differentiable. `z` is `(batch, *shape)`."""

    def project(self, z: Latent) -> Latent:
        """Project `z`, `(batch, *shape)`, onto the likely latents; the identity by default."""
        return z

    def spec(self) -> dict[str, Any]:
        """The `law` and all fields, from which `latent_from_spec` recreates this space."""
        fields = {field.name: getattr(self, field.name) for field in dc.fields(self)}
        return {"law": self.law, **fields}

    @functools.cached_property  # a subclass may define it as a field
    def mean(self) -> Tensor:
        """The mean latent, with shape `shape`; zero by default."""
        return torch.zeros(self.shape, dtype=torch.float32, device="cpu")


def squared_length(z: Latent) -> PerImage:
    r"""$\|z\|^2$, `(batch,)`."""
    return z.flatten(1).square().sum(1)


LATENTS: dict[str, type[LatentSpace]] = {}
"""Latent space classes by `law`; extended by `register_latent`."""

Concrete = TypeVar("Concrete", bound=type[LatentSpace])


def register_latent(space: Concrete) -> Concrete:
    """A class decorator that makes a latent space available by its `law` in files and options.

    **Raises:** `SettingError` if another class has that `law`.
    """
    known = LATENTS.setdefault(space.law, space)
    if known.__qualname__ != space.__qualname__ or known.__module__ != space.__module__:
        raise SettingError(
            f"register_latent expects a law that is not in use; got {space.law!r}, which is used "
            f"by {known.__name__}. Choose another."
        )
    LATENTS[space.law] = space
    return space


@register_latent
@dc.dataclass(frozen=True)
class NormalLatent(LatentSpace):
    """Latents with independent standard normal entries."""

    law = "normal"

    def sample(self, count: int, rng: torch.Generator) -> Latent:
        """Draw standard normal latents, `(count, *shape)`."""
        return _normal(self, count, rng)

    def penalty(self, z: Latent) -> PerImage:
        r"""$\|z\|^2$, which is -2 log p up to a constant."""
        return squared_length(z)

    def project(self, z: Latent) -> Latent:
        r"""Project onto the ball of radius $\sqrt n$; almost all latents are near its surface."""
        return z * (_radius(self) / _length(z)).clamp_max(1)


@register_latent
@dc.dataclass(frozen=True)
class UniformLatent(LatentSpace):
    """Latents uniformly distributed in the cube [-1, 1]^n."""

    law = "uniform"
    penalty_weight = 1e-4
    """Weight of `penalty`, tuned with the published BEGAN-64 on held-out images: without it, L-BFGS
    moves far outside the cube, which worsens LPIPS, also of an IAGAN started there."""

    def sample(self, count: int, rng: torch.Generator) -> Latent:
        """Draw uniform latents, `(count, *shape)`."""
        shape = (count, *self.shape)
        uniform = torch.rand(shape, generator=rng, device=rng.device, dtype=torch.float32)
        return 2 * uniform - 1

    def penalty(self, z: Latent) -> PerImage:
        r"""$\|z\|^2$, which pulls towards the cube and, unlike log p, is smooth."""
        return squared_length(z)

    def project(self, z: Latent) -> Latent:
        """Clamp to the cube."""
        return z.clamp(-1, 1)


@register_latent
@dc.dataclass(frozen=True)
class SphericalLatent(LatentSpace):
    """Latents of which only the direction matters, since PGGAN normalises z first."""

    law = "spherical"
    penalty_weight = 0.0

    def sample(self, count: int, rng: torch.Generator) -> Latent:
        """Draw standard normal latents, `(count, *shape)`, whose directions are uniform."""
        return _normal(self, count, rng)

    def penalty(self, z: Latent) -> PerImage:
        """Zero: all directions are equally likely."""
        return 0 * squared_length(z)

    def project(self, z: Latent) -> Latent:
        r"""Project onto the sphere of radius $\sqrt n$."""
        return z * (_radius(self) / _length(z))


def _normal(space: LatentSpace, count: int, rng: torch.Generator) -> Latent:
    shape = (count, *space.shape)
    return torch.randn(shape, generator=rng, device=rng.device, dtype=torch.float32)


def _radius(space: LatentSpace) -> float:
    return math.sqrt(math.prod(space.shape))


def _length(z: Latent) -> Tensor:
    return z.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, *[1] * (z.ndim - 1))


def parse_latent(text: str) -> LatentSpace:
    """The latent space described by a law and a shape: `"normal:512"`, `"spherical:512x1x1"`.

    **Raises:** `SettingError` for any other text.
    """
    law, _, shape = text.partition(":")
    sides = shape.split("x")
    if not all(side.isdecimal() for side in sides):
        raise SettingError(
            f"A latent space expects a law and a shape, such as normal:512 or spherical:512x1x1; "
            f"got {text!r:.80}."
        )
    return latent_from_spec({"law": law, "shape": tuple(map(int, sides))})


def latent_from_spec(spec: Mapping[str, Any]) -> LatentSpace:
    """The latent space with the `law` and the fields of `LatentSpace.spec`.

    **Raises:** `SettingError` for a law that is not registered, or fields that do not match it.
    """
    fields = dict(spec)
    law = fields.pop("law", None)
    if not isinstance(law, str) or law not in LATENTS:
        raise SettingError(
            f"A latent space expects its law as one of {', '.join(LATENTS)}; got {law!r:.80}. "
            "Register your own with iagan.priors.register_latent."
        )
    try:
        return LATENTS[law](**fields)
    except TypeError as error:
        raise SettingError(f"The latent space {law!r} got invalid fields: {error}.") from error
