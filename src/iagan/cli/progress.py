"""A progress bar with the objective falling; silent when not on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iagan.observation import Observation
    from iagan.reconstruction import Progress


class ProgressBar:
    """One bar a phase. Reads the objective from the device only when it is drawn.

    **Arguments:**
    - `label`: what is being worked on.
    - `observation`: what the noise alone makes of the objective is shown beside it.
    """

    def __init__(self, label: str, observation: Observation) -> None:
        self.label = label
        floor = observation.noise_floor**2
        self.floor = f", of the noise {floor:.3g}" if floor else ""
        self.phase = ""
        self.bar = None
        self.shown = sys.stderr.isatty()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, progress: Progress) -> None:
        """Move the bar on."""
        if not self.shown:
            return
        if self.bar is None or self.phase != progress.phase:
            self._open(progress)
        assert self.bar is not None
        if self.bar.update(progress.done - self.bar.n):
            worst = float(progress.objective.max())
            self.bar.set_postfix_str(f"objective {worst:.3g}{self.floor}", False)

    def close(self) -> None:
        """Leave the bar as it is; the next phase gets a new one."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _open(self, progress: Progress) -> None:
        from tqdm import tqdm

        self.close()
        self.phase = progress.phase
        self.bar = tqdm(
            total=progress.total,
            desc=f"{self.label} {progress.phase}",
            leave=False,
            mininterval=0.2,
        )


class DownloadBar:
    """Bytes of a prior that is being fetched; nothing where nothing is fetched.

    **Arguments:**
    - `label`: the prior's name.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.bar = None

    def __enter__(self) -> DownloadBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Move the bar on."""
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(
                total=total or None,
                desc=self.label,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                disable=not sys.stderr.isatty(),
            )
        assert self.bar is not None
        self.bar.update(done - self.bar.n)
