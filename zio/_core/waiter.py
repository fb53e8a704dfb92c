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
from typing import TYPE_CHECKING, Any

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
        self.fiber.loop.ready.append(self.fiber)
        return True

    def fail(self, error: BaseException) -> bool:
        """Claim the waiter and have the waiting call raise ``error``; False if it was claimed before."""
        if self.state:
            return False
        self.state = FAILED
        self.value = error
        self.fiber.loop.ready.append(self.fiber)
        return True

    def take(self) -> Any:
        """What it was woken with, which is not kept: the heap of timers may hold the waiter for a long time yet."""
        value, self.value = self.value, None
        return value

    def expire(self) -> None:
        """The wait's time is up. Called in its turn in the ready queue, so that a wake of the same tick wins."""
        if not self.state:
            self.state = TIMED_OUT
            self.fiber.loop.ready.appendleft(self.fiber)

    def alive(self, deadline: float) -> bool:
        """Whether the timer entry of this wait still matters."""
        return not self.state


class Sleeper(Waiter):
    """A wait for its time to come."""

    __slots__ = ()

    sleeping = True


class WaitQueue:
    """Waiters in order of arrival. Removal is lazy: claimed ones are skipped, and swept when they are the majority."""

    __slots__ = ("_dead", "items")

    def __init__(self) -> None:
        self.items: deque[Waiter] = deque()
        self._dead = 0

    def push(self, waiter: Waiter) -> None:
        self.items.append(waiter)

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

    def wake_all(self, value: Any = None, source: object = None) -> None:
        items, self.items = self.items, deque()
        self._dead = 0
        for waiter in items:
            waiter.wake(value, source)

    def fail_all(self, make_error: Any) -> None:
        """Fail every waiter, each with an exception of its own from ``make_error()``."""
        items, self.items = self.items, deque()
        self._dead = 0
        for waiter in items:
            if not waiter.state:
                waiter.fail(make_error())

    def __len__(self) -> int:
        return sum(not w.state for w in self.items)

    def __bool__(self) -> bool:
        return self.peek() is not None
