"""Every test runs with the shapes in annotations checked (jaxtyping + beartype).

The command line is left out: its annotations name types that it imports only when it runs.
"""

import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)  # quicker for tests this small, and on a busy machine

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
    """No test reaches for the network: a backbone is there already, or it is missing."""

    def refuse(url, *args, **kwargs):
        raise OSError(f"tests do not download {url}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
