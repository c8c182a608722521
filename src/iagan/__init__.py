"""Recover images from degraded measurements with pretrained generative models.

The public names are listed in `__init__.pyi`. Each is imported on first use, so that `iagan --help`
and programs that need only a part start fast.
"""

from typing import Any

import lazy_loader

_lazily, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("iagan")
    return _lazily(name)
