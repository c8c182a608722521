"""The engine: one loop that minimises, the threads it runs on, how it is executed."""

from iagan.engine.events import Event, EventCallback
from iagan.engine.execution import Execution, idle_threads

__all__ = ["Event", "EventCallback", "Execution", "idle_threads"]
