"""The one park-and-wake protocol that every primitive and ``select`` use.

A wait is one :class:`Waiter`. It is *armed* on one source (or several, for ``select``), the task parks, and
whoever ends the wait first **claims** the waiter by moving ``state`` away from ARMED; later wakers see that
and leave it alone. So a wait ends exactly once, and a value that was handed over with the claim cannot be
lost to a timeout or cancel that comes later.

A waiter is made for one wait and not used again: when that has ended, a queue or the heap of timers may still
hold it. The hottest calls (receiving, a semaphore) spare themselves the 130 ns: if nobody else can have the
waiter, because it was on one queue only, without a timeout, and was taken from there to be woken, they leave it
as ``fiber.spare``. Whoever uses that one takes it away first, so that a destructor that waits in between makes
one of its own.

Wakers do the claim inline, since it is three assignments on the hottest path of all::

    if not w.state:
        w.state = WOKEN; w.value = item; w.source = self
        ready.append(w.fiber)

Only the thread of the home loop touches waiters (rule 0), so no lock is needed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from .errors import BlockingNotAllowed

if TYPE_CHECKING:
    from .fiber import Fiber

ARMED = 0
WOKEN = 1
TIMED_OUT = 2
CANCELLED = 3
FAILED = 4  # value holds the exception to raise in the waiting task


class Waiter:
    """One wait of one fiber; ``what`` is the object waited on, for the task dump."""

    __slots__ = ("fiber", "source", "state", "value", "what")

    sleeping = False  # for the timer heap
    stubborn = False  # whether it begins also when the task is cancelled

    def __init__(self, fiber: Fiber, what: object) -> None:
        self.fiber = fiber
        self.state = ARMED
        self.what = what
        self.value: Any = None
        self.source: Any = None

    def wake(self, value: Any = None, source: object = None) -> bool:
        """Claim the waiter and make its fiber ready; False if it was claimed before."""
        if self.state:
            return False
        self.state = WOKEN
        self.value = value
        self.source = source
        try:
            self.fiber.loop.ready.append(self.fiber)
        except (RecursionError, MemoryError):
            self.state = ARMED
            raise
        return True

    def fail(self, error: BaseException) -> bool:
        """Claim the waiter and have the waiting call raise ``error``; False if it was claimed before."""
        if self.state:
            return False
        self.state = FAILED
        self.value = error
        try:
            self.fiber.loop.ready.append(self.fiber)
        except (RecursionError, MemoryError):
            self.state = ARMED
            raise
        return True

    def take(self) -> Any:
        """What it was woken with, which is not kept: the heap of timers may hold the waiter for a long time yet."""
        value, self.value = self.value, None
        self.what = self.source = None  # nor what was waited on
        return value

    def expire(self) -> None:
        """The wait's time is up. Called in its turn in the ready queue, so that a wake of the same tick wins.

        It may not have begun, while the task waits in a signal handler: then it ends at once when it does.
        """
        if not self.state:
            self.state = TIMED_OUT
            if self.fiber.waiter is self:
                self.fiber.loop.ready.appendleft(self.fiber)

    def alive(self, deadline: float) -> bool:
        """Whether the timer entry of this wait still matters."""
        return not self.state


class Sleeper(Waiter):
    """A wait for its time to come."""

    __slots__ = ()

    sleeping = True


class StubbornWaiter(Waiter):
    """A wait for what has to be waited for, also by a task that is cancelled."""

    __slots__ = ()

    stubborn = True


# In place of a fiber's waiter while it does what must not be interrupted by a wait: nobody is to end it.
NOT_NOW = Waiter(None, "what must not wait")  # type: ignore[arg-type]
NOT_NOW.state = WOKEN


def waits_already(fiber: Fiber) -> BlockingNotAllowed:
    """The error of a blocking call in the middle of a wait of the same task: of a signal handler, or a finalizer."""
    return BlockingNotAllowed(
        f"{fiber.task!r} is in the middle of waiting: what a signal handler or a finalizer calls there must not block"
    )


class Queue(Protocol):
    """Where a waiter is armed, by one step of C."""

    def append(self, waiter: Any, /) -> object: ...


class WaitQueue:
    """Waiters in order of arrival. Removal is lazy: claimed ones are skipped, and swept when they are the majority."""

    __slots__ = ("_dead", "items")

    def __init__(self) -> None:
        self.items: deque[Waiter] = deque()
        self._dead = 0

    def push(self, waiter: Waiter) -> None:
        self.items.append(waiter)

    def wake_one(self, value: Any = None, source: object = None) -> bool:
        """Wake the first waiter not claimed yet; False if there is none. It is in the queue until it is claimed."""
        items = self.items
        while items:
            waiter = items[0]
            try:
                woken = waiter.wake(value, source)
            finally:  # or a waiter that is used again would be in two queues
                if waiter.state and items and items[0] is waiter:
                    del items[0]
            if woken:
                return True
            if self._dead:
                self._dead -= 1
        return False

    def pop(self) -> Waiter | None:
        """The first waiter not claimed yet, removed from the queue; None if there is none."""
        items = self.items
        while items:
            waiter = items.popleft()
            if not waiter.state:
                return waiter
            if self._dead:
                self._dead -= 1
        return None

    def peek(self) -> Waiter | None:
        """The first waiter not claimed yet, left in place."""
        items = self.items
        while items:
            if not items[0].state:
                return items[0]
            items.popleft()
            if self._dead:
                self._dead -= 1
        return None

    def discard(self, waiter: Waiter) -> None:
        """``waiter`` ended without being popped (timeout, cancel, lost select). Amortised O(1)."""
        items = self.items
        if items and items[-1] is waiter:
            items.pop()
            return
        if items and items[0] is waiter:
            items.popleft()
            return
        self._dead += 1
        if self._dead > 32 and self._dead * 2 > len(items):
            live = [w for w in items if not w.state]
            items.clear()
            items.extend(live)
            self._dead = 0

    # Those who come meanwhile, in a signal handler, find the same queue: it is emptied, not replaced. Each stays in it
    # until it is claimed, so that an exception in between leaves nobody behind.

    def wake_all(self, value: Any = None, source: object = None) -> None:
        items = self.items
        for _ in range(len(items)):
            if not items:
                break
            waiter = items[0]
            try:
                waiter.wake(value, source)
            finally:
                if waiter.state and items and items[0] is waiter:
                    del items[0]
        self._dead = 0

    def fail_all(self, make_error: Any) -> None:
        """Fail every waiter, each with an exception of its own from ``make_error()``."""
        items = self.items
        for _ in range(len(items)):
            if not items:
                break
            waiter = items[0]
            try:
                if not waiter.state:
                    waiter.fail(make_error())
            finally:
                if waiter.state and items and items[0] is waiter:
                    del items[0]
        self._dead = 0

    def has_others(self, waiter: Waiter) -> bool:
        """Whether anybody else waits here."""
        return any(not w.state and w is not waiter for w in self.items)

    def __len__(self) -> int:
        return sum(not w.state for w in self.items)

    def __bool__(self) -> bool:
        return self.peek() is not None
