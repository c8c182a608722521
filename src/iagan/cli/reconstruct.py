"""`iagan reconstruct`: measurements or bad photographs → recovered photographs."""

from __future__ import annotations

import argparse
import dataclasses as dc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from iagan.cli import inputs, options, scores
from iagan.cli.progress import EventBar
from iagan.errors import IaganError, Interrupted, SettingError

if TYPE_CHECKING:
    from iagan.methods import Method, Reconstruction
    from iagan.observation import Observation
    from iagan.priors import Generator
    from iagan.types import Image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "inputs",
        metavar="Y",
        nargs="+",
        help="observations (.npz), images measured as --operator says, or folders of them",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        default=".",
        help="a PNG for one input and one method, else a folder for STEM_METHOD.png (default: .)",
    )
    parser.add_argument("--overwrite", action="store_true", help="redo outputs that exist")
    parser.add_argument(
        "--method",
        action="append",
        choices=options.METHODS,
        help="may be given several times (default: iagan-bp without noise, iagan with)",
    )
    parser.add_argument("--truth", metavar="IMAGE", help="the true image or a folder: adds scores")
    parser.add_argument("--figure", metavar="OUT.png", help="draw truth | observed | each method")
    options.add_prior(parser)
    options.add_crop(parser)
    _add_effort(parser)
    options.add_operator(parser, required=False)
    options.add_seed(parser)
    options.add_scores(parser)


def _add_effort(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("effort")
    group.add_argument(
        "--effort",
        choices=("fast", "paper"),
        default="fast",
        help="paper: the paper's full iteration counts (default: fast)",
    )
    group.add_argument("--csgm-steps", type=int, metavar="N", help="iterations of CSGM")
    group.add_argument("--steps", type=int, metavar="N", help="iterations of IAGAN or DIP")
    group.add_argument(
        "--restarts", type=int, metavar="K", default=1, help="random starts of z (default: 1)"
    )
    group.add_argument(
        "--bounded-latent",
        action="store_true",
        help="project z onto the support of its distribution after each step",
    )


def run(args: argparse.Namespace) -> int:
    """Work through the inputs, those that were measured alike together; carry on past a bad one."""
    session = Session(args)
    paths = inputs.find(args.inputs)
    session.plan(paths)
    failed: list[Path] = []

    def fail(path: Path, error: IaganError) -> None:
        if len(paths) == 1:
            raise error
        failed.append(path)
        print(f"iagan reconstruct: {path}: {error}", file=sys.stderr)

    for group in session.groups(paths, fail):
        try:
            session.work(group)
        except Interrupted:
            raise
        except IaganError as error:
            for job in group:
                fail(job.path, error)
    session.finish()
    if failed:
        names = ", ".join(map(str, failed))
        print(f"iagan reconstruct: {len(failed)} of {len(paths)} failed: {names}", file=sys.stderr)
    return 1 if failed else 0


@dc.dataclass(frozen=True)
class Job:
    """One input: what is expected of it and where it goes, and the methods that are to run."""

    path: Path
    source: inputs.Source
    truth: Image | None
    targets: dict[str, list[Path]]
    waiting: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source.observation)

    def goes_with(self, other: Job) -> bool:
        """Whether both can be recovered at once: the same camera, noise and methods."""
        mine, its = self.source.observation, other.source.observation
        return (
            self.waiting == other.waiting
            and mine.is_noisy == its.is_noisy
            and (mine.y.dtype, mine.y.shape[1:]) == (its.y.dtype, its.y.shape[1:])
            and mine.operator.spec() == its.operator.spec()
        )


class Session:
    """One call of the command: prior, options, what was drawn so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.methods = list(dict.fromkeys(args.method or [None]))
        self.scorer = scores.Scorer(args.lpips)
        self.generator: Generator = options.load_generator(args)
        self.execution = options.execution(args)
        self.rows: list[inputs.FigureRow] = []
        self.single = False

    def plan(self, paths: list[Path]) -> None:
        """Refuse what cannot be written before any work is done."""
        from iagan.files import check_writable

        output = Path(self.args.output)
        names_a_file = output.suffix.lower() == ".png" and not output.is_dir()
        if names_a_file and (len(paths) > 1 or len(self.methods) > 1):
            raise SettingError(
                f"-o {output} names one file, and there are {len(paths)} inputs and "
                f"{len(self.methods)} methods. Name a folder instead."
            )
        if output.suffix and not names_a_file and not output.is_dir():
            raise SettingError(f"-o expects a .png file or a folder; got {output}.")
        self.single = names_a_file
        check_writable(output if names_a_file else output / "x.png")
        if self.args.figure:
            check_writable(self.args.figure, ".png")

    def groups(
        self, paths: list[Path], fail: Callable[[Path, IaganError], None]
    ) -> Iterator[list[Job]]:
        """Neighbours that go together, as many as it is worth."""
        from iagan.methods import preferred_batch_size

        most = preferred_batch_size(self.generator, max(1, self.args.restarts))
        group: list[Job] = []
        for path in paths:
            try:
                job = self._prepare(path)
            except IaganError as error:
                fail(path, error)
                continue
            if group and (sum(map(len, [*group, job])) > most or not job.goes_with(group[0])):
                yield group
                group = []
            group.append(job)
        if group:
            yield group

    def _prepare(self, path: Path) -> Job:
        from iagan.methods import presets

        source = inputs.load(path, self.args, self.generator)
        names = [name or presets.default_name(source.observation) for name in self.methods]
        targets = {name: self._targets(path, name, len(source.observation)) for name in names}
        waiting = tuple(name for name in names if self.args.overwrite or not _exist(targets[name]))
        for name in names:
            if name not in waiting:
                print(f"iagan: {targets[name][0]} exists; skipped.", file=sys.stderr)
        truth = inputs.truth_for(path, source, self.args, self.generator)
        return Job(path, source, truth, targets, waiting)

    def work(self, group: list[Job]) -> None:
        """Inputs that go together, by every method."""
        from iagan.methods import reconstruct_all

        observation = _joined(group)
        label = group[0].path.name if len(group) == 1 else f"{len(group)} inputs"
        methods = [self._method(name, observation) for name in group[0].waiting]
        with EventBar(label, observation) as bar:
            results = reconstruct_all(
                observation,
                self.generator,
                methods,
                seed=self.args.seed,
                execution=self.execution,
                on_event=bar,
            )
            try:
                for result in results:
                    bar.close()
                    self._deliver_to(group, result)
            except Interrupted as stop:
                bar.close()
                self._save_partial(group, stop.result)
                raise
        if self.args.figure:
            for job in group:
                row = inputs.FigureRow(job.source, job.truth)
                row.add(job.targets, self.scorer)
                self.rows.append(row)

    def _method(self, name: str, observation: Observation) -> Method:
        from iagan.methods import presets

        return presets.adjust(
            presets.preset(name, observation, self.generator, self.args.effort),
            csgm_steps=self.args.csgm_steps,
            steps=self.args.steps,
            restarts=self.args.restarts,
            bounded=self.args.bounded_latent,
        )

    def finish(self) -> None:
        """Draw the figure."""
        if self.args.figure and self.rows:
            from iagan.show import figure

            figure([panel for row in self.rows for panel in row.panels()], self.args.figure)

    def _targets(self, path: Path, method: str, count: int) -> list[Path]:
        output = Path(self.args.output)
        if self.single and count == 1:
            return [output]
        if self.single:
            raise SettingError(
                f"{path} holds {count} images, and -o names one file; name a folder."
            )
        folder = output
        stems = [path.stem] if count == 1 else [f"{path.stem}-{i}" for i in range(count)]
        return [folder / f"{stem}_{method}.png" for stem in stems]

    def _deliver_to(self, group: list[Job], result: Reconstruction) -> None:
        begin = 0
        for job in group:
            self._deliver(job, result, begin)
            begin += len(job)

    def _save_partial(self, group: list[Job], result: Reconstruction) -> None:
        """The best images so far, under names that are not taken for finished ones."""
        from iagan.images import save_image

        targets = [path for job in group for path in job.targets[result.method.name]]
        for image, target in zip(result.image.split(1), targets, strict=True):
            partial = target.with_suffix(".partial.png")
            save_image(image, partial)
            print(f"iagan reconstruct: stopped; the best so far is {partial}", file=sys.stderr)

    def _deliver(self, job: Job, result: Reconstruction, begin: int) -> None:
        """Write and tell a job's part of a group's result, which begins there."""
        from iagan.images import save_image

        for i, target in enumerate(job.targets[result.method.name]):
            image = result.image[begin + i][None]
            save_image(image, target)
            record = self._record(job.path, result, begin + i)
            if len(job) > 1:
                record["index"] = i
            if job.truth is not None:
                record |= self.scorer(image, job.truth[min(i, len(job.truth) - 1)][None])
            print(scores.to_json(record) if self.args.json else _line(record, target), flush=True)

    def _record(self, path: Path, result: Reconstruction, i: int) -> dict[str, object]:
        return {
            "file": str(path),
            "method": result.method.name,
            "prior": self.args.prior,
            "seconds": round(result.seconds / len(result.image), 3),
            "steps": int(result.iterations[i]),
            "residual": float(result.residual[i]),
            "relative_residual": float(result.relative_residual[i]),
            "noise_floor": float(result.noise_floor[i]),
            "settings": result.method.spec(),
        }


def _joined(group: list[Job]) -> Observation:
    """The observations of a group as one."""
    import torch

    observations = [job.source.observation for job in group]
    return dc.replace(
        observations[0],
        y=torch.cat([each.y for each in observations]),
        noise_std=torch.cat([each.sigma for each in observations]),
    )


def _exist(targets: list[Path]) -> bool:
    return all(target.exists() for target in targets)


def _line(record: dict[str, object], target: Path) -> str:
    text = (
        f"{target}  {record['method']}  {record['seconds']:.1f} s  residual "
        f"{record['residual']:.3g} (noise floor {record['noise_floor']:.3g})"
    )
    return f"{text}  {scores.in_words(record)}" if "psnr" in record else text  # type: ignore[arg-type]
