"""`python -m fuzz 20000 --seed 1`: try so many damaged inputs; exit code 1 where one fails."""

from __future__ import annotations

import argparse
import collections
import re
import sys
import tempfile
import time
from pathlib import Path

from fuzz.kinds import KINDS
from fuzz.watch import Tally, run
from fuzz.worker import Outcome, kind_of
from iagan.limits import MIB


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 where every input was read or refused as it should be."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("trials", type=int, nargs="?", default=2000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="INDEX", help="try this input alone")
    parser.add_argument("--kind", choices=list(KINDS), help="make all inputs of this kind")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    asked = parser.parse_args(argv)
    indices = range(asked.trials) if asked.only is None else [asked.only]
    trials = [(index, asked.kind or kind_of(asked.seed, index)) for index in indices]
    report = Report(asked.seed, len(trials), asked.failures)
    with tempfile.TemporaryDirectory() as folder:
        run(asked.seed, trials, Path(folder), asked.failures, report.add)
    return report.end()


class Report:
    """Tells how far it is, what failed, and at the end what became of each kind."""

    def __init__(self, seed: int, trials: int, failures: Path) -> None:
        self.seed, self.trials, self.failures = seed, trials, failures
        self.tallies: dict[str, Tally] = collections.defaultdict(Tally)
        self.faults: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
        self.done, self.begun = 0, time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """Count it, and tell a failure that is the first of its kind."""
        self.done += 1
        self.tallies[outcome.kind].add(outcome)
        if outcome.failure:
            words = re.sub(r"\d+", "N", outcome.failure[:80])
            fault = (outcome.kind, words)
            self.faults[fault].append(outcome.index)
            if len(self.faults[fault]) == 1:
                print(
                    f"FAILED {outcome.kind}, seed {self.seed}, index {outcome.index}: "
                    f"{outcome.failure}",
                    flush=True,
                )
        if self.done % max(self.trials // 20, 1) == 0:
            rate = self.done / (time.monotonic() - self.begun)
            failed = sum(tally.failed for tally in self.tallies.values())
            print(f"{self.done}/{self.trials}, {rate:.0f} a second, {failed} failed", flush=True)

    def end(self) -> int:
        """Print the tables; the exit code."""
        print(f"{'kind':<18} tried  refused  failed  seconds  slowest s  most MiB")
        for name, each in sorted(self.tallies.items()):
            print(
                f"{name:<18} {each.tried:5}  {each.refused:7}  {each.failed:6}  "
                f"{each.seconds:7.1f}  {each.slowest:9.2f}  {each.memory / MIB:8.0f}"
            )
        print(f"{self.done} trials in {time.monotonic() - self.begun:.0f} s, seed {self.seed}.")
        for (kind, words), indices in self.faults.items():
            again = f"--seed {self.seed} --kind '{kind}' --only {indices[0]}"
            print(f"{len(indices)} × {kind}: {words}: {again}")
        if self.faults:
            print(f"The inputs are in {self.failures}.")
        return int(bool(self.faults))


if __name__ == "__main__":
    sys.exit(main())
