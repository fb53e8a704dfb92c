"""Cutting a connection within a chosen part of a chosen kind of frame."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from tests.client.simulation.frames import DOWN, UP, Scanner
from zio.testing.sim import Connection, Flow

# What happens at the byte. Lost: all was written, and a reset came when the bytes before it had arrived. The others
# stop the writer there; then comes a reset, the end of the stream, or nothing any more.
UP_WAYS = ("lost", "reset", "ended", "silent")
DOWN_WAYS = ("lost", "ended", "silent")


class Cut(NamedTuple):
    """One of the cuts that a run must have met."""

    direction: str
    verb: str
    part: str
    way: str


def _all() -> list[Cut]:
    """All of them; all places come before the first one comes again in another way."""
    cells = [("up", verb, part) for verb, parts in UP.items() for part in parts]
    cells += [("down", verb, part) for verb, parts in DOWN.items() for part in parts]
    cuts = []
    for turn in range(max(len(UP_WAYS), len(DOWN_WAYS))):
        for number, (direction, verb, part) in enumerate(cells):
            ways = UP_WAYS if direction == "up" else DOWN_WAYS
            if turn < len(ways):
                cuts.append(Cut(direction, verb, part, ways[(number + turn) % len(ways)]))
    return cuts


CUTS = _all()


class Watch:
    """Watches one way of a connection, and cuts it where it was told to."""

    def __init__(self, connection: Connection, direction: str, rng: random.Random) -> None:
        self.flow: Flow = getattr(connection, direction)
        self.connection = connection
        self._direction = direction
        self._random = rng
        self._scanner = Scanner()
        self._unseen: list[bytes] = []  # not scanned: nobody has asked yet
        self._target: Cut | None = None
        self._on_hit: Callable[[Watch], object] | None = None
        self._stop_at: int | None = None
        self.flow.tap = self._see

    def cut(self, target: Cut, on_hit: Callable[[Watch], object]) -> None:
        """At the next such place; `on_hit(watch)` is called when it has come by."""
        if target.direction == self._direction:
            self._target, self._on_hit = target, on_hit
            self._scanner.feed(b"".join(self._unseen))
            self._unseen.clear()

    def forget(self) -> None:
        """It is cut elsewhere."""
        self._target = self._stop_at = None

    def _see(self, data: bytes) -> int | None:
        if self._target is None and self._stop_at is None:
            self._unseen.append(data)
            return None
        sent = self.flow.sent
        for frame in self._scanner.feed(data):
            if self._target is None or frame.verb != self._target.verb:
                continue
            places = frame.parts.get(self._target.part, range(0))
            if not places or places[-1] < sent:
                continue
            at = self._random.choice(range(max(places[0], sent), places[-1] + 1))
            if self._target.way == "lost":
                self.flow.reset_at(at)
                self._hit()
            else:
                self._stop_at = at
            self._target = None
        if self._stop_at is not None and self._stop_at <= sent + len(data):
            self._hit()
            return self._stop_at - sent
        return None

    def _hit(self) -> None:
        self.flow.tap = None
        if self._on_hit is not None:
            self._on_hit(self)
