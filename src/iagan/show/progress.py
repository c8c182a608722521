"""Progress bars of long runs, in a terminal or a notebook only."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from iagan.engine import Event
from iagan.observation import Observation

OUTER = ("files", "images")
"""Phases whose bar stays while the bars of other phases appear below it."""


class ProgressBar:
    """An `on_event` that draws one bar per phase, and a lasting one for the files completed.

    The objective is read from the device only when the bar is drawn. Nothing is drawn if the logger
    "iagan" does not report warnings.

    **Arguments:**
    - `label`: text before the name of the phase.
    - `observation`: the objective due to its noise alone is shown next to the current one.
    - `line`: returns the text to print on stderr for an event if no bar is drawn; empty: none.
    """

    def __init__(
        self,
        label: str = "",
        observation: Observation | None = None,
        line: Callable[[Event], str] = lambda event: "",
    ) -> None:
        self.label, self.line = label, line
        floor = 0.0 if observation is None else float(observation.noise_floor.max()) ** 2
        self.floor = f", of the noise {floor:.3g}" if floor else ""
        self.phase = ""
        self.inner: Any = None
        self.outer: Any = None
        self.enabled = logging.getLogger("iagan").isEnabledFor(logging.WARNING)
        self.shown = self.enabled and (_is_terminal() or _in_notebook())

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Update the bar."""
        if not self.shown:
            line = self.line(event) if self.enabled else ""
            if line:
                print(line, file=sys.stderr)
            return
        if event.phase in OUTER:
            if event.total == 1:
                return
            self.outer = self.outer or _bar(event, event.phase, leave=True)
            self.outer.update(event.step - self.outer.n)
            self.outer.set_postfix_str(event.message, refresh=False)
            return
        if self.inner is None or self.phase != event.phase:
            self._close_inner()
            self.phase = event.phase
            self.inner = _bar(event, f"{self.label} {event.phase}".strip(), leave=False)
        if self.inner.update(event.step - self.inner.n):
            self.inner.set_postfix_str(self._state(event), refresh=False)

    def _state(self, event: Event) -> str:
        if event.objective is not None:
            return f"objective {float(event.objective.max()):.3g}{self.floor}"
        return format_values(event)

    def aside(self) -> AbstractContextManager[object]:
        """A context in which lines can be printed on stdout, with the bars hidden."""
        if self.inner is None and self.outer is None:
            return nullcontext()
        return type(self.inner or self.outer).external_write_mode(file=sys.stdout)

    def close(self) -> None:
        """Remove the bar of the phase; the bar of files stays."""
        self._close_inner()
        if self.outer is not None:
            self.outer.close()
            self.outer = None

    def _close_inner(self) -> None:
        if self.inner is not None:
            self.inner.close()
            self.inner = None


def format_values(event: Event) -> str:
    """The values of an event as text: `loss 0.1234, rate 12.3000`."""
    return ", ".join(f"{name} {value:.4f}" for name, value in event.values.items())


def _bar(event: Event, label: str, leave: bool) -> Any:
    from tqdm.auto import tqdm

    in_bytes = event.phase == "download"
    return tqdm(
        total=event.total or None,
        initial=event.step if leave else max(0, event.step - 1),
        desc=label,
        leave=leave,
        mininterval=0.2,
        unit="B" if in_bytes else "it",
        unit_scale=in_bytes,
        unit_divisor=1024 if in_bytes else 1000,
        **_size(),
    )


def _size() -> dict[str, int]:
    """A size for a terminal that has none, as in some containers, where tqdm would draw nothing."""
    try:
        columns, lines = os.get_terminal_size(sys.stderr.fileno())
    except OSError:
        return {}
    return {} if columns and lines else {"ncols": columns or 80, "nrows": lines or 24}


def _is_terminal() -> bool:
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"
