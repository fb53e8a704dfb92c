"""Condition: wait, under a lock, for something that others will announce."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, TypeVar

from greenlet import getcurrent

from .._core import CancelScope, Fiber, Homed, Waiter, WaitQueue, current_owner, seconds_after
from .counting import check_count
from .lock import Lock

T = TypeVar("T")


class Condition(Homed):
    """Wait, under a lock, for something that others will announce. ``with condition:`` holds the lock.

    The lock may be an RLock: waiting releases it however often it was acquired.
    """

    __slots__ = ("_waiters", "lock")

    def __init__(self, lock: Lock | None = None) -> None:
        if lock is not None and not isinstance(lock, Lock):
            raise TypeError(f"lock={lock!r} must be a zio.Lock or a zio.RLock")
        super().__init__()
        self.lock = Lock() if lock is None else lock
        self._waiters = WaitQueue()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the underlying lock; see :meth:`Lock.acquire`."""
        return self.lock.acquire(blocking, timeout)

    def release(self) -> None:
        """Release the underlying lock."""
        self.lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified at most ``timeout`` seconds, take the lock again.

        False if the seconds passed. The lock is held again however this ends, Cancelled included (so a
        cancelled wait returns only when the lock is free). RuntimeError if the caller does not hold the lock.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.wait, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        self._check_held("wait")
        lock = self.lock
        times = lock.release_all()
        try:
            return loop.wait(Waiter(fiber, self), timeout, self._waiters.discard, self._waiters.items)
        finally:
            with CancelScope(shield=True):
                lock.acquire_again(times)

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until ``predicate()`` is true; its last value, false if ``timeout`` seconds passed."""
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.wait_for, predicate, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        now = loop.clock.now
        deadline = None if timeout is None else seconds_after(now(), timeout, "a timeout")
        result = predicate()
        while not result:
            left = None if deadline is None else deadline - now()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake ``n`` of those who wait. RuntimeError if the caller does not hold the lock. Never blocks."""
        check_count("n", n, 0)
        self._check_held("notify")
        self._edit(self._notify, n)

    def notify_all(self) -> None:
        """Wake everybody who waits."""
        self._check_held("notify")
        self._edit(self._notify, None)

    def _notify(self, n: int | None) -> None:
        while n is None or n > 0:
            if not self._waiters.wake_one():
                return
            if n is not None:
                n -= 1

    def _check_held(self, what: str) -> None:
        if not self.lock.held_by(current_owner()):
            raise RuntimeError(f"cannot {what} on a condition whose lock the caller does not hold")

    def __enter__(self) -> Self:
        self.lock.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.lock.release()

    def __repr__(self) -> str:
        return f"<Condition of {self.lock!r} at {id(self):#x}>"
