"""Batch recovery of files, on this machine or by an executor on others."""

from iagan.jobs.inputs import Camera, Input, find_inputs, load_input
from iagan.jobs.job import Job, run_job, run_jobs
from iagan.jobs.outcome import Outcome
from iagan.jobs.records import RunFolder, to_json
from iagan.jobs.recover import recover
from iagan.jobs.scores import Scorer, format_scores
from iagan.jobs.truth import load_truth

__all__ = [
    "Camera",
    "Input",
    "Job",
    "Outcome",
    "RunFolder",
    "Scorer",
    "find_inputs",
    "format_scores",
    "load_input",
    "load_truth",
    "recover",
    "run_job",
    "run_jobs",
    "to_json",
]
