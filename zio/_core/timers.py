"""Deadlines in a heap; cancelling one costs nothing and the dead are swept in bulk."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections import deque


class Expiring(Protocol):
    """What can stand in the heap: a waiter, a cancel scope, a timer source of ``select``."""

    sleeping: bool

    def expire(self) -> None: ...

    def alive(self, deadline: float) -> bool: ...


class Timers:
    """A heap of ``(deadline, number, item)``. Items are not removed when they end early, only counted as dead."""

    __slots__ = ("_dead", "_numbers", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Expiring]] = []
        self._numbers = count()
        self._dead = 0

    def push(self, deadline: float, item: Expiring) -> None:
        heappush(self.heap, (deadline, next(self._numbers), item))

    def ended_early(self) -> None:
        """One entry has lost its meaning. Keeps the heap below twice the live entries plus 1,000."""
        self._dead = dead = self._dead + 1
        if dead > 500 and dead * 2 > len(self.heap):
            self.heap[:] = [entry for entry in self.heap if entry[2].alive(entry[0])]
            heapify(self.heap)
            self._dead = 0

    def next_deadline(self) -> float | None:
        """The earliest deadline that still matters."""
        heap = self.heap
        while heap:
            deadline, _, item = heap[0]
            if item.alive(deadline):
                return deadline
            heappop(heap)
            self._dead -= self._dead > 0
        return None

    def fire(self, now: float, ready: deque[object]) -> None:
        """Put what is due into the ready queue: sleepers first, then timeouts.

        A timeout takes effect when its turn in the queue comes, so that whatever wakes at the same instant
        can still complete the wait: the wake wins.
        """
        heap = self.heap
        late: list[Expiring] = []
        while heap and heap[0][0] <= now:
            deadline, _, item = heappop(heap)
            if not item.alive(deadline):
                self._dead -= self._dead > 0
            elif item.sleeping:
                item.expire()
            else:
                late.append(item)
        ready.extend(late)
