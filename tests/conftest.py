"""Every test runs with the shapes in annotations checked (jaxtyping + beartype).

The command line is left out: its annotations name types that it imports only when it runs.
"""

from jaxtyping import install_import_hook

install_import_hook(
    [
        "iagan.files",
        "iagan.generators",
        "iagan.images",
        "iagan.measure",
        "iagan.observation",
        "iagan.operators",
        "iagan.reconstruction",
        "iagan.show",
        "iagan.train",
    ],
    "beartype.beartype",
)
