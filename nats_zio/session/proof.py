"""Asking now and then how far the server is, while messages go out, so that little is in doubt when a link breaks.

A PING behind messages comes back as a PONG when the server has read them. Without, all that was written since the last
``flush`` would count as in doubt, perhaps for millions of messages of which a handful were lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zio.lowlevel import here

if TYPE_CHECKING:
    from collections.abc import Callable

    from .outbound import Outbound

PERIOD = 0.1  # seconds: what was published before is not in doubt, but for the time of a round trip


class Proof:
    """The timer of one connection: an entry in the loop's heap, while messages are in doubt. In the home loop."""

    sleeping = True  # for the timer heap: it fires at once

    def __init__(self, outbound: Outbound, is_asked: Callable[[], bool], ask: Callable[[], None]) -> None:
        self._outbound = outbound
        self._is_asked = is_asked
        self._ask = ask
        self._stopped = False
        loop = here().loop
        self._timers = loop.timers
        self._clock = loop.clock
        self._deadline: float | None = None
        outbound.watch(self.start)

    def start(self) -> None:
        """Messages are being written."""
        if not self._stopped and self._deadline is None:
            self._deadline = self._clock.now() + PERIOD
            self._timers.push(self._deadline, self)

    def alive(self, deadline: float) -> bool:
        return not self._stopped and deadline == self._deadline

    def expire(self) -> None:
        self._deadline = None
        if self._stopped:
            return
        if not self._outbound.unproved()[0]:
            self._outbound.watch(self.start)
            return
        if not self._is_asked():
            self._ask()
        self.start()

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            if self._deadline is not None:
                self._timers.ended_early()
