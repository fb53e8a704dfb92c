"""Event: a flag to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import getcurrent

from .._core import Fiber, Homed, Waiter, WaitQueue

if TYPE_CHECKING:
    from .._core import Loop


class Event(Homed):
    """A flag to wait for. Selectable; its value is True."""

    __slots__ = ("_flag", "_waiters")

    def __init__(self) -> None:
        super().__init__()
        self._flag = False
        self._waiters = WaitQueue()

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._flag

    def set(self) -> None:
        """Set the flag and wake everybody who waits. Never blocks."""
        self._edit(self._set)

    def clear(self) -> None:
        """Clear the flag. Never blocks."""
        self._edit(self._clear)

    def _set(self) -> None:
        self._flag = True
        self._waiters.wake_all(True, self)

    def _clear(self) -> None:
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set, at most ``timeout`` seconds; False if they pass."""
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.wait, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if self._flag:
            return True
        waiters = self._waiters
        return loop.wait(Waiter(fiber, self), timeout, waiters.discard, waiters.items, self.is_set)

    @property
    def select_home(self) -> Loop:
        return self._bind()

    def select_ready(self) -> bool:
        return self._flag

    def select_take(self) -> bool:
        return True

    def select_arm(self, waiter: Waiter) -> None:
        self._waiters.push(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)

    def select_result(self, waiter: Waiter) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Event {'set' if self._flag else 'clear'} at {id(self):#x}>"
