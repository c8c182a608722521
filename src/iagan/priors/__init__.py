"""Image priors: pretrained generators."""

from __future__ import annotations

from iagan.images import Crop
from iagan.priors.base import (
    LATENTS,
    About,
    LatentSpace,
    NormalLatent,
    Prior,
    SphericalLatent,
    UniformLatent,
    parse_latent,
    register_latent,
)
from iagan.priors.generator import Generator
from iagan.priors.networks.began import Began
from iagan.priors.networks.pggan import Pggan
from iagan.priors.networks.registry import NETWORKS, register
from iagan.priors.networks.skipnet import SkipNet
from iagan.priors.weights.catalog import PRIORS, KnownPrior, available_priors, load_prior
from iagan.priors.weights.native import save_prior

__all__ = [
    "LATENTS",
    "NETWORKS",
    "PRIORS",
    "About",
    "Began",
    "Crop",
    "Generator",
    "KnownPrior",
    "LatentSpace",
    "NormalLatent",
    "Pggan",
    "Prior",
    "SkipNet",
    "SphericalLatent",
    "UniformLatent",
    "available_priors",
    "load_prior",
    "parse_latent",
    "register",
    "register_latent",
    "save_prior",
]
