"""Figures of results, and progress bars."""

from iagan.show.figure import Panel, figure, picture_of
from iagan.show.outcomes import figure_rows
from iagan.show.progress import ProgressBar

__all__ = ["Panel", "ProgressBar", "figure", "figure_rows", "picture_of"]
