"""Annotated shapes are checked in all tests (jaxtyping and beartype).

The command line is excluded: its annotations name types that are imported only when it runs.
"""

import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)  # faster for such small tests, and on a busy machine

install_import_hook(
    [
        "iagan.files",
        "iagan.priors",
        "iagan.images",
        "iagan.measure",
        "iagan.observation",
        "iagan.operators",
        "iagan.engine",
        "iagan.methods",
        "iagan.show",
        "iagan.train",
    ],
    "typecheck.typechecker",
)


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch):
    """Forbid downloads in tests: a backbone is present or treated as missing."""

    def refuse(url, *args, **kwargs):
        raise OSError(f"tests do not download {url}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
