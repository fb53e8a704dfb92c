"""Locks and the like, under threading's names, for tasks and plain threads alike: one idea per module."""

from .condition import Condition
from .event import Event
from .future import Future
from .lock import Lock
from .semaphore import Semaphore

__all__ = ["Condition", "Event", "Future", "Lock", "Semaphore"]
