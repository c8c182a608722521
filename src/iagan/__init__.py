"""Recover images from degraded measurements with pretrained generative models.

The public names are imported when they are first used, so that `iagan --help` and programs that
need only a part stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iagan import errors, measure, operators
    from iagan.errors import IaganError
    from iagan.images import load_image, save_image
    from iagan.observation import (
        Observation,
        estimate_noise_std,
        load_observation,
        observe,
        save_observation,
    )
    from iagan.priors import (
        Crop,
        Generator,
        LatentLaw,
        Metadata,
        available_priors,
        load_prior,
        save_prior,
    )
    from iagan.reconstruction import (
        METHODS,
        Reconstruction,
        Settings,
        back_project,
        reconstruct,
        reconstruct_all,
    )

_HOME = {
    "Crop": "images",
    "Generator": "priors",
    "IaganError": "errors",
    "LatentLaw": "priors",
    "METHODS": "reconstruction",
    "Metadata": "priors",
    "Observation": "observation",
    "Reconstruction": "reconstruction",
    "Settings": "reconstruction",
    "available_priors": "priors",
    "back_project": "reconstruction",
    "estimate_noise_std": "observation",
    "load_image": "images",
    "load_observation": "observation",
    "load_prior": "priors",
    "observe": "observation",
    "reconstruct": "reconstruction",
    "reconstruct_all": "reconstruction",
    "save_image": "images",
    "save_observation": "observation",
    "save_prior": "priors",
}
"""Each public name and the module that defines it."""

_MODULES = ("errors", "measure", "operators")

__all__ = [
    "METHODS",
    "Crop",
    "Generator",
    "IaganError",
    "LatentLaw",
    "Metadata",
    "Observation",
    "Reconstruction",
    "Settings",
    "available_priors",
    "back_project",
    "errors",
    "estimate_noise_std",
    "load_image",
    "load_observation",
    "load_prior",
    "measure",
    "observe",
    "operators",
    "reconstruct",
    "reconstruct_all",
    "save_image",
    "save_observation",
    "save_prior",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"iagan.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'iagan' has no attribute {name!r}")
    return getattr(importlib.import_module(f"iagan.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
