"""The engine: the minimisation loop, its worker threads, and its execution settings."""

from iagan.engine.events import Event, EventCallback
from iagan.engine.execution import Execution, idle_threads

__all__ = ["Event", "EventCallback", "Execution", "idle_threads"]
