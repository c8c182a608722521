"""Planning of a recovery: which images are recovered together, by which methods, or skipped."""

from __future__ import annotations

import collections
import dataclasses as dc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from iagan.errors import IaganError, SettingError
from iagan.jobs.inputs import Camera, Input, load_input
from iagan.jobs.outcome import Outcome
from iagan.jobs.outputs import Outputs, digest_of_prior, settings_of
from iagan.limits import Limits
from iagan.methods import Method, preferred_batch_size, presets
from iagan.observation import Observation
from iagan.operators import LinearOperator
from iagan.priors import Generator

MethodChoice: TypeAlias = "Method | str | None | Callable[[Observation, Generator], Method]"
"""A method, the name of a preset, None (the default preset), or a function returning a method."""


@dc.dataclass(frozen=True, eq=False)
class Planned:
    """An input, with its output files and the methods that have yet to run.

    **Arguments:**
    - `targets`, `settings`: by name of the method: one file per image, and the images' settings.
    """

    input: Input
    targets: dict[str, list[Path]]
    settings: dict[str, dict[str, Any]]
    waiting: dict[str, Method]

    def __len__(self) -> int:
        return len(self.input.observation)

    def goes_with(self, other: Planned) -> bool:
        """Whether both can be recovered in one job: same operator and methods."""
        mine, its = self.input.observation, other.input.observation
        return (
            self.waiting == other.waiting
            and mine.is_noisy == its.is_noisy
            and (mine.y.dtype, mine.y.shape[1:]) == (its.y.dtype, its.y.shape[1:])
            and _are_alike(mine.operator, its.operator)
        )


class Planner:
    """Reads inputs and groups those that can be recovered together.

    **Arguments:**
    - `choices`, `effort`: the methods, and the effort of those given by name.
    - `seed`, `precision`: other settings that determine an image.
    - `truth`: the true image, or a folder of true images.
    - `limits`: bounds on the inputs.
    """

    def __init__(
        self,
        outputs: Outputs,
        generator: Generator,
        camera: Camera,
        choices: tuple[MethodChoice, ...],
        effort: str,
        seed: int,
        precision: str,
        truth: str | os.PathLike[str] | None,
        limits: Limits,
    ) -> None:
        self.limits = limits
        self.outputs, self.generator, self.camera, self.truth = outputs, generator, camera, truth
        self.choices, self.effort, self.seed, self.precision = choices, effort, seed, precision
        self.prior_digest = digest_of_prior(generator)
        self.ready: collections.deque[Outcome] = collections.deque()
        """Outcomes that need no job: of unreadable inputs, and images recovered earlier."""
        self.expected: dict[Path, int] = {}
        """Number of outcomes of each input that was read."""

    def groups(self, paths: list[Path]) -> Iterator[list[Planned]]:
        """Groups of consecutive inputs that can be recovered together, of preferred batch size."""
        group: list[Planned] = []
        for path in paths:
            try:
                planned = self._plan(path)
            except IaganError as error:
                self.ready.append(Outcome(path, "failed", error=error))
                continue
            if not planned.waiting:
                continue
            starts = max(map(_restarts, planned.waiting.values()))
            most = preferred_batch_size(self.generator, starts)
            full = sum(map(len, [*group, planned])) > most
            if group and (full or not planned.goes_with(group[0])):
                yield group
                group = []
            group.append(planned)
        if group:
            yield group

    def _plan(self, path: Path) -> Planned:
        source = load_input(path, self.camera, self.generator, self.truth, self.limits)
        methods = self._methods(source.observation)
        count = len(source.observation)
        targets = {name: self.outputs.targets(path, name, count) for name in methods}
        settings = {
            name: settings_of(
                source.observation, method, self.prior_digest, self.seed, self.precision
            )
            for name, method in methods.items()
        }
        made = [name for name in methods if self.outputs.are_made(targets[name], settings[name])]
        self.expected[path] = count * len(methods)
        self.ready += [
            Outcome(path, "skipped", i, name, target, input=source)
            for name in made
            for i, target in enumerate(targets[name])
        ]
        waiting = {name: method for name, method in methods.items() if name not in made}
        return Planned(source, targets, settings, waiting)

    def _methods(self, observation: Observation) -> dict[str, Method]:
        """The methods for this observation, by name."""
        methods: dict[str, Method] = {}
        for choice in self.choices:
            if isinstance(choice, Method):
                method = choice
            elif callable(choice):
                method = choice(observation, self.generator)
            else:
                method = presets.preset(choice, observation, self.generator, self.effort)
            if methods.setdefault(method.name, method) != method:
                raise SettingError(
                    f"Two methods are called {method.name}, so their images would have the same "
                    "file name. Use a separate folder for each."
                )
        return methods


def _are_alike(first: LinearOperator, second: LinearOperator) -> bool:
    """Whether two operators are equal; those without a spec only if they are the same object."""
    try:
        return first is second or first.spec() == second.spec()
    except SettingError:
        return False


def _restarts(method: Method) -> int:
    """Maximum number of starts of z per image, over a method and its inner methods."""
    values = [getattr(method, field.name) for field in dc.fields(method)]  # type: ignore[arg-type]
    inner = [_restarts(value) for value in values if isinstance(value, Method)]
    return max([getattr(method, "restarts", 1), *inner])
