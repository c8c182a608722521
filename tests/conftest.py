"""Every test runs with the shapes in annotations checked (jaxtyping + beartype)."""

from jaxtyping import install_import_hook

install_import_hook("iagan", "beartype.beartype")
