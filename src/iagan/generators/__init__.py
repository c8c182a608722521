"""What images look like: pretrained generators."""

from __future__ import annotations

from iagan.generators.base import Generator, LatentLaw, Metadata
from iagan.generators.began import Began
from iagan.generators.pggan import Pggan
from iagan.generators.registry import PRIORS, Prior, available_priors, load_prior
from iagan.generators.skipnet import SkipNet
from iagan.generators.store import save_prior
from iagan.images import Crop

__all__ = [
    "PRIORS",
    "Began",
    "Crop",
    "Generator",
    "LatentLaw",
    "Metadata",
    "Pggan",
    "Prior",
    "SkipNet",
    "available_priors",
    "load_prior",
    "save_prior",
]
