"""Subscribing again where a server ends the connection because of a line: which one is found by halving.

After the second connection that such an error has ended with nothing proved in between, subscriptions are sent in
pieces with a PING behind each. A piece that breaks the connection is sent in halves next time; one of a single
subscription that does is the culprit, and given up. What has been proved once is sent at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..protocol import ErrorKind

if TYPE_CHECKING:
    from collections.abc import Sequence

# Errors about a line of ours, with which a server ends the connection.
OF_A_LINE = frozenset({ErrorKind.MAX_CONTROL_LINE, ErrorKind.UNKNOWN_OPERATION, ErrorKind.CLIENT_PROTOCOL})
PATIENCE = 2  # connections that end so, before care is taken


class CarefulReplay:
    """Counts the breaks, and says which subscriptions to send in the next piece."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._breaks = 0  # in a row, without a proof
        self._order: list[int] = []  # sids
        self._proved = 0  # how many of them have been taken by the server
        self._piece = 0  # how many are being tried

    @property
    def active(self) -> bool:
        """Whether care is taken."""
        return self._breaks >= PATIENCE

    def broke(self, sids: Sequence[int]) -> int | None:
        """A connection has ended with an error about a line, and nothing proved. The sid that is to be given up."""
        self._breaks += 1
        if not self.active:
            return None
        if not self._order:
            self._order, self._proved, self._piece = list(sids), 0, len(sids)
        if self._piece > 1:
            self._piece = (self._piece + 1) // 2
            return None
        if self._proved < len(self._order):
            self._piece = len(self._order)
            return self._order.pop(self._proved)
        return None

    def first_piece(self, entries: Sequence[Any]) -> list[Any]:
        """What of the table's entries to send at the beginning of a connection."""
        if not self.active:
            return list(entries)
        known = set(self._order)
        self._order += [entry.sid for entry in entries if entry.sid not in known]
        wanted = set(self._order[: self._proved + self._piece])
        return [entry for entry in entries if entry.sid in wanted]

    def proved(self, entries: Sequence[Any]) -> list[Any]:
        """A PONG has come: what to send next. None left: all is as ever."""
        if not self.active:
            self._breaks = 0
            return []
        self._proved += self._piece
        if self._proved >= len(self._order):
            self._begin()
            return []
        wanted = set(self._order[self._proved : self._proved + self._piece])
        return [entry for entry in entries if entry.sid in wanted]
