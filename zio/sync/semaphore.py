"""Semaphore: a number of permits."""

from __future__ import annotations

from typing import Self

from .._core import ARMED, NO_LOOP, TIMED_OUT, WOKEN, Cancelled, Fiber, Homed, Waiter, WaitQueue, current_fiber
from .counting import check_count


class Semaphore(Homed):
    """A number of permits; ``acquire`` takes one, ``release`` gives some back. First come first served.

    ``max_value``, if given, is the most there may be: releasing above it raises ValueError.
    """

    __slots__ = ("_max", "_value", "_waiters")

    def __init__(self, value: int = 1, max_value: int | None = None) -> None:
        check_count("value", value, 0)
        if max_value is not None:
            check_count("max_value", max_value, 0)
            if max_value < value:
                raise ValueError(f"max_value={max_value} must be the value={value} or more")
        super().__init__()
        self._value = value
        self._max = max_value
        self._waiters = WaitQueue()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take a permit, waiting at most ``timeout`` seconds; False if they pass (or if ``not blocking``).

        When it raises, Cancelled included, no permit was taken.
        """
        try:
            loop = (fiber := current_fiber()).loop
        except AttributeError:  # not in a task
            loop = NO_LOOP
        if loop is not self._loop:
            return self._elsewhere(self.acquire, blocking, timeout)  # type: ignore[no-any-return]
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        if self._value > 0:
            self._value -= 1
            return True
        if not blocking:
            return False
        waiter = fiber.spare
        if waiter is None:
            waiter = Waiter(fiber, self)
        else:
            fiber.spare = None
            waiter.state = ARMED
            waiter.what = self
        waiters = self._waiters
        try:
            waiters.items.append(waiter)
            if self._value > 0 and not waiter.state:  # released by a signal handler just before
                self._value -= 1
                waiter.state = WOKEN
                waiters.items.remove(waiter)
            ready = loop.ready
            if timeout is not None:
                state = loop.park_for(waiter, timeout)
            elif ready and loop.budget > 0 and not (waiter.state or fiber.waiter) and type(item := ready[0]) is Fiber:
                # loop.park, written out
                fiber.waiter = waiter
                del ready[0]
                if item is not fiber:
                    item.switch()
                fiber.waiter = None
                if fiber.cancelled:
                    loop.budget = 0
                state = waiter.state or loop.park(waiter)
            else:
                state = loop.park(waiter)
        except BaseException as exc:
            if fiber.waiter is waiter:
                fiber.waiter = None
            state = loop.struck(waiter, exc)
        if state == WOKEN:
            if timeout is None:
                waiter.what = None
                fiber.spare = waiter
            return True
        waiters.discard(waiter)
        if state == TIMED_OUT and not fiber.cancelled:
            return False
        raise waiter.value or Cancelled

    def release(self, n: int = 1) -> None:
        """Give back ``n`` permits: a whole number from 1 up. Never blocks."""
        if n != 1:  # which is rare, and this is a hot path
            check_count("n", n, 1)
        try:
            loop = current_fiber().loop
        except AttributeError:
            loop = NO_LOOP
        if loop is self._loop:
            if n == 1 and self._max is None:  # the usual case, written out
                waiters = self._waiters.items
                while waiters:
                    waiter = waiters[0]
                    del waiters[0]  # from here to the append nothing can come between
                    if not waiter.state:
                        waiter.state = WOKEN
                        loop.ready.append(waiter.fiber)
                        return
                self._value += 1
                return
            self._release(n)
        else:
            self._edit(self._release, n)

    def _release(self, n: int) -> None:
        check_count("n", n, 1)  # 1.0 as well
        if self._max is not None and self._value + n > self._max:
            raise ValueError(f"release of {n} above the semaphore's max_value of {self._max}")
        while n:
            if not self._waiters.wake_one():
                self._value += n
                return
            n -= 1

    @property
    def value(self) -> int:
        """How many permits are free."""
        return self._value

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Semaphore {self._value} free at {id(self):#x}>"
