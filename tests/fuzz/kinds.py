"""All kinds of trials, by name."""

from __future__ import annotations

from fuzz import descriptions, extremes, faulty, pictures, runs, weights
from fuzz.base import Kind

KINDS = {
    **pictures.KINDS,
    **descriptions.KINDS,
    **weights.KINDS,
    **runs.KINDS,
    "extreme": Kind(4, extremes.make, (extremes.read,)),
    "faulty": Kind(0, faulty.make, (faulty.read,)),
}
