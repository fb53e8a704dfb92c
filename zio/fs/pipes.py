"""Pipes, terminals and other descriptors as streams, waited for by the poller.

O_NONBLOCK belongs to the open file, which a program shares with its parent and its children: a shell whose terminal was
made non-blocking is broken afterwards. So it is never set on what was inherited. Such a descriptor is opened a second
time (Linux), which gives an open file of our own; where that is impossible, each call asks whether it would block.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from greenlet import getcurrent

from .._core import FAILED, READ, WOKEN, WRITE, Busy, Cancelled, Closed, Fiber, Waiter, WrongLoop, here
from ..net.stream import Stream, checked_size
from ..threads import to_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core import Loop, Pollable

AT_ONCE = 512  # bytes for which a pipe that is writable has room, on every system


class PipeStream(Stream):
    """One end of a pipe, or a terminal: the readable or the writable side of a stream, or both.

    Reading what is for writing only, and the opposite, raises ``io.UnsupportedOperation``. ``close`` closes it.
    """

    def __init__(self, fd: int, loop: Loop, *, may_block: bool = False) -> None:
        """Takes over ``fd``, and closes it if this fails. ``may_block``: it is shared, so it must stay as it is."""
        try:
            access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
            self._file = io.FileIO(fd, {os.O_RDONLY: "r", os.O_WRONLY: "w"}.get(access, "r+"))
        except BaseException:
            os.close(fd)
            raise
        self._loop = loop
        self._rest = b""
        self._may_block = may_block
        self._io: Pollable | None = None  # of a file on a disk, which the pool reads and writes
        try:
            if not may_block:
                os.set_blocking(fd, False)
            self._io = loop.poller.add(fd)
        except PermissionError:
            self._may_block = True  # epoll takes no such file
        except BaseException:
            self._file.close()
            raise

    def fileno(self) -> int:
        """The file descriptor."""
        return self._file.fileno()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._file.closed

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._file.isatty()

    def recv(self, n: int) -> bytes:
        fiber = self._enter("recv")
        if not self._file.readable():
            raise io.UnsupportedOperation(f"{self!r} is for writing")
        n = checked_size("n", n)
        if self._rest:
            return self.take_rest(n)
        pollable = self._io
        if pollable is None:
            return to_thread(self._file.read, n) or b""
        while True:
            # A short read proves nothing: of a terminal it is a line.
            if pollable.readable:
                if not self._may_block or self._ready_now(select.POLLIN):
                    data_or_none = self._file.read(n)
                    if data_or_none is not None:
                        return data_or_none
                pollable.readable = False
            self._wait(fiber, pollable, READ)

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        fiber = self._enter("send_all")
        rest = memoryview(data).cast("B")
        pollable = self._io
        if pollable is not None and pollable.writer is not None:
            raise Busy(f"{pollable.writer.fiber.task!r} is writing to {self!r} already")
        self._send(fiber, rest)

    def _send(self, fiber: Fiber, rest: memoryview) -> None:
        pollable = self._io
        whole = len(rest)
        try:
            while rest:
                if pollable is None:
                    rest = rest[to_thread(self._write, rest) :]
                    continue
                rest = rest[self.send_some(rest) :]
                if rest:
                    self._wait(fiber, pollable, WRITE)
        except BaseException:
            self.partly_sent = whole - len(rest)
            raise

    @contextmanager
    def hold_sending(self) -> Iterator[None]:
        fiber = self._enter("send_file")
        pollable = self._io
        if pollable is None:
            yield
            return
        if pollable.writer is not None:
            raise Busy(f"{pollable.writer.fiber.task!r} is writing to {self!r} already")
        pollable.writer = Waiter(fiber, self)
        pollable.writer.state = WOKEN  # nobody wakes it
        try:
            yield
        finally:
            pollable.writer = None

    def send_held(self, data: bytes) -> None:
        pollable = self._io
        if pollable is None:
            self.send_all(data)
            return
        holder = pollable.writer
        assert holder is not None
        pollable.writer = None  # nobody runs before a wait has begun
        try:
            self._send(holder.fiber, memoryview(data))
        finally:
            pollable.writer = holder

    def send_some(self, data: bytes | bytearray | memoryview) -> int:
        if not self._file.writable():
            raise io.UnsupportedOperation(f"{self!r} is for reading")
        pollable = self._io
        if pollable is None:
            return self._write(data)
        view = memoryview(data).cast("B")
        sent = 0
        while sent < len(view):
            if self._may_block:
                step = self._write(view[sent : sent + AT_ONCE]) if self._ready_now(select.POLLOUT) else 0
            else:
                step = self._write(view[sent:])
            if not step:
                pollable.writable = False
                break
            sent += step
        return sent

    def wait_writable(self) -> None:
        """Wait until ``send_some`` may have room again."""
        fiber = self._enter("wait_writable")
        if self._io is not None and not self._io.writable:
            self._wait(fiber, self._io, WRITE)

    def shutdown_write(self) -> None:
        """End our side: the reader of a pipe sees its end. What is for reading too stays open for that."""
        self._enter("shutdown_write")
        if not self._file.writable():
            raise io.UnsupportedOperation(f"{self!r} is for reading")
        if not self._file.readable():
            self.close()

    def close(self) -> None:
        """Close it; who waits in it gets zio.Closed. Never blocks; idempotent."""
        if self._file.closed:
            return
        if not self._loop.closed and not self._loop.forked and not self._loop.is_here():
            self._fiber("close")
        pollable = self._io
        if pollable is not None and not self._loop.closed:
            self._loop.poller.remove(pollable)  # before the number can be used again
        self._file.close()
        if pollable is not None:
            for waiter in (pollable.reader, pollable.writer):
                if waiter is not None:
                    waiter.fail(Closed(f"{self!r} was closed"))

    def _write(self, data: bytes | bytearray | memoryview) -> int:
        return self._file.write(data) or 0

    def _ready_now(self, events: int) -> bool:
        poll = select.poll()
        poll.register(self._file, events)
        return bool(poll.poll(0))

    def _enter(self, what: str) -> Fiber:
        fiber = self._fiber(what)
        loop = self._loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        if self._file.closed:
            raise Closed(f"{self!r} is closed")
        return fiber

    def _fiber(self, what: str) -> Fiber:
        fiber = getcurrent()
        if type(fiber) is not Fiber:
            raise RuntimeError(f"{what} needs a task of the stream's runtime: call it inside zio.run(...)")
        if fiber.loop is not self._loop:
            raise WrongLoop(f"{what}: the stream belongs to {self._loop!r}, {fiber.task!r} to {fiber.loop!r}")
        return fiber

    def _wait(self, fiber: Fiber, pollable: Pollable, direction: int) -> None:
        """Park until an attempt may succeed."""
        if self._file.closed:
            raise Closed(f"{self!r} is closed")
        other = pollable.reader if direction == READ else pollable.writer
        if other is not None:
            doing = "reading from" if direction == READ else "writing to"
            raise Busy(f"{other.fiber.task!r} is {doing} {self!r} already")
        if fiber.cancelled:
            raise Cancelled
        waiter = Waiter(fiber, self)
        if direction == READ:
            pollable.reader = waiter
        else:
            pollable.writer = waiter
        loop = self._loop
        if loop.poller.must_arm:
            loop.poller.arm(pollable, direction)
        loop.io_waiting += 1
        state = loop.park(waiter)
        loop.io_waiting -= 1
        if direction == READ:
            pollable.reader = None
        else:
            pollable.writer = None
        if state != WOKEN:
            raise waiter.value if state == FAILED else Cancelled

    def __repr__(self) -> str:
        if self._file.closed:
            return f"<PipeStream closed at {id(self):#x}>"
        return f"<PipeStream fd {self._file.fileno()} {self._file.mode}>"


def pipe() -> tuple[PipeStream, PipeStream]:
    """A pipe: the end to read and the end to write. Close both. Only inside a zio runtime."""
    loop = _loop("pipe")
    reading, writing = os.pipe()
    try:
        reader = PipeStream(reading, loop)
    except BaseException:
        os.close(writing)
        raise
    try:
        return reader, PipeStream(writing, loop)
    except BaseException:
        reader.close()
        raise


def stdin() -> PipeStream:
    """The standard input as a stream: a pipe, a terminal or a file. Only inside a zio runtime.

    The descriptor stays open and as it was, non-blocking flag included. What ``sys.stdin`` has buffered is not seen.
    """
    return fd_stream(0)


def stdout() -> PipeStream:
    """The standard output as a stream, see ``stdin``. Flush ``sys.stdout`` before, if it was printed to."""
    return fd_stream(1)


def stderr() -> PipeStream:
    """The standard error output as a stream, see ``stdin``."""
    return fd_stream(2)


def fd_stream(fd: int) -> PipeStream:
    """A stream on what the descriptor ``fd`` stands for. Closing it leaves ``fd`` open. Only inside a zio runtime.

    OSError if ``fd`` is not open. Its flags are left alone, so that others who have it too notice nothing.
    """
    loop = _loop("fd_stream")
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    kind = os.fstat(fd).st_mode
    own: int | None = None
    if (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)) and os.path.exists(f"/proc/self/fd/{fd}"):  # noqa: PTH110
        try:
            own = os.open(f"/proc/self/fd/{fd}", flags & os.O_ACCMODE | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            own = None  # another user's, or a pipe that nobody reads: what can be asked each time
    shared = own is None
    if own is None:
        own = os.dup(fd)
    return PipeStream(own, loop, may_block=shared)


def _loop(what: str) -> Loop:
    try:
        return here().loop
    except RuntimeError:
        raise RuntimeError(f"zio.fs.{what} needs a running zio task: call it inside zio.run(...)") from None
