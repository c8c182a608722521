"""Reconstruction methods, as immutable values with all their settings."""

from iagan.methods import presets
from iagan.methods.base import METHODS, Method, from_spec, register
from iagan.methods.csgm import CSGM
from iagan.methods.dip import DIP
from iagan.methods.estimate import Estimate
from iagan.methods.iagan import IAGAN
from iagan.methods.phase import preferred_batch_size
from iagan.methods.projection import (
    BackProjected,
    Naive,
    PseudoInverse,
    back_project,
    noise_gain,
)
from iagan.methods.reconstruct import reconstruct, reconstruct_all
from iagan.methods.result import Reconstruction
from iagan.methods.task import Task

__all__ = [
    "CSGM",
    "DIP",
    "IAGAN",
    "METHODS",
    "BackProjected",
    "Estimate",
    "Method",
    "Naive",
    "PseudoInverse",
    "Reconstruction",
    "Task",
    "back_project",
    "from_spec",
    "noise_gain",
    "preferred_batch_size",
    "presets",
    "reconstruct",
    "reconstruct_all",
    "register",
]
