"""Checkpoints of a run: one safetensors file of tensors and JSON, replaced atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from iagan.errors import CheckpointError, SettingError, shown
from iagan.files import write_atomically
from iagan.limits import LIMITS, MIB, Limits
from iagan.priors.weights.checks import check_header
from iagan.train.base import TrainingRun, TrainSettings, check_tensor
from iagan.train.recipes import RECIPES, new_run

KEY = "iagan_training"
NOTE_BYTES = 8 * MIB
"""Maximum size of the header: its JSON, and the names and shapes of the tensors."""


def save_checkpoint(run: TrainingRun, path: Path, digest: str) -> None:
    """Write `run` to `path`, atomically.

    **Arguments:**
    - `digest`: fingerprint of the training images.

    **Raises:** `OutputError` if it cannot be written.
    """
    tensors = {
        f"{network}.{name}": value.contiguous().cpu()
        for network, module in run.networks.items()
        for name, value in module.state_dict().items()
    }
    for name, optimizer in run.optimizers.items():
        tensors |= _moments(name, optimizer)
    tensors |= {name: value.contiguous().cpu() for name, value in run.tensors().items()}
    state = {"settings": run.settings.to_json(), "digest": digest, **run.state()}
    data = save(tensors, {KEY: json.dumps(state)})
    write_atomically(path, lambda file: file.write(data))


def load_checkpoint(
    path: Path,
    settings: TrainSettings,
    digest: str,
    device: torch.device,
    limits: Limits = LIMITS,
) -> TrainingRun:
    """The run written by `save_checkpoint`.

    **Raises:** `CheckpointError` if the file is not such a checkpoint; `SettingError` if it belongs
    to other settings or images.
    """
    state = _read_state(path, limits)
    _refuse_another_run(path, state, settings, digest)
    run = new_run(settings, device)
    try:
        _check_size(run, path)
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _fill(run, state, tensors)
    except Exception as error:  # an untrusted file can make the constructors raise anything
        raise _refusal(path, error) from error
    return run


def _refusal(path: Path, error: Exception) -> CheckpointError:
    reason = shown(str(error).partition("\n")[0]) or type(error).__name__
    return CheckpointError(
        f"{path} is not a checkpoint of a training run ({reason}). Delete it to start again."
    )


def _read_state(path: Path, limits: Limits) -> dict[str, Any]:
    """The JSON part of the checkpoint, with its settings decoded."""
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        check_header(path, min(limits.text_bytes, NOTE_BYTES))
        with safe_open(path, "pt") as file:
            state = dict(json.loads((file.metadata() or {})[KEY]))
        state["settings"] = TrainSettings.from_json(state["settings"])
        if not isinstance(state["digest"], str):
            raise ValueError("its digest is not text")
    except Exception as error:  # as above
        raise _refusal(path, error) from error
    return state


def _refuse_another_run(
    path: Path, state: dict[str, Any], settings: TrainSettings, digest: str
) -> None:
    before = state["settings"]
    if type(before) is not type(settings):
        raise SettingError(
            f"{path} was started with the recipe {_recipe_like(before)}; got the settings of "
            f"{_recipe_like(settings)}. Resume with the same (--recipe {_recipe_like(before)} and "
            "its other options), or train to another output."
        )
    changed = [
        f"{name} {shown(repr(getattr(before, name)), 40)} (now {getattr(settings, name)!r})"
        for name in before.differences(settings)
    ]
    if changed:
        raise SettingError(
            f"{path} was started with {', '.join(changed)}. Resume with the same settings "
            "(--recipe and its other options), or train to another output."
        )
    if state["digest"] != digest:
        raise SettingError(
            f"{path} was started with other images than those given now. Use the same images, or "
            "train to another output."
        )


def _recipe_like(settings: TrainSettings) -> str:
    """The name of the recipe that differs least from the settings."""
    alike = [name for name, recipe in RECIPES.items() if type(recipe) is type(settings)]
    return min(alike, key=lambda name: len(RECIPES[name].differences(settings)))


def _check_size(run: TrainingRun, path: Path) -> None:
    """**Raises:** `ValueError` for a file larger than weights, Adam's two moments and codes."""
    weights = sum(
        value.numel()
        for network in run.networks.values()
        for value in network.state_dict().values()
    )
    most = 4 * (3 * weights + 2 * run.settings.latent * (run.settings.latent + 1)) + 2 * NOTE_BYTES
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"{size} bytes; a run with these settings takes at most {most}")


def _fill(run: TrainingRun, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    for network, module in run.networks.items():
        prefix = f"{network}."
        module.load_state_dict(
            {
                name[len(prefix) :]: tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
        )
    for name, optimizer in run.optimizers.items():
        _fill_moments(name, optimizer, tensors)
    run.restore(state, tensors)


def _moments(name: str, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    return {
        f"adam.{name}.{index}.{key}": value.contiguous().cpu()
        for index, weight in enumerate(optimizer.param_groups[0]["params"])
        for key, value in optimizer.state.get(weight, {}).items()
    }


def _fill_moments(name: str, optimizer: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    for index, weight in enumerate(optimizer.param_groups[0]["params"]):
        prefix = f"adam.{name}.{index}."
        if prefix + "step" not in tensors:
            continue
        step = tensors[prefix + "step"]
        check_tensor(step, (), prefix + "step")
        moments = {key: tensors[prefix + key] for key in ("exp_avg", "exp_avg_sq")}
        for key, value in moments.items():
            check_tensor(value, weight.shape, prefix + key)
        optimizer.state[weight] = {"step": step} | {
            key: torch.empty_like(weight, requires_grad=False).copy_(value)
            for key, value in moments.items()
        }
