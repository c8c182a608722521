"""What images look like: pretrained generators."""

from __future__ import annotations

from iagan.images import Crop
from iagan.priors.generator import Generator, LatentLaw, Metadata
from iagan.priors.networks.began import Began
from iagan.priors.networks.pggan import Pggan
from iagan.priors.networks.skipnet import SkipNet
from iagan.priors.weights.catalog import PRIORS, Prior, available_priors, load_prior
from iagan.priors.weights.native import save_prior

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
