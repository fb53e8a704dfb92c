"""Streams on the system's sockets."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._core import ARMED, FAILED, NO_LOOP, WOKEN, Busy, Cancelled, Closed, Fiber, Waiter, current_fiber, thread_holder
from .lending import Loan
from .polled import PolledSocket
from .stream import Stream, checked_size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from .._core import Loop

MOST_PARTS = min(os.sysconf("SC_IOV_MAX"), 1024)  # that the system takes in one call
MOST_DISCARDED = 1 << 20  # bytes: closing must not take long, whatever the peer sends
DISCARD_SIZE = 64 << 10  # of them at a time

_NOBODY: Any = None


class SocketStream(Stream):
    """A TCP (or other stream) connection."""

    def __init__(self, sock: socket.socket, loop: Loop) -> None:
        self._polled = PolledSocket(sock, loop)
        self._loop = loop
        self._io = self._polled.io
        self._recv = sock.recv
        self._send = sock.send
        self._rest = b""
        self._reader = None if loop.poller.must_arm else Waiter(_NOBODY, None)
        self._loan: Loan | None = None
        self._holder: Waiter | None = None  # of send_file

    @property
    def socket(self) -> socket.socket:
        """The socket itself, for options and addresses; do not read, write or close it."""
        return self._polled.sock

    def recv(self, n: int) -> bytes:
        try:
            loop = (fiber := current_fiber()).loop
        except AttributeError:  # not in a task
            loop = NO_LOOP
        if loop is not self._loop:
            fiber = self._polled.fiber("recv")
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        if self._rest:
            if type(n) is not int or n < 0:
                n = checked_size("n", n)
            data, self._rest = self._rest[:n], self._rest[n:]
            return data
        io = self._io
        while True:
            if io.readable and io.lent_to is None:
                try:
                    data = self._recv(n)
                except BlockingIOError:
                    io.readable = False
                except OSError as exc:
                    raise self._explain(exc) from None
                except (TypeError, ValueError):  # looked at only now, since this path is hot
                    checked_size("n", n)
                    raise
                else:
                    # Less than asked for: drained, so the next recv parks without a system call that would
                    # fail (and raise, which costs more than the call). Not at the end of the stream.
                    if len(data) < n and data and not io.hangup:
                        io.readable = False
                    return data
            waiter = self._reader
            if waiter is None or io.reader is not None or fiber.cancelled or self._polled.closed:
                self._polled.wait_readable(fiber, self)
                continue
            # The same, written out and with one waiter for all waits: nobody else has it when a wait has ended.
            waiter.fiber = fiber
            waiter.what = self
            waiter.state = ARMED
            try:
                io.reader = waiter
                loop.io_waiting += 1
                ready = loop.ready
                if loop.budget > 0 and fiber.waiter is None:  # loop.park, written out: a call takes 60 ns
                    fiber.waiter = waiter
                    if ready and type(item := ready[0]) is Fiber:
                        del ready[0]
                        if item is not fiber:
                            item.switch()
                    else:
                        loop.hub.switch()
                    fiber.waiter = None
                    if fiber.cancelled:
                        loop.budget = 0
                    state = waiter.state or loop.park(waiter)
                else:
                    state = loop.park(waiter)
            except BaseException as exc:
                if fiber.waiter is waiter:
                    fiber.waiter = None
                io.readable = True  # the edge may have come
                state = loop.struck(waiter, exc)
            loop.io_waiting -= 1
            io.reader = waiter.what = None
            waiter.fiber = _NOBODY  # or there would be a cycle
            if state != WOKEN:
                error, waiter.value = waiter.value, None
                raise error if state == FAILED else Cancelled

    def lend(self) -> Loan | None:
        if not self._loop.poller.can_lend or self._loop.is_here():
            return None
        polled = self._polled
        io = polled.io
        waiter = io.reader
        # Only while a task waits in recv, and nobody waits to write.
        if polled.closed or io.lent_to or io.readable or io.hangup or io.writer is not None:
            return None
        if waiter is None or waiter is not self._reader or waiter.state:
            return None
        loan = self._loan
        if loan is None:
            loan = self._loan = Loan(polled)
        return loan if loan.begin() else None

    def end_loan(self) -> None:
        if self._loan is not None:
            self._loan.end(thread_holder())

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        """Like ``recv``, into ``buffer``; the number of bytes, 0 at the end of the stream."""
        fiber = self._enter("recv_into")
        if self._rest:
            count = min(len(self._rest), len(buffer))
            buffer[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            return count
        io = self._io
        while True:
            if io.readable:
                try:
                    count = self._polled.sock.recv_into(buffer)
                except BlockingIOError:
                    io.readable = False
                except OSError as exc:
                    raise self._explain(exc) from None
                else:
                    if 0 < count < len(buffer) and not io.hangup:
                        io.readable = False
                    return count
            self._polled.wait_readable(fiber, self)

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            loop = (fiber := current_fiber()).loop
        except AttributeError:
            loop = NO_LOOP
        if loop is not self._loop:
            fiber = self._polled.fiber("send_all")
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        if self._io.writer is not None:
            raise Busy(f"{self._io.writer.fiber.task!r} is writing to {self!r} already")
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            self.partly_sent = 0
            raise self._explain(exc) from None
        if sent == len(data):
            return
        with memoryview(data) as whole, whole.cast("B") as view:
            try:
                while sent < len(view):
                    self._polled.wait_writable(fiber, self)
                    with view[sent:] as rest:
                        sent += self.send_some(rest)
            except BaseException:
                self.partly_sent = sent
                raise

    def send_vectored(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        fiber = self._enter("send_vectored")
        if self._io.writer is not None:
            raise Busy(f"{self._io.writer.fiber.task!r} is writing to {self!r} already")
        rest = [memoryview(part).cast("B") for part in parts]
        total, at = 0, 0  # bytes sent; the first part that is not sent whole
        try:
            while at < len(rest):
                batch = rest[at : at + MOST_PARTS]
                wanted = sum(map(len, batch))
                try:
                    sent = self._polled.sock.sendmsg(batch) if wanted else 0
                except BlockingIOError:
                    sent = 0
                except OSError as exc:
                    raise self._explain(exc) from None
                total += sent
                if sent == wanted:
                    at += len(batch)
                    continue
                while sent >= len(rest[at]):
                    sent -= len(rest[at])
                    at += 1
                rest[at] = rest[at][sent:]
                self._polled.wait_writable(fiber, self)
        except BaseException:
            self.partly_sent = total
            raise

    @contextmanager
    def hold_sending(self) -> Iterator[None]:
        fiber = self._enter("send_file")
        io = self._io
        if io.writer is not None:
            raise Busy(f"{io.writer.fiber.task!r} is writing to {self!r} already")
        io.writer = self._holder = Waiter(fiber, self)
        io.writer.state = WOKEN  # nobody wakes it
        try:
            yield
        finally:
            io.writer = self._holder = None

    def send_held(self, data: bytes) -> None:
        sent = 0
        try:
            while sent < len(data):
                sent += self.send_some(data[sent:] if sent else data)
                if sent < len(data):
                    self._wait_held()
        except BaseException:
            self.partly_sent = sent
            raise

    def send_from(self, fd: int, offset: int, count: int) -> int:
        """Like ``send_held``, but the system sends from the file, without copying; how many bytes, 0 at its end."""
        while not self._polled.closed:
            try:
                return os.sendfile(self._io.fd, fd, offset, count)
            except BlockingIOError:
                self._wait_held()
        raise Closed(f"{self!r} is closed")

    def _wait_held(self) -> None:
        holder, io = self._holder, self._io
        assert holder is not None
        io.writer = None  # nobody runs before this wait has begun
        try:
            self._polled.wait_writable(holder.fiber, self)
        finally:
            io.writer = holder

    def set_keepalive(self, idle: float = 60.0, *, interval: float = 10.0, count: int = 5) -> None:
        """Have the system find out whether the peer is there: after ``idle`` seconds of silence, every ``interval``.

        After ``count`` questions without an answer receiving and sending raise TimeoutError. Both times are whole
        seconds from 1 to 32767, ``count`` is 1 to 127: ValueError. ``idle=0`` switches it off. TCP only: OSError.
        """
        sock = self._polled.sock
        if not idle:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
            return
        values = [("idle", idle, 32767), ("interval", interval, 32767), ("count", count, 127)]
        for name, value, most in values:
            if value != int(value) or not 1 <= value <= most:
                raise ValueError(f"{name}={value!r} must be a whole number from 1 to {most}")
        when = getattr(socket, "TCP_KEEPIDLE", None) or socket.TCP_KEEPALIVE  # type: ignore[attr-defined,unused-ignore]
        for option, value in ((when, idle), (socket.TCP_KEEPINTVL, interval), (socket.TCP_KEEPCNT, count)):
            sock.setsockopt(socket.IPPROTO_TCP, option, int(value))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def set_user_timeout(self, seconds: float | None) -> None:
        """How long what was sent may be without an acknowledgement of the peer's system; then calls raise TimeoutError.

        None leaves it to the system (some 15 minutes). ValueError unless it is more than 0 and at most 2,000,000. TCP
        on Linux only: OSError.
        """
        if seconds is not None and not 0 < seconds <= 2_000_000:
            raise ValueError(f"seconds={seconds!r} must be more than 0 and at most 2000000")
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is None:
            raise OSError(errno.ENOPROTOOPT, "TCP_USER_TIMEOUT: this system has none")
        milliseconds = 0 if seconds is None else max(round(seconds * 1000), 1)
        self._polled.sock.setsockopt(socket.IPPROTO_TCP, option, milliseconds)

    def send_some(self, data: bytes | bytearray | memoryview) -> int:
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            raise self._explain(exc) from None
        if sent < len(data):
            self._io.writable = False  # until an edge says otherwise
        return sent

    lends_sending = True

    def send_noted(self, data: bytes | memoryview, noted: list[int], allowed: Collection[object]) -> Exception | None:
        attempt = map(self._send, (data,))
        try:
            if allowed:
                noted.extend(attempt)  # one step: between the look and the note of what the system has taken
        except BlockingIOError:
            if not noted:
                noted.append(0)
        except OSError as exc:
            if noted:  # of a signal handler, behind the step
                raise
            return self._explain(exc)
        if noted and noted[0] < len(data):
            self._io.writable = False  # until an edge says otherwise
        return None

    def wait_writable(self) -> None:
        """Wait until ``send_some`` may have room again."""
        fiber = self._enter("wait_writable")
        if not self._io.writable or self._polled.closed:
            self._polled.wait_writable(fiber, self)

    def shutdown_write(self) -> None:
        self._enter("shutdown_write")
        try:
            self._polled.sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            if exc.errno != errno.ENOTCONN:  # the peer was faster
                raise self._explain(exc) from None

    def discard_received(self) -> None:
        if self._polled.closed or self._io.lent_to is not None:
            return
        left = MOST_DISCARDED
        try:
            while left > 0 and (data := self._recv(min(left, DISCARD_SIZE))):
                left -= len(data)
        except OSError:
            return  # BlockingIOError: that was all; with any other error there is nothing to be saved

    def close(self) -> None:
        if not self._polled.closed and not self._loop.closed and not self._loop.forked and not self._loop.is_here():
            self._polled.fiber("close")
        self._polled.close(self)

    def _enter(self, what: str) -> Fiber:
        fiber = self._polled.fiber(what)
        loop = self._loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        return fiber

    def _explain(self, exc: OSError) -> Exception:
        """EBADF after our own close says what happened; everything else is the system's word."""
        return Closed(f"{self!r} is closed") if self._polled.closed else exc

    def __repr__(self) -> str:
        if self._polled.closed:
            return f"<SocketStream closed at {id(self):#x}>"
        try:
            peer: Any = self._polled.sock.getpeername()
        except OSError:
            peer = "a peer that is gone"
        return f"<SocketStream fd {self._io.fd} to {peer}>"
