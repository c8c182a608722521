"""`recover`: `iagan reconstruct` for use from Python, for example in a web server or a cluster."""

from __future__ import annotations

import dataclasses as dc
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from iagan.engine import Event, EventCallback, Execution
from iagan.errors import Cancelled, IaganError, SettingError
from iagan.jobs.inputs import Box, Camera, Shape, find_inputs
from iagan.jobs.job import Executor, Job, run_jobs, tell
from iagan.jobs.outcome import Outcome
from iagan.jobs.outputs import Outputs
from iagan.jobs.plan import MethodChoice, Planned, Planner
from iagan.jobs.records import measured
from iagan.jobs.scores import Scorer
from iagan.limits import LIMITS, Limits
from iagan.methods import Reconstruction
from iagan.operators import LinearOperator
from iagan.priors import Generator, load_prior


def recover(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    prior: Generator | str | os.PathLike[str] = "faces",
    operator: LinearOperator | Callable[[Shape], LinearOperator] | None = None,
    noise_std: float | Literal["auto"] = 0.0,
    crop: Box | None = None,
    methods: Sequence[MethodChoice] = (None,),
    effort: str = "fast",
    seed: int = 0,
    truth: str | os.PathLike[str] | None = None,
    lpips_net: str | None = "alex",
    overwrite: bool = False,
    limits: Limits = LIMITS,
    execution: Execution | None = None,
    executor: Executor | None = None,
    on_event: EventCallback | None = None,
) -> Iterator[Outcome]:
    """Recover and save every image of files and folders; yields one outcome per image and method.

    Inputs with the same operator are recovered together. An input that cannot be read, or an output
    that cannot be written, yields an outcome of status `"failed"`; the others continue.

    **Arguments:**
    - `inputs`: observations (.npz), images, and folders of them; or one of these. Where a folder is
      also the output, results of earlier calls in it are skipped.
    - `output`: a folder for STEM_METHOD.png; or one .png, for one image and one method.
    - `operator`, `noise_std`, `crop`: how plain images were measured (`iagan.jobs.Camera`).
    - `methods`: methods, names of presets, None for the default preset, or functions of
      (observation, prior); `effort` applies to presets.
    - `truth`: the true image, or a folder of true images with the inputs' stems: adds scores to the
      records.
    - `lpips_net`: backbone of LPIPS; None: no LPIPS.
    - `overwrite`: replace existing outputs. Otherwise images made with the same settings are
      skipped, and inputs with other existing outputs fail.
    - `limits`: bounds on the inputs; a Gaussian matrix above `array_bytes` is refused.
    - `executor`: runs the jobs elsewhere (`iagan.jobs.run_jobs`); None: in this process.
    - `on_event`: called after every step, and with an event of phase `"files"` when an input is
      finished.

    **Raises:** `SettingError`, `OutputError`, and the errors of `load_prior`, before any work;
    `Cancelled` if `on_event` raises, `Interrupted` on Ctrl-C, after an outcome of status
    `"stopped"` for each image in progress.
    """
    if not methods or isinstance(methods, str):
        raise SettingError(f"recover expects methods as a list of at least one; got {methods!r}.")
    if operator is not None and not (isinstance(operator, LinearOperator) or callable(operator)):
        raise SettingError(
            "recover expects operator as a LinearOperator, or a function of an image's shape that "
            f"returns one; got {type(operator).__name__}."
        )
    paths = find_inputs([inputs] if isinstance(inputs, str | os.PathLike) else inputs, output)
    outputs = Outputs(output, paths, len(methods), overwrite)
    execution = execution or Execution()
    generator = prior if isinstance(prior, Generator) else load_prior(prior, on_event)
    if execution.device is not None:
        generator = generator.to(execution.device)
    name = prior.about.name if isinstance(prior, Generator) else str(prior)
    camera = Camera(operator, noise_std, crop)
    planner = Planner(
        outputs, generator, camera, tuple(methods), effort, seed, execution.precision, truth, limits
    )
    theirs = generator if executor is None else prior
    recovery = _Recovery(planner, theirs, name, execution, Scorer(lpips_net), executor, on_event)
    return recovery.run(paths)


@dc.dataclass(frozen=True, eq=False)
class _Recovery:
    """One call of `recover`: jobs from the planner's groups, and outcomes from their results."""

    planner: Planner
    prior: Generator | str | os.PathLike[str]
    prior_name: str
    execution: Execution
    scorer: Scorer
    executor: Executor | None
    on_event: EventCallback | None

    def run(self, paths: list[Path]) -> Iterator[Outcome]:
        """Yield all outcomes, with an event after the last one of each input."""
        tell(self.on_event, Event("files", 0, len(paths)))
        seen: dict[Path, int] = {}
        finished = 0
        for outcome in self._outcomes(paths):
            yield outcome
            path = outcome.path
            seen[path] = seen.get(path, 0) + 1
            if outcome.method is None or seen[path] == self.planner.expected[path]:
                finished += 1
                tell(self.on_event, Event("files", finished, len(paths)))

    def _outcomes(self, paths: list[Path]) -> Iterator[Outcome]:
        for group, answer in self._answers(self.planner.groups(paths)):
            yield from self._ready()
            failed = isinstance(answer, IaganError) and not isinstance(answer, Cancelled)
            if failed and len(group) > 1:
                for alone, its_answer in self._answers([planned] for planned in group):
                    yield from self._delivered(alone, its_answer)
            else:
                yield from self._delivered(group, answer)
        yield from self._ready()

    def _ready(self) -> Iterator[Outcome]:
        while self.planner.ready:
            yield self.planner.ready.popleft()

    def _answers(
        self, groups: Iterable[list[Planned]]
    ) -> Iterator[tuple[list[Planned], Reconstruction | IaganError]]:
        """Run one job per group; yields one answer per method, or the error that ended the job."""
        group_of: dict[Job, list[Planned]] = {}

        def jobs() -> Iterator[Job]:
            for group in groups:
                job = self._job(group)
                group_of[job] = group
                yield job

        for job, answer in run_jobs(jobs(), self.executor, self.on_event):
            yield group_of[job], answer

    def _job(self, group: list[Planned]) -> Job:
        observations = [planned.input.observation for planned in group]
        together = dc.replace(
            observations[0],
            y=torch.cat([each.y for each in observations]),
            noise_std=torch.cat([each.sigma for each in observations]),
        )
        methods = tuple(group[0].waiting.values())
        return Job(together, methods, self.prior, self.planner.seed, self.execution)

    def _delivered(
        self, group: list[Planned], answer: Reconstruction | IaganError
    ) -> Iterator[Outcome]:
        if isinstance(answer, Reconstruction):
            yield from self._saved(group, answer, "done")
        elif isinstance(answer, Cancelled):
            if answer.result is not None:
                yield from self._saved(group, answer.result, "stopped")
            raise answer
        else:
            for planned in group:
                yield Outcome(planned.input.path, "failed", error=answer, input=planned.input)

    def _saved(
        self, group: list[Planned], result: Reconstruction, status: Literal["done", "stopped"]
    ) -> Iterator[Outcome]:
        name = result.method.name
        places = [(planned, i) for planned in group for i in range(len(planned))]
        for place, (planned, i) in enumerate(places):
            path, image = planned.input.path, result.image[place][None].detach().cpu()
            target = planned.targets[name][i]
            try:
                if status == "done":
                    self.planner.outputs.save(image, target, planned.settings[name])
                else:
                    target = self.planner.outputs.save_partial(image, target)
                record = self._record(planned, result, place, i, target)
            except IaganError as error:
                yield Outcome(path, "failed", i, name, target, error=error, input=planned.input)
                continue
            yield Outcome(path, status, i, name, target, image, record, planned.input)

    def _record(
        self, planned: Planned, result: Reconstruction, place: int, i: int, target: Path
    ) -> dict[str, Any]:
        record: dict[str, Any] = {
            "file": str(planned.input.path),
            "output": str(target),
            "method": result.method.name,
            "prior": self.prior_name,
            **measured(result, place),
            "settings": result.method.spec(),
            "messages": [*planned.input.messages, *result.messages],
        }
        if len(planned) > 1:
            record["index"] = i
        truth = planned.input.truth_of(i)
        if truth is not None:
            record |= self.scorer(result.image[place][None], truth)
        return record
