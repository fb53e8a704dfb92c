"""Notify: wake who waits at this moment, and remember nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import getcurrent

from .._core import Fiber, Homed, Waiter, WaitQueue, WouldBlock
from .counting import check_count

if TYPE_CHECKING:
    from .._core import Loop


class Notify(Homed):
    """Something to wait for that happens again and again. A notification that nobody waits for is lost.

    Unlike a condition it has no lock, and unlike an event no state. Selectable; its value is True.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        super().__init__()
        self._waiters = WaitQueue()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the next notification, at most ``timeout`` seconds; False if they pass."""
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.wait, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        return loop.wait(Waiter(fiber, self), timeout, self._waiters.discard, self._waiters.items)

    def notify(self, n: int = 1) -> None:
        """Wake ``n`` of those who wait, the first first. Never blocks."""
        check_count("n", n, 1)
        self._edit(self._notify, n)

    def notify_all(self) -> None:
        """Wake everybody who waits. Never blocks."""
        self._edit(self._notify_all)

    def _notify(self, n: int) -> None:
        while n and self._waiters.wake_one(True, self):
            n -= 1

    def _notify_all(self) -> None:
        self._waiters.wake_all(True, self)

    @property
    def select_home(self) -> Loop:
        return self._bind()

    def select_ready(self) -> bool:
        return False

    def select_take(self) -> bool:
        raise WouldBlock("a notification is never there beforehand")

    def select_arm(self, waiter: Waiter) -> None:
        self._waiters.push(waiter)

    def select_disarm(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)

    def select_result(self, waiter: Waiter) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Notify at {id(self):#x}>"
