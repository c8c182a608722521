"""The algorithms: phases of one signature, one loop that runs them, the paper's settings."""

from iagan.reconstruction.methods import METHODS, reconstruct, reconstruct_all
from iagan.reconstruction.project import back_project
from iagan.reconstruction.resolve import default_method
from iagan.reconstruction.result import Reconstruction, Settings
from iagan.reconstruction.task import Progress, worth_together

__all__ = [
    "METHODS",
    "Progress",
    "Reconstruction",
    "Settings",
    "back_project",
    "default_method",
    "reconstruct",
    "reconstruct_all",
    "worth_together",
]
