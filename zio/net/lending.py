"""A plain thread that waits for one answer reads it itself: the socket of a stream, lent by the task that reads it.

While it is lent, the thread is the one to close the socket for good. It may be interrupted at any point by a signal
handler that waits for the loop; so nobody waits for it, and a thread gives back what it has borrowed before it waits
for anything else. In a forked child all loans are over: the socket, and what comes by it, are the parent's.
"""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from .._core import thread_holder

if TYPE_CHECKING:
    from .._core import ThreadHolder
    from .polled import PolledSocket


class Loan:
    """What a plain thread may do with the socket of a stream that was lent to it, until it is ``over``."""

    __slots__ = ("_poll", "_polled", "_recv")

    def __init__(self, polled: PolledSocket) -> None:
        self._polled = polled
        self._recv = polled.sock.recv
        self._poll = select.poll()
        self._poll.register(polled.io.fd, select.POLLIN)

    def begin(self) -> bool:
        """Lend it to the calling thread; False if it cannot be had."""
        holder = thread_holder()
        holder.about_to_wait()
        polled = self._polled
        try:
            polled.unlent.pop()
        except IndexError:
            return False
        polled.borrower = holder  # before the look: who closes looks the other way round
        holder.lent.append(self)
        if polled.closed:
            self.end(holder)
            return False
        io = polled.io
        io.lent_to = holder.ident
        io.awaits_room = False  # the socket is writable: that would be told each time it is given back
        polled.register()
        if io.writer is not None:  # since a moment ago
            io.awaits_room = True
            polled.register()
        return True

    @property
    def over(self) -> bool:
        """Whether it was ended, by a signal handler's call in the same thread say, or the stream is being closed."""
        polled = self._polled
        return polled.borrower is not thread_holder() or polled.closed or polled.loop.forked

    def wait(self, seconds: float) -> bool:
        """Whether something to read, or an end, comes within ``seconds``."""
        return bool(self._poll.poll(max(seconds, 0) * 1000))

    def peek(self, n: int) -> bytes:
        """At most ``n`` of the bytes that are there, which stay there; none at an end of any kind."""
        try:
            return self._recv(n, socket.MSG_PEEK)
        except OSError:
            return b""

    def skip(self, n: int) -> bool:
        """Take ``n`` bytes that were seen; False, and nothing is taken, if it is over."""
        holder = thread_holder()
        if self._polled.borrower is not holder or self._polled.loop.forked:
            return False
        self._recv(n)  # between the look and this nothing can come: there is no other call
        return True

    def end(self, holder: ThreadHolder) -> None:
        """Give it back, if that thread has it. Any step may be done again, if an error has struck behind it."""
        polled = self._polled
        if polled.borrower is holder and not polled.loop.forked:
            polled.io.lent_to = None
            if not polled.closed:
                polled.register()
            polled.borrower = None
            if not polled.unlent:
                polled.unlent.append(None)
            if polled.closed:
                polled.close_for_good()
        if self in holder.lent:
            holder.lent.remove(self)
