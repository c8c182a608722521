"""Pictures of results."""

from iagan.show.figure import Panel, figure, picture_of

__all__ = ["Panel", "figure", "picture_of"]
