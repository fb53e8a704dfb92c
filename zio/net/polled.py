"""A non-blocking socket with its place in the poller: what streams, listeners and datagram sockets have in common."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from greenlet import getcurrent

from .._core import FAILED, READ, WOKEN, WRITE, Busy, Cancelled, Closed, Fiber, Waiter, WrongLoop, notice_fork

if TYPE_CHECKING:
    from .._core import Loop, Pollable, ThreadHolder


class PolledSocket:
    """A non-blocking socket with its place in the poller. Registered once, for life.

    ``borrower`` is the plain thread that reads here in the loop's stead, and then also closes it for good; ``unlent``
    has one thing in it, for who wants to be that.
    """

    __slots__ = ("borrower", "closed", "io", "loop", "sock", "unlent")

    def __init__(self, sock: socket.socket, loop: Loop) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.loop = loop
        self.io: Pollable = loop.poller.add(sock.fileno())
        self.closed = False
        self.borrower: ThreadHolder | None = None
        self.unlent = [None]

    def fiber(self, what: str) -> Fiber:
        """The current fiber, if it may use this socket."""
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is self.loop:
            return fiber
        if type(fiber) is Fiber:
            raise WrongLoop(f"{what}: the stream belongs to {self.loop!r}, {fiber.task!r} to {fiber.loop!r}")
        raise RuntimeError(f"{what} needs a task of the stream's runtime: call it inside zio.run(...)")

    def wait_readable(self, fiber: Fiber, owner: object) -> None:
        """Park until an attempt to read may succeed."""
        io = self.io
        if self.closed:
            raise Closed(f"{owner!r} is closed")
        if io.reader is not None:
            raise Busy(f"{io.reader.fiber.task!r} is reading from {owner!r} already")
        io.reader = waiter = Waiter(fiber, owner)
        self._park(fiber, waiter, READ)

    def wait_writable(self, fiber: Fiber, owner: object) -> None:
        """Park until an attempt to write may succeed."""
        io = self.io
        if self.closed:
            raise Closed(f"{owner!r} is closed")
        if io.writer is not None:
            raise Busy(f"{io.writer.fiber.task!r} is writing to {owner!r} already")
        io.writer = waiter = Waiter(fiber, owner)
        if not io.awaits_room:
            io.awaits_room = True
            self.register()
        self._park(fiber, waiter, WRITE)

    def register(self) -> None:
        """Have the poller listen for what there is to hear now: who lends it out, and who waits. From any thread.

        Two may do so at a time, and what the slower one writes may be out of date: so each looks again.
        """
        io = self.io
        while True:
            wanted = io.lent_to, io.awaits_room
            self.loop.poller.register(io)
            if wanted == (io.lent_to, io.awaits_room):
                return

    def _park(self, fiber: Fiber, waiter: Waiter, direction: int) -> None:
        loop = self.loop
        io = self.io
        state = 0
        counted = False
        try:
            if not fiber.cancelled:
                poller = loop.poller
                if poller.must_arm:
                    poller.arm(io, direction)
                loop.io_waiting += 1
                counted = True
                state = loop.park(waiter)
        except BaseException as exc:
            state = loop.struck(waiter, exc)
        loop.io_waiting -= counted
        if direction == READ:
            if io.reader is waiter:
                io.reader = None
        elif io.writer is waiter:
            io.writer = None
        if state != WOKEN:
            if direction == READ:  # the edge, if it has come, is still there for the next one
                io.readable = True
            else:
                io.writable = True
            raise waiter.value if state == FAILED else Cancelled

    def close(self, what: object) -> None:
        if self.closed and self.sock.fileno() < 0:
            return
        notice_fork()
        self.closed = True
        if self.borrower is None or self.loop.forked:
            self.close_for_good()
        else:  # the thread that it is lent to will: closing would not wake it
            shut_down(self.sock)
        for waiter in (self.io.reader, self.io.writer):
            if waiter is not None:
                waiter.fail(Closed(f"{what!r} was closed"))

    def close_for_good(self) -> None:
        """Give up the descriptor. Again, where an error has struck in the middle."""
        self.loop.poller.remove(self.io)  # before the number can be used again
        self.sock.close()


def shut_down(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is down already
