"""Checkpoints of a run: one safetensors file of tensors and JSON, replaced atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from iagan.errors import CheckpointError, SettingError
from iagan.files import write_atomically
from iagan.train.base import TrainingRun, TrainSettings
from iagan.train.recipes import new_run

KEY = "iagan_training"


def save_checkpoint(run: TrainingRun, path: Path, digest: str) -> None:
    """Write `run` to `path`, atomically.

    **Arguments:**
    - `digest`: fingerprint of the training images.

    **Raises:** `OutputError` when it cannot be written.
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
    path: Path, settings: TrainSettings, digest: str, device: torch.device
) -> TrainingRun:
    """The run written by `save_checkpoint`.

    **Raises:** `CheckpointError` when the file is not such a checkpoint; `SettingError` when it
    belongs to other settings or images.
    """
    try:
        with safe_open(path, "pt") as file:
            state = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _refuse_another_run(path, state, settings, digest)
        run = new_run(settings, device)
        _fill(run, state, tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, SettingError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is no checkpoint of a training run ({reason}). Delete it to start again."
        ) from error
    return run


def _refuse_another_run(
    path: Path, state: dict[str, Any], settings: TrainSettings, digest: str
) -> None:
    before = TrainSettings.from_json(state["settings"])
    changed = [
        f"{name} {getattr(before, name)!r} (now {getattr(settings, name)!r})"
        for name in before.differences(settings)
    ]
    if changed:
        raise SettingError(
            f"{path} was begun with {', '.join(changed)}. Go on with the same settings, or train "
            "to another output."
        )
    if state["digest"] != digest:
        raise SettingError(
            f"{path} was begun with other images than those given now. Name the same images, or "
            "train to another output."
        )


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
        optimizer.state[weight] = {"step": tensors[prefix + "step"]} | {
            key: torch.empty_like(weight, requires_grad=False).copy_(tensors[prefix + key])
            for key in ("exp_avg", "exp_avg_sq")
        }
