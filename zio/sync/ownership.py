"""Noticing that the owner of a lock has ended, wherever it lives."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from .._core import RuntimeClosed, Task, ThreadHolder, Waiter

if TYPE_CHECKING:
    from .._core import Loop


def has_ended(owner: object) -> bool:
    """Whether that task, or plain thread, has ended. From any thread."""
    return owner.done if isinstance(owner, Task) else isinstance(owner, ThreadHolder) and owner.ended


class Owned(Protocol):
    """A lock that wants to know; told in its home loop."""

    @property
    def home(self) -> Loop: ...
    def owner_ended(self, owner: object) -> None: ...


class OwnerWatch(Waiter):
    """Stands among the joiners of a task that owns a contended lock, or with what a plain thread's end is told to."""

    __slots__ = ("lock",)

    def __init__(self, lock: Owned) -> None:
        super().__init__(None, lock)  # type: ignore[arg-type]  # no fiber waits here
        self.lock = lock

    def wake(self, value: Any = None, source: object = None) -> bool:
        home = self.lock.home
        if home.is_here():
            self.lock.owner_ended(source)
        else:
            home.post(self.lock.owner_ended, source, optional=True)
        return False

    # An owner may live on another loop, and only that loop's thread touches its list of joiners.

    def stand_by(self, owner: Task[Any] | ThreadHolder) -> None:
        """Have the lock told when ``owner`` ends; at once if it has."""
        if isinstance(owner, ThreadHolder):
            if not owner.watch(self):  # being told twice does no harm
                self.wake(None, owner)
            return
        if owner.loop.is_here():
            self._arm(owner)
            return
        try:
            owner.loop.post(self._arm, owner, lost=lambda: self._arm(owner))
        except RuntimeClosed:
            self._arm(owner)

    def _arm(self, owner: Task[Any]) -> None:
        if owner.done:
            self.wake(None, owner)
        else:
            owner.select_arm(self)

    def thread_ended(self, thread: ThreadHolder) -> None:
        # A forked child ends the threads that only the parent has; the loop is the parent's, and so may be its lock.
        if self.lock.home.pid == os.getpid():
            self.wake(None, thread)

    def stand_down(self, owner: Task[Any] | ThreadHolder) -> None:
        """The owner has released the lock, or nobody else wants it."""
        if isinstance(owner, ThreadHolder):
            owner.unwatch(self)
            return
        if owner.loop.is_here():
            owner.select_disarm(self)
        else:
            owner.loop.post(owner.select_disarm, self, optional=True)
