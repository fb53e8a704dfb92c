"""The deadlines of many waits, with one entry in the loop's heap of timers.

Nearly every request is answered long before its deadline. An entry in the heap for each, and the sweeping of dead
ones, was a tenth of the cost of a request; so there is one entry, for the earliest deadline, and when that comes all
who wait are looked at once. To bound the cost of that, the next look comes at the earliest a microsecond for
each of them later: with 1,000 waiting a timeout may come a millisecond late.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zio.lowlevel import Loop

PAUSE = 1e-6  # seconds to the next look, for each entry looked at


class Deadlines:
    """Expires the waiters of a table whose entries have the waiter first and its deadline last.

    ``next`` is when it looks. Whoever adds an entry with an earlier deadline calls ``start``. At home.
    """

    __slots__ = ("_loop", "_table", "next")

    sleeping = False  # for the timer heap: what wakes in the same tick wins

    def __init__(self, loop: Loop, table: dict[str, Any]) -> None:
        self._loop = loop
        self._table = table
        self.next = inf

    def start(self, deadline: float) -> None:
        """Look at ``deadline``, a time of the loop's clock that is earlier than ``next``."""
        timers = self._loop.timers
        if self.next != inf:
            timers.ended_early()
        self.next = deadline
        timers.push(deadline, self)

    def alive(self, deadline: float) -> bool:
        """Whether the entry in the heap still matters; where it does not, it is forgotten there, and so here."""
        if deadline != self.next:
            return False
        if not self._table:
            self.next = inf
            return False
        return True

    def expire(self) -> None:
        """Time out those whose deadline has come."""
        now = self._loop.clock.now()
        entries = list(self._table.values())  # one step: plain threads add to the table
        late = sorted((entry[-1], number) for number, entry in enumerate(entries) if entry[-1] <= now)
        for _, number in reversed(late):  # each goes to the front of the ready queue
            entries[number][0].expire()
        earliest = min((entry[-1] for entry in entries if entry[-1] > now), default=inf)
        self.next = inf
        if earliest != inf:
            self.start(max(earliest, now + len(entries) * PAUSE))
