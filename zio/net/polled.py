"""A non-blocking socket with its place in the poller: what streams, listeners and datagram sockets have in common."""

from __future__ import annotations

import socket
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

from greenlet import getcurrent

from .._core import FAILED, READ, WOKEN, WRITE, Busy, Cancelled, Closed, Fiber, Waiter, WrongLoop, notice_fork

if TYPE_CHECKING:
    from .._core import Loop, Pollable


class PolledSocket:
    """A non-blocking socket with its place in the poller. Registered once, for life.

    ``guard`` is held, for a moment, to change the registration or to close: plain threads take and end loans.
    """

    __slots__ = ("closed", "guard", "io", "loop", "sock")

    def __init__(self, sock: socket.socket, loop: Loop) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.loop = loop
        self.io: Pollable = loop.poller.add(sock.fileno())
        self.closed = False
        self.guard = threading.Lock()

    def fiber(self, what: str) -> Fiber:
        """The current fiber, if it may use this socket."""
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is self.loop:
            return fiber
        if type(fiber) is Fiber:
            raise WrongLoop(f"{what}: the stream belongs to {self.loop!r}, this task to {fiber.loop!r}")
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
        waiter = Waiter(fiber, owner)
        with self.guard:
            io.writer = waiter
            if not io.awaits_room:
                io.awaits_room = True
                self.loop.poller.register(io)
        self._park(fiber, waiter, WRITE)

    def _park(self, fiber: Fiber, waiter: Waiter, direction: int) -> None:
        loop = self.loop
        if fiber.cancelled:
            state = 0
        else:
            poller = loop.poller
            if poller.must_arm:
                poller.arm(self.io, direction)
            loop.io_waiting += 1
            state = loop.park(waiter)
            loop.io_waiting -= 1
        if direction == READ:
            self.io.reader = None
        else:
            self.io.writer = None
        if state != WOKEN:
            raise waiter.value if state == FAILED else Cancelled

    def close(self, what: object) -> None:
        if self.closed:
            return
        notice_fork()
        with nullcontext() if self.loop.forked else self.guard:  # in a forked child nobody else would let it go
            self.closed = True
            if self.io.lent_to is not None and not self.loop.forked:
                shut_down(self.sock)  # closing alone does not wake the thread that waits there
            self.loop.poller.remove(self.io)  # before the number can be used again
            self.sock.close()
        for waiter in (self.io.reader, self.io.writer):
            if waiter is not None:
                waiter.fail(Closed(f"{what!r} was closed"))


def shut_down(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is down already
