"""Locks and the like, under threading's names, for tasks and plain threads alike: one idea per module."""

from threading import BrokenBarrierError

from .barrier import Barrier
from .condition import Condition
from .event import Event
from .future import Future
from .lock import Lock
from .notify import Notify
from .rlock import RLock
from .rwlock import RWLock
from .semaphore import Semaphore

__all__ = [
    "Barrier",
    "BrokenBarrierError",
    "Condition",
    "Event",
    "Future",
    "Lock",
    "Notify",
    "RLock",
    "RWLock",
    "Semaphore",
]
