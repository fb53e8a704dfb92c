"""zio: coroutine I/O in blocking style, on greenlet. No async/await, no monkey-patching.

Part of the distribution ``nats-zio``. (A project of the same name on PyPI is unrelated.)
"""

from typing import TYPE_CHECKING, Any

from . import debug, fs, lowlevel, net
from ._core import (
    BlockingNotAllowed,
    BrokenLock,
    Busy,
    Cancelled,
    CancelScope,
    ChannelClosed,
    Closed,
    Deadlock,
    ForkedError,
    Lagged,
    Runtime,
    RuntimeClosed,
    Task,
    WouldBlock,
    WrongLoop,
    background,
    move_on_after,
    run,
    shield,
    timeout,
)
from .broadcast import Broadcast
from .channels import Channel
from .completing import as_completed
from .groups import TaskGroup
from .mapping import map
from .selecting import after, select
from .signals import signals
from .sync import Barrier, BrokenBarrierError, Condition, Event, Future, Lock, Notify, RLock, RWLock, Semaphore
from .tasks import current_task, maybe_pause, now, pause, sleep, spawn
from .threads import from_thread, to_thread

if TYPE_CHECKING:
    from . import process, testing

__distribution__ = "nats-zio"  # by which nats_zio tells this package from the unrelated one

__all__ = [
    "Barrier",
    "BlockingNotAllowed",
    "Broadcast",
    "BrokenBarrierError",
    "BrokenLock",
    "Busy",
    "CancelScope",
    "Cancelled",
    "Channel",
    "ChannelClosed",
    "Closed",
    "Condition",
    "Deadlock",
    "Event",
    "ForkedError",
    "Future",
    "Lagged",
    "Lock",
    "Notify",
    "RLock",
    "RWLock",
    "Runtime",
    "RuntimeClosed",
    "Semaphore",
    "Task",
    "TaskGroup",
    "WouldBlock",
    "WrongLoop",
    "after",
    "as_completed",
    "background",
    "current_task",
    "debug",
    "from_thread",
    "fs",
    "lowlevel",
    "map",
    "maybe_pause",
    "move_on_after",
    "net",
    "now",
    "pause",
    "process",
    "run",
    "select",
    "shield",
    "signals",
    "sleep",
    "spawn",
    "testing",
    "timeout",
    "to_thread",
]


def __getattr__(name: str) -> Any:
    if name in {"process", "testing"}:  # only who starts programs, or tests them, pays for importing what that needs
        from importlib import import_module

        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
