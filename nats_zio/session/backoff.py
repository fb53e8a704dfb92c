"""How long to wait before servers are tried again: the first time not at all, then twice as long each time.

Source: ADR-40.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


LEAST = 0.01  # seconds, where the user wants none: a server that refuses us at once is not to be stormed


class Backoff:
    """The waits between the rounds through the servers. Seconds.

    ``wait``, doubled each round up to ``max_wait``, plus up to ``jitter`` of it; ``delay(round)``, if given, in
    place of all that, rounds counted from 1 (None: no opinion). A server that takes clients and drops them at once is
    not stormed either: before a connection is made again that did not last as long as ``wait`` there is a wait, which
    doubles likewise.
    """

    def __init__(
        self, wait: float, max_wait: float, jitter: float, delay: Callable[[int], float | None] | None, random: Random
    ) -> None:
        self._wait = wait
        self._max_wait = max_wait
        self._jitter = jitter
        self._delay = delay
        self._random = random
        self._rounds = 0  # in vain, since the last connection
        self._short = 0  # connections in a row that did not last

    def next(self) -> float:
        """A round was in vain: how long to wait before the next one."""
        self._rounds += 1
        if self._delay is not None:
            delay = self._delay(self._rounds)
            if delay is not None:
                return delay
        return self._with_jitter(self._grown(self._rounds - 1))

    def after_loss(self, lasted: float) -> float:
        """A connection was lost that had ``lasted`` so long: how long to wait before the first attempt."""
        self._rounds = 0
        wait = self._grown(self._short)
        if lasted >= wait:
            self._short = 0
            return 0.0
        self._short += 1
        return self._with_jitter(wait)

    def forced(self) -> None:
        """The user wants a connection at once."""
        self._rounds = self._short = 0

    def _grown(self, times: int) -> float:
        return min(max(self._wait, LEAST) * 2.0 ** min(times, 30), max(self._max_wait, LEAST))

    def _with_jitter(self, wait: float) -> float:
        return wait * (1 + self._jitter * self._random.random())
