"""A progress bar with the objective falling; silent when not on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iagan.engine import Event
    from iagan.observation import Observation


class EventBar:
    """One bar a phase. Reads the objective from the device only when it is drawn.

    **Arguments:**
    - `label`: what is being worked on.
    - `observation`: what the noise alone makes of the objective is shown beside it.
    """

    def __init__(self, label: str = "", observation: Observation | None = None) -> None:
        self.label = label
        floor = 0.0 if observation is None else float(observation.noise_floor.max()) ** 2
        self.floor = f", of the noise {floor:.3g}" if floor else ""
        self.phase = ""
        self.bar = None
        self.shown = sys.stderr.isatty()

    def __enter__(self) -> EventBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Move the bar on."""
        if not self.shown:
            return
        if self.bar is None or self.phase != event.phase:
            self._open(event)
        assert self.bar is not None
        if self.bar.update(event.step - self.bar.n) and event.objective is not None:
            worst = float(event.objective.max())
            self.bar.set_postfix_str(f"objective {worst:.3g}{self.floor}", False)

    def close(self) -> None:
        """Leave the bar as it is; the next phase gets a new one."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _open(self, event: Event) -> None:
        from tqdm import tqdm

        self.close()
        self.phase = event.phase
        self.bar = tqdm(
            total=event.total,
            desc=f"{self.label} {event.phase}".strip(),
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

    def __call__(self, event: Event) -> None:
        """Move the bar on."""
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(
                total=event.total or None,
                desc=self.label,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                disable=not sys.stderr.isatty(),
            )
        assert self.bar is not None
        self.bar.update(event.step - self.bar.n)
