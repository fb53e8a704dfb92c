"""Noticing that a server has fallen silent, without a task: a timer that looks once each ping interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zio.lowlevel import here

if TYPE_CHECKING:
    from collections.abc import Callable


class Liveness:
    """The ping timer of one connection: an entry in the loop's heap.

    Whatever comes in counts as life: whoever reads calls ``heard()``. After an interval with nothing heard ``ping()``
    is called, and after ``max_pings`` of them in vain ``give_up(pings)``.
    """

    sleeping = True  # for the timer heap: it fires at once

    def __init__(
        self, interval: float, max_pings: int, ping: Callable[[], None], give_up: Callable[[int], None]
    ) -> None:
        self.heard = True
        self.held = False  # nobody reads just now, so that nothing is heard says nothing
        self._interval = interval
        self._max_pings = max_pings
        self._ping = ping
        self._give_up = give_up
        self._unanswered = 0
        self._stopped = False
        loop = here().loop
        self._timers = loop.timers
        self._clock = loop.clock
        self._deadline = 0.0
        self._arm()

    def _arm(self) -> None:
        self._deadline = self._clock.now() + self._interval
        self._timers.push(self._deadline, self)

    def alive(self, deadline: float) -> bool:
        return not self._stopped and deadline == self._deadline

    def expire(self) -> None:
        if self._stopped:
            return
        if self.heard or self.held:
            self.heard = False
            self._unanswered = 0
        elif self._unanswered >= self._max_pings:
            self._give_up(self._unanswered)
        else:
            self._unanswered += 1
            self._ping()
        if not self._stopped:
            self._arm()

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._timers.ended_early()
