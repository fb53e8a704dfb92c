"""A plain thread that waits for one answer reads it itself: the socket of a stream, lent by the task that reads it."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .polled import PolledSocket


class Loan:
    """What a plain thread may do with the socket of a stream that was lent to it."""

    __slots__ = ("_poll", "_polled")

    def __init__(self, polled: PolledSocket) -> None:
        self._polled = polled
        self._poll = select.poll()
        self._poll.register(polled.io.fd, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Whether something to read, or an end, comes within ``seconds``."""
        return bool(self._poll.poll(max(seconds, 0) * 1000))

    def peek(self, n: int) -> bytes:
        """At most ``n`` of the bytes that are there, which stay there; none at an end of any kind."""
        try:
            return self._polled.sock.recv(n, socket.MSG_PEEK)
        except OSError:
            return b""

    def skip(self, n: int) -> None:
        """Take ``n`` bytes that were seen."""
        self._polled.sock.recv(n)
