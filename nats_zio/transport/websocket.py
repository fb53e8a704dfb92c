"""The bytes of NATS in the frames of a WebSocket, as a stream.

The engine is wsproto, which does no I/O; ``_lock`` guards it, since a plain thread may send while a task of the home
loop receives, and is never held while anybody waits. Each piece that is sent is a message of one frame, masked. What
goes out keeps its order by ``Leftover``: a frame that has begun is sent to its end before another one begins, and what
the protocol itself has to say (a pong, the end) waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from greenlet import getcurrent
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason

import zio
from zio.lowlevel import Fiber, here, notice_fork
from zio.net import Stream

from ..errors import WebSocketError
from .leftover import Leftover

if TYPE_CHECKING:
    from wsproto import WSConnection
    from wsproto.events import AcceptConnection, Event

WRITE_SIZE = 64 << 10  # of one frame, at most
READ_SIZE = 64 << 10  # of the raw stream, at least
# The engine gets so much at a time: it copies what it has left over after each frame, and compressed data may grow a
# thousandfold, so a piece of 16 KiB is at most 16 MiB of data.
PIECE = 16 << 10

_NOTHING = memoryview(b"")
_ORDERLY = (CloseReason.NORMAL_CLOSURE, CloseReason.GOING_AWAY, CloseReason.NO_STATUS_RCVD)


class WebSocketStream(Stream):
    """A stream over a WebSocket; made by ``upgrade``, when the server has accepted it.

    The end of the stream is b"" if the server has ended the WebSocket in good order, or has closed the connection; if
    it named another reason, ``recv`` raises ConnectionResetError with that. ``shutdown_write`` and ``close`` send a
    close frame.
    """

    def __init__(self, raw: Stream, engine: WSConnection, accepted: AcceptConnection) -> None:
        self._loop = here().loop
        self._raw = raw
        self._engine = engine
        self._compressed = any(isinstance(each, Extension) and each.enabled() for each in accepted.extensions)
        self._lock = threading.Lock()
        self._closed = False
        # Sending.
        self._out = Leftover(raw, self._loop, self._lock, self._take_owed)
        self._largest = WRITE_SIZE
        self._writer: Fiber | None = None  # who waits to send
        self._pong: bytes | None = None  # owed for the last ping
        self._farewell: CloseConnection | None = None  # owed as well
        self._write_ended: OSError | None = None  # what sending raises then
        # Receiving.
        self._reader: Fiber | None = None  # who waits in recv
        self._unfed = _NOTHING  # received, and not given to the engine
        self._received: deque[bytes] = deque()
        self._size = 0  # of that
        self._ended = False
        self._read_error: OSError | None = None
        with self._lock:
            self._handle_events()  # what came glued to the acceptance

    @property
    def compressed(self) -> bool:
        """Whether the server has agreed to compress."""
        return self._compressed

    @property
    def raw(self) -> Stream:
        """The stream beneath; do not use it."""
        return self._raw

    def fit(self, max_payload: int) -> None:
        """Send no compressed message of more bytes: a server takes one as a whole, and no larger than a payload."""
        if self._compressed:
            self._largest = min(WRITE_SIZE, max_payload)

    # Receiving.

    def recv(self, n: int) -> bytes:
        fiber = self._enter("recv")
        if self._rest:
            return self.take_rest(n)
        while True:
            if self._closed:
                raise zio.Closed(f"{self!r} is closed")
            if self._received:
                return self._take(n)
            if self._ended:
                if self._read_error is not None:
                    raise self._read_error.with_traceback(None)
                return b""
            if not self._unfed:
                self._unfed = self._recv_raw(fiber, n)
            self._feed(n)

    def _recv_raw(self, fiber: Fiber, n: int) -> memoryview:
        if self._reader is not None:
            raise zio.Busy(f"{self._reader.task!r} is reading from {self!r} already")
        self._reader = fiber
        try:
            data = self._raw.recv(max(n, READ_SIZE))
        finally:
            self._reader = None
        if not data:
            self._ended = True
        return memoryview(data)

    def _feed(self, n: int) -> None:
        """Decode what was received, until there are ``n`` bytes to give out."""
        with self._lock:
            while self._unfed and self._size < n and not self._ended:
                piece, self._unfed = bytes(self._unfed[:PIECE]), self._unfed[PIECE:]
                self._engine.receive_data(piece)
                self._handle_events()

    def _take(self, n: int) -> bytes:
        received = self._received
        data = received.popleft()
        if received and len(data) < n:
            parts, have = [data], len(data)
            while received and have < n:
                parts.append(received.popleft())
                have += len(parts[-1])
            data = b"".join(parts)
        if len(data) > n:
            received.appendleft(data[n:])
            data = data[:n]
        self._size -= len(data)
        return data

    def _handle_events(self) -> None:
        """Under the lock. One by one as they are found, since the state of the engine goes with them."""
        for event in self._engine.events():
            self._handle(event)

    def _handle(self, event: Event) -> None:
        """What the engine found. Under the lock."""
        if self._ended:
            return
        if isinstance(event, BytesMessage):
            if event.data:
                self._received.append(bytes(event.data))
                self._size += len(event.data)
        elif isinstance(event, Ping):
            self._pong = bytes(event.payload)
            self._pay()
        elif isinstance(event, TextMessage):
            self._end(WebSocketError("the server sent a text frame: NATS is spoken in binary ones"))
            self._say_farewell(CloseReason.UNSUPPORTED_DATA)
        elif isinstance(event, CloseConnection):
            if self._engine.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                # Not a frame of the server's, but what the engine makes of its frames.
                self._end(WebSocketError(f"the server sent what is no WebSocket: {event.reason}"))
                self._say_farewell(event.code)
                return
            gone = ConnectionResetError(f"the server closed the WebSocket: {event.code} {event.reason or ''}".rstrip())
            self._end(None if event.code in _ORDERLY else gone)
            self._say_farewell(event.code)
            self._write_ended = gone

    def _end(self, error: OSError | None) -> None:
        self._ended = True
        self._read_error = error
        self._unfed = _NOTHING

    # Sending.

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        fiber = self._enter("send_all")
        if self._writer is not None:
            raise zio.Busy(f"{self._writer.task!r} is writing to {self!r} already")
        rest = memoryview(data).cast("B")
        while True:
            rest = rest[self.send_some(rest) :]
            if not rest and not self._out.full:
                return
            self._wait_for_room(fiber)

    def send_some(self, data: bytes | bytearray | memoryview) -> int:
        """Send what there is room for now, without waiting; how many bytes were taken, perhaps 0.

        What was taken goes out by itself, also where the raw stream took a part only. An error that comes after a part
        has gone out is raised by the next call.
        """
        with self._lock:
            self._check_sending()
            if self._out.full:
                return 0
            view = memoryview(data).cast("B")
            total, done = len(view), 0
            while done < total:
                end = min(done + self._largest, total)
                frame = self._engine.send(BytesMessage(data=bytes(view[done:end])))
                try:
                    whole = self._out.send(frame)
                except (OSError, zio.Closed):
                    if done:  # the caller must not take that for unsent
                        return done
                    raise
                done = end
                if not whole:
                    break
            return done

    def wait_writable(self) -> None:
        fiber = self._enter("wait_writable")
        if self._writer is not None:
            raise zio.Busy(f"{self._writer.task!r} is writing to {self!r} already")
        self._wait_for_room(fiber)

    def _wait_for_room(self, fiber: Fiber) -> None:
        self._writer = fiber
        try:
            self._out.wait(fiber, self)
        finally:
            self._writer = None
        with self._lock:
            self._check_sending()

    def _check_sending(self) -> None:
        if self._closed:
            raise zio.Closed(f"{self!r} is closed")
        if self._out.error is not None:
            raise self._out.error.with_traceback(None)
        if self._write_ended is not None:
            raise self._write_ended.with_traceback(None)

    # What the protocol itself has to say. Under the lock.

    def _say_farewell(self, code: int) -> None:
        """Send a close frame, ours or the answer to the server's, and nothing after it."""
        if self._write_ended is None:
            self._farewell = CloseConnection(code=code)
            self._write_ended = BrokenPipeError(errno.EPIPE, f"{os.strerror(errno.EPIPE)}: our side has ended")
            self._pay()

    def _pay(self) -> None:
        if not self._out.full and self._out.error is None and (owed := self._take_owed()):
            with contextlib.suppress(OSError, zio.Closed):  # raised where something is sent
                self._out.send(owed)

    def _take_owed(self) -> bytes:
        """The frames that wait for the one before them."""
        frames = b""
        if self._pong is not None and self._engine.state is ConnectionState.OPEN:
            frames = self._engine.send(Pong(payload=self._pong))
        if self._farewell is not None:
            frames += self._engine.send(self._farewell)
        self._pong = self._farewell = None
        return frames

    # The end.

    def shutdown_write(self) -> None:
        fiber = self._enter("shutdown_write")
        with self._lock:
            if self._write_ended is not None:
                return
            self._check_sending()
            self._say_farewell(CloseReason.NORMAL_CLOSURE)
        while self._out.full and not self._closed:
            self._out.wait(fiber, self)

    def close(self) -> None:
        if self._closed:
            return
        notice_fork()
        loop = self._loop
        if loop.closed or loop.forked:  # in a forked child the connection is the parent's: not a byte may go out
            self._closed = True
            self._raw.close()
            return
        if not loop.is_here():
            self._fiber("close")
        with self._lock:
            self._closed = True
            if not self._out.full:
                self._say_farewell(CloseReason.NORMAL_CLOSURE)
        self._raw.close()  # whoever waits for it ends, and wakes who waits for them

    def _fiber(self, what: str) -> Fiber:
        fiber = getcurrent()
        if type(fiber) is Fiber:
            if fiber.loop is self._loop:
                return fiber
            raise zio.WrongLoop(f"{what}: the stream belongs to {self._loop!r}, {fiber.task!r} to {fiber.loop!r}")
        raise RuntimeError(f"{what} needs a task of the stream's runtime: call it inside zio.run(...)")

    def _enter(self, what: str) -> Fiber:
        fiber = self._fiber(what)
        loop = self._loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        return fiber

    def __repr__(self) -> str:
        return f"<WebSocketStream over {self._raw!r}>"
