"""Streams and a network that exist in memory only."""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Self

from .._core import Busy, Closed, Fiber, Loop, Waiter, here
from ..net import Stream


class _Pipe:
    """One direction: bytes in flight, at most ``limit`` of them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.ended = False  # no more will be written
        self.broken = False  # nobody reads any more
        self.reader: Waiter | None = None
        self.writer: Waiter | None = None

    def wake_reader(self) -> None:
        if self.reader is not None:
            self.reader.wake()

    def wake_writer(self) -> None:
        if self.writer is not None:
            self.writer.wake()


class MemoryStream(Stream):
    """One end of a pair; see :func:`memory_stream_pair`."""

    def __init__(self, loop: Loop, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._loop = loop
        self._in = incoming
        self._out = outgoing
        self._closed = False

    def recv(self, n: int) -> bytes:
        fiber = self._enter()
        if self._rest:
            data, self._rest = self._rest[:n], self._rest[n:]
            return data
        pipe = self._in
        while not pipe.chunks:
            if pipe.ended:
                return b""
            if pipe.reader is not None:
                raise Busy(f"{pipe.reader.fiber.task!r} is reading from {self!r} already")
            pipe.reader = waiter = Waiter(fiber, self)
            try:
                self._park(waiter)
            finally:
                pipe.reader = None
        chunk = pipe.chunks.popleft()
        if len(chunk) > n:
            pipe.chunks.appendleft(chunk[n:])
            chunk = chunk[:n]
        pipe.size -= len(chunk)
        pipe.wake_writer()
        return chunk

    def send_all(self, data: bytes | bytearray | memoryview) -> None:
        fiber = self._enter()
        pipe = self._out
        if pipe.writer is not None:
            raise Busy(f"{pipe.writer.fiber.task!r} is writing to {self!r} already")
        rest = memoryview(bytes(data))
        while True:
            rest = rest[self.send_some(rest) :]
            if not rest:
                return
            self._wait_writable(fiber)

    def send_some(self, data: bytes | bytearray | memoryview) -> int:
        if self._closed:
            raise Closed(f"{self!r} is closed")
        pipe = self._out
        if pipe.broken:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        chunk = bytes(memoryview(data)[: pipe.limit - pipe.size])
        if chunk:
            pipe.chunks.append(chunk)
            pipe.size += len(chunk)
            pipe.wake_reader()
        return len(chunk)

    def wait_writable(self) -> None:
        """Wait until ``send_some`` may have room again."""
        self._wait_writable(self._enter())

    def _wait_writable(self, fiber: Fiber) -> None:
        pipe = self._out
        if pipe.size < pipe.limit or pipe.broken:
            return
        if pipe.writer is not None:
            raise Busy(f"{pipe.writer.fiber.task!r} is writing to {self!r} already")
        pipe.writer = waiter = Waiter(fiber, self)
        try:
            self._park(waiter)
        finally:
            pipe.writer = None

    def shutdown_write(self) -> None:
        self._out.ended = True
        self._out.wake_reader()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.shutdown_write()
        self._in.broken = True
        self._in.wake_writer()
        for waiter in (self._in.reader, self._out.writer):
            if waiter is not None:
                waiter.fail(Closed(f"{self!r} was closed"))

    def _enter(self) -> Fiber:
        fiber = here()
        if self._closed:
            raise Closed(f"{self!r} is closed")
        if self._loop.budget <= 0:
            self._loop.checkpoint(fiber)
        else:
            self._loop.budget -= 1
        return fiber

    def _park(self, waiter: Waiter) -> None:
        self._loop.wait(waiter, None, lambda _waiter: None)

    def __repr__(self) -> str:
        return f"<MemoryStream {'closed' if self._closed else 'open'} at {id(self):#x}>"


def memory_stream_pair(limit: int = 65536) -> tuple[MemoryStream, MemoryStream]:
    """Two connected streams; at most ``limit`` bytes are in flight each way. Only inside a zio runtime."""
    loop = here().loop
    there, back = _Pipe(limit), _Pipe(limit)
    return MemoryStream(loop, back, there), MemoryStream(loop, there, back)


class MemoryListener:
    """The listening side in a :class:`MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, loop: Loop, host: str, port: int) -> None:
        self._network = network
        self._loop = loop
        self._arrived: deque[MemoryStream] = deque()
        self._waiter: Waiter | None = None
        self._closed = False
        self.address = (host, port)
        self.port = port

    def arrive(self, stream: MemoryStream) -> None:
        self._arrived.append(stream)
        if self._waiter is not None:
            self._waiter.wake()

    def accept(self) -> MemoryStream:
        """Wait for a connection."""
        fiber = here()
        if self._loop.budget <= 0:
            self._loop.checkpoint(fiber)
        else:
            self._loop.budget -= 1
        while not self._arrived:
            if self._closed:
                raise Closed("the listener is closed")
            if self._waiter is not None:
                raise Busy(f"{self._waiter.fiber.task!r} is accepting from this listener already")
            self._waiter = waiter = Waiter(fiber, self)
            try:
                self._loop.wait(waiter, None, lambda _waiter: None)
            finally:
                self._waiter = None
        return self._arrived.popleft()

    def close(self) -> None:
        """Stop listening."""
        if not self._closed:
            self._closed = True
            self._network.forget(self.port)
            for stream in self._arrived:
                stream.close()
            if self._waiter is not None:
                self._waiter.wake()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> MemoryStream:
        try:
            return self.accept()
        except Closed:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class MemoryNetwork:
    """A network for ``Runtime(network=)`` and ``run_virtual(network=)``: ports are numbers, every host is here."""

    def __init__(self, limit: int = 65536) -> None:
        self._limit = limit
        self._listeners: dict[int, MemoryListener] = {}
        self._next_port = 49152

    def connect(self, host: str, port: int) -> Stream:
        listener = self._listeners.get(port)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{os.strerror(errno.ECONNREFUSED)}: {host}:{port}")
        ours, theirs = memory_stream_pair(self._limit)
        listener.arrive(theirs)
        return ours

    def listen(self, host: str, port: int, backlog: int) -> MemoryListener:
        if port == 0:
            port, self._next_port = self._next_port, self._next_port + 1
        if port in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {host}:{port}")
        listener = self._listeners[port] = MemoryListener(self, here().loop, host, port)
        return listener

    def forget(self, port: int) -> None:
        self._listeners.pop(port, None)
