"""Networks by name, so that a file of weights can say which network they are of."""

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
"""Every network by its name in files; `register` adds to it."""


def register(name: str, factory: Factory) -> None:
    """Let `save_prior` and `load_prior` know a network, or an encoder, of your own.

    **Arguments:**
    - `name`: the word in files. A prior whose `factory` is a function has to give it as its
      `About.architecture`, too.
    - `factory`: the class, or a function that makes one. Its keyword arguments are JSON values, and
      the module's attribute `settings`, if it has arguments, is a dict of all of them. It is also
      called under `torch.device("meta")`, to learn shapes.

    **Raises:** `SettingError` where another network has that name.
    """
    known = NETWORKS.setdefault(name, factory)
    if (known.__module__, known.__qualname__) != (factory.__module__, factory.__qualname__):
        raise SettingError(
            f"register expects a name that no other network has; got {name!r}, which is "
            f"{known.__qualname__}'s. Choose another."
        )
    NETWORKS[name] = factory


def registered_name(module: nn.Module, architecture: str = "") -> str:
    """The name in files of this module's network; empty where it has none."""
    of_class = [name for name, factory in NETWORKS.items() if factory is type(module)]
    return (of_class or [architecture if architecture in NETWORKS else ""])[0]
