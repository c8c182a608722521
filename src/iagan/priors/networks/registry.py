"""Networks by name, so that a weights file can name its network."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from iagan.errors import SettingError
from iagan.priors.networks.began import Began
from iagan.priors.networks.pggan import Pggan
from iagan.priors.networks.tapered import Tapered, TaperedEncoder

Factory = Callable[..., nn.Module]

NETWORKS: dict[str, Factory] = {
    "began": Began,
    "pggan": Pggan,
    "tapered": Tapered,
    "tapered-encoder": TaperedEncoder,
}
"""Network factories by their name in files; extended by `register`."""


def register(name: str, factory: Factory) -> None:
    """Make your own network or encoder available to `save_prior` and `load_prior`.

    **Arguments:**
    - `name`: name in files. If `factory` is a function, it must also be the prior's
      `About.architecture`.
    - `factory`: the class, or a function that returns a module. Its keyword arguments must be JSON
      values, and if it has any, the module's attribute `settings` must be a dict of all of them. It
      is also called under `torch.device("meta")`, to determine shapes.

    **Raises:** `SettingError` if another network has that name.
    """
    known = NETWORKS.setdefault(name, factory)
    if (known.__module__, known.__qualname__) != (factory.__module__, factory.__qualname__):
        raise SettingError(
            f"register expects a name that is not in use; got {name!r}, which is used by "
            f"{known.__qualname__}. Choose another."
        )
    NETWORKS[name] = factory


def registered_name(module: nn.Module, architecture: str = "") -> str:
    """The name in files of this module's network; empty if it is not registered."""
    of_class = [name for name, factory in NETWORKS.items() if factory is type(module)]
    return (of_class or [architecture if architecture in NETWORKS else ""])[0]
