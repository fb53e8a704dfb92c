"""One end of a simulated connection, as its program sees it."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..._core import WOKEN, Busy, Closed, Fiber, Waiter, WrongLoop, here
from ...net import Stream
from ...net.stream import checked_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .connection import Connection
    from .flow import Flow


class SimStream(Stream):
    """One end of a simulated connection."""

    def __init__(self, connection: Connection, name: str, incoming: Flow, outgoing: Flow) -> None:
        self.connection = connection
        self.out = outgoing
        self.closed = False
        self.failed = False
        self._loop = connection.loop
        self._in = incoming
        self._name = name
        self._holder: Waiter | None = None  # of send_file
        incoming.receiver = self

    def recv(self, n: int) -> bytes:
        fiber = self._enter("recv")
        n = checked_size("n", n)
        if self._rest:
            return self.take_rest(n)
        flow = self._in
        while not flow.unread:
            if self.closed:  # while this task was on its way, woken by what is discarded now
                raise Closed(f"{self!r} is closed")
            if self.failed:
                raise _reset_error()
            if flow.ended:
                return b""
            if flow.reader is not None:
                raise Busy(f"{flow.reader.fiber.task!r} is reading from {self!r} already")
            flow.reader = waiter = Waiter(fiber, self)
            try:
                self._loop.wait(waiter, None, _nothing)
            finally:
                flow.reader = None
        return flow.read(n)

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        fiber = self._enter("send_all")
        if self.out.writer is not None:
            raise Busy(f"{self.out.writer.fiber.task!r} is writing to {self!r} already")
        self._send(fiber, data)

    def _send(self, fiber: Fiber, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        sent = 0
        try:
            while True:
                sent += self.send_some(view[sent:])
                if sent == len(view):
                    return
                self._wait_writable(fiber)
        except BaseException:
            self.partly_sent = sent
            raise

    @contextmanager
    def hold_sending(self) -> Iterator[None]:
        fiber = self._enter("send_file")
        if self.out.writer is not None:
            raise Busy(f"{self.out.writer.fiber.task!r} is writing to {self!r} already")
        self.out.writer = self._holder = Waiter(fiber, self)
        self._holder.state = WOKEN  # nobody wakes it
        try:
            yield
        finally:
            self.out.writer = self._holder = None

    def send_held(self, data: bytes) -> None:
        holder = self._holder
        assert holder is not None
        self.out.writer = None  # nobody runs before a wait has begun
        try:
            self._send(holder.fiber, data)
        finally:
            self.out.writer = holder

    def send_some(self, data: bytes | bytearray | memoryview) -> int:
        if self.closed:
            raise Closed(f"{self!r} is closed")
        if self.failed:
            raise _reset_error()
        if self.out.finished:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return self.out.take(data)

    def wait_writable(self) -> None:
        """Wait until ``send_some`` may have room again."""
        self._wait_writable(self._enter("wait_writable"))

    def _wait_writable(self, fiber: Fiber) -> None:
        flow = self.out
        if flow.room > 0 or self.failed or flow.finished:
            return
        if flow.writer is not None:
            raise Busy(f"{flow.writer.fiber.task!r} is writing to {self!r} already")
        flow.writer = waiter = Waiter(fiber, self)
        try:
            self._loop.wait(waiter, None, _nothing)
        finally:
            flow.writer = None

    def shutdown_write(self) -> None:
        if self.closed:
            raise Closed(f"{self!r} is closed")
        if not self.failed:
            self.out.finish()

    def discard_received(self) -> None:
        self._in.discard()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.connection.note(self._name, "closed")
        for waiter in (self._in.reader, self.out.writer):
            if waiter is not None:
                waiter.fail(Closed(f"{self!r} was closed"))
        if not self.failed:
            if self._in.unread:
                self.out.send_reset()  # as systems do when the program has not read everything
            else:
                self.out.finish()
        self._in.discard()
        self.connection.settled()

    def fail(self) -> None:
        """The connection has been reset."""
        if self.failed or self.closed:
            return
        self.failed = True
        if self._in.unread and self.connection.random.random() < 0.5:  # systems differ
            self._in.discard()
        for waiter in (self._in.reader, self.out.writer):
            if waiter is not None:
                waiter.wake()
        self.connection.settled()

    def _enter(self, what: str) -> Fiber:
        fiber = here()
        loop = self._loop
        if fiber.loop is not loop:
            raise WrongLoop(f"{what}: the stream belongs to {loop!r}, {fiber.task!r} to {fiber.loop!r}")
        if self.closed:
            raise Closed(f"{self!r} is closed")
        if loop.budget <= 0:
            loop.checkpoint(fiber)
            if self.closed:
                raise Closed(f"{self!r} is closed")
        else:
            loop.budget -= 1
        return fiber

    def __repr__(self) -> str:
        state = "closed" if self.closed else "reset" if self.failed else "open"
        return f"<SimStream {self._name} {state}>"


def _reset_error() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def _nothing(_waiter: Waiter) -> None:
    """Whoever waited forgets the waiter."""
