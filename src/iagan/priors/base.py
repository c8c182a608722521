"""What every prior has, and the space of latents that belongs to a generator."""

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
    """What is known of a prior, saved beside its weights.

    `architecture` names the network ("began", "pggan", "custom") and picks the paper's iterations
    and rates. `crop` is the square of a photograph that the prior was trained on.
    """

    name: str = "unnamed"
    architecture: str = "custom"
    license: str = "unknown"
    source: str = ""
    crop: Crop | None = None


class Prior(abc.ABC):
    """What images look like, as far as every method needs it; `Generator` is the one kind so far.

    - `about`: name, architecture, license, source and crop.
    - `image_shape`: `(channels, height, width)`.
    """

    about: About
    image_shape: tuple[int, int, int]

    @abc.abstractmethod
    def parameters(self) -> dict[str, Tensor]:
        """The pretrained weights by name; their device and precision are the prior's."""

    @property
    def reference(self) -> Tensor:
        """A tensor on the prior's device and in its precision: its first weight, if it has one."""
        return next(iter(self.parameters().values()), torch.zeros(()))

    @abc.abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Prior:
        """A copy on `device` (and in `dtype`)."""


@dc.dataclass(frozen=True)
class LatentSpace(abc.ABC):
    """The latents that a generator was trained on: how to draw them, and which are likely.

    A subclass is a frozen dataclass that sets `law`. Files keep its fields, which are JSON values
    or tensors; decorated with `register_latent`, it is read back from them.

    **Arguments:**
    - `shape`: shape of one latent, without the batch: `(64,)` for BEGAN, `(512, 1, 1)` for PGGAN.
    """

    law: ClassVar[str] = ""
    """The word in files and in `parse_latent`; a concrete class sets it."""
    penalty_weight: ClassVar[float | None] = None
    """Weight of `penalty` in a fast CSGM; None: 1/N for y worth N independent numbers, which is
    right where the penalty is -2 log p(z) up to a constant."""

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
        """`count` random latents on the device of `rng`, float32: `(count, *shape)`."""

    @abc.abstractmethod
    def penalty(self, z: Latent) -> PerImage:
        """How unlikely each latent is, `(batch,)`; differentiable. `z` is `(batch, *shape)`."""

    def project(self, z: Latent) -> Latent:
        """The nearest latents that are likely; `z`, `(batch, *shape)`, itself by default."""
        return z

    def spec(self) -> dict[str, Any]:
        """The law and the fields, of which `latent_from_spec` makes the same space again."""
        fields = {field.name: getattr(self, field.name) for field in dc.fields(self)}
        return {"law": self.law, **fields}

    @functools.cached_property  # which a subclass may have as a field
    def mean(self) -> Tensor:
        """The mean latent, of `shape`; zero by default."""
        return torch.zeros(self.shape)


def squared_length(z: Latent) -> PerImage:
    r"""$\|z\|^2$, `(batch,)`."""
    return z.flatten(1).square().sum(1)


LATENTS: dict[str, type[LatentSpace]] = {}
"""Every latent space by its `law`; `register_latent` adds to it."""

Concrete = TypeVar("Concrete", bound=type[LatentSpace])


def register_latent(space: Concrete) -> Concrete:
    """A class decorator: files and options name this latent space by its `law`.

    **Raises:** `SettingError` where another class has that law.
    """
    known = LATENTS.setdefault(space.law, space)
    if known.__qualname__ != space.__qualname__ or known.__module__ != space.__module__:
        raise SettingError(
            f"register_latent expects a law that no other space has; got {space.law!r}, which is "
            f"{known.__name__}'s. Choose another."
        )
    LATENTS[space.law] = space
    return space


@register_latent
@dc.dataclass(frozen=True)
class NormalLatent(LatentSpace):
    """Standard normal latents, each entry independent."""

    law = "normal"

    def sample(self, count: int, rng: torch.Generator) -> Latent:
        """Normal numbers of `(count, *shape)`."""
        return torch.randn((count, *self.shape), generator=rng, device=rng.device)

    def penalty(self, z: Latent) -> PerImage:
        r"""$\|z\|^2$, which is -2 log p up to a constant."""
        return squared_length(z)

    def project(self, z: Latent) -> Latent:
        r"""Into the ball of radius $\sqrt n$, near whose surface almost all latents are."""
        return z * (_radius(self) / _length(z)).clamp_max(1)


@register_latent
@dc.dataclass(frozen=True)
class UniformLatent(LatentSpace):
    """Latents uniform in the cube [-1, 1]^n."""

    law = "uniform"
    penalty_weight = 1e-4
    """Chosen with the published BEGAN-64 on images held out of training: without it L-BFGS leaves
    the cube far behind, which costs LPIPS, also that of IAGAN from there."""

    def sample(self, count: int, rng: torch.Generator) -> Latent:
        """Uniform numbers of `(count, *shape)`."""
        return torch.rand((count, *self.shape), generator=rng, device=rng.device) * 2 - 1

    def penalty(self, z: Latent) -> PerImage:
        r"""$\|z\|^2$, which pulls towards the cube and, unlike log p, is smooth."""
        return squared_length(z)

    def project(self, z: Latent) -> Latent:
        """Into the cube."""
        return z.clamp(-1, 1)


@register_latent
@dc.dataclass(frozen=True)
class SphericalLatent(LatentSpace):
    """Latents of which only the direction matters, as PGGAN divides z by its length first."""

    law = "spherical"
    penalty_weight = 0.0

    def sample(self, count: int, rng: torch.Generator) -> Latent:
        """Normal numbers of `(count, *shape)`, whose directions are uniform."""
        return torch.randn((count, *self.shape), generator=rng, device=rng.device)

    def penalty(self, z: Latent) -> PerImage:
        """Zero: all directions are as likely."""
        return 0 * squared_length(z)

    def project(self, z: Latent) -> Latent:
        r"""Onto the sphere of radius $\sqrt n$."""
        return z * (_radius(self) / _length(z))


def _radius(space: LatentSpace) -> float:
    return math.sqrt(math.prod(space.shape))


def _length(z: Latent) -> Tensor:
    return z.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, *[1] * (z.ndim - 1))


def parse_latent(text: str) -> LatentSpace:
    """The latent space that a word and a shape describe: `"normal:512"`, `"spherical:512x1x1"`.

    **Raises:** `SettingError` for everything else.
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
    """The latent space with these fields and this `law`.

    **Raises:** `SettingError` for a law that is not registered, or fields that do not fit it.
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
        raise SettingError(f"The latent space {law!r} does not fit its fields: {error}.") from error
