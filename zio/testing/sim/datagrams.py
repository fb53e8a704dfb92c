"""Datagrams on a simulated network: they may be lost, doubled, and overtake each other."""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..._core import Busy, Closed, Fiber, Waiter, WrongLoop, here
from ...net import Datagram, DatagramSocket
from ...net.datagrams import LARGEST, checked_address
from .flow import At

if TYPE_CHECKING:
    from .network import SimNetwork

MOST_BYTES = 65507  # that a UDP datagram carries
Address = tuple[str, int]


class SimDatagramSocket(DatagramSocket):
    """A socket for datagrams on a simulated host."""

    def __init__(self, network: SimNetwork, host: str, port: int, source: str, remote: Address | None) -> None:
        self._network = network
        self._loop = here().loop
        self._address = (host, port)
        self._source = source  # the host that its datagrams come from
        self._remote = remote
        self._peer = None if remote is None else (network.host_of(remote[0]), remote[1])
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._size = 0
        self._error: OSError | None = None
        self._reader: Waiter | None = None
        self._closed = False
        self._free_at: dict[str, float] = {}  # when the way to a host has carried what was sent on it

    @property
    def address(self) -> Any:
        return self._address

    def recv(self, max_bytes: int = LARGEST) -> Datagram:
        if max_bytes < 0:
            raise ValueError(f"max_bytes={max_bytes!r} must not be negative")
        fiber = self._enter("recv")
        while not self._queue:
            self._check()
            if self._reader is not None:
                raise Busy(f"{self._reader.fiber.task!r} is reading from {self!r} already")
            self._reader = waiter = Waiter(fiber, self)
            try:
                self._loop.wait(waiter, None, _nothing)
            finally:
                self._reader = None
        data, sender = self._queue.popleft()
        self._size -= len(data)
        return Datagram(data[:max_bytes], sender, len(data) > max_bytes)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        self._enter("send")
        if self._remote is None:
            raise OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
        self._send(bytes(data), self._remote)

    def send_to(self, data: bytes | bytearray | memoryview, address: Any) -> None:
        self._enter("send_to")
        host, port = checked_address("address", address)[:2]
        self._send(bytes(data), (host, port))

    def _send(self, data: bytes, to: Address) -> None:
        self._check()
        network = self._network
        if len(data) > MOST_BYTES:
            raise OSError(errno.EMSGSIZE, f"{os.strerror(errno.EMSGSIZE)}: {len(data)} bytes")
        target = network.host_of(to[0])
        link = network.link(self._source, target)
        chance = network.random.random
        self._note("datagram sent", data)
        now = depart = self._loop.clock.now()
        if link.cut or (link.loss and chance() < link.loss):
            self._note("datagram lost", data)
            return
        if link.bandwidth is not None:
            begin = max(now, self._free_at.get(target, now))
            if (begin - now) * link.bandwidth + len(data) > link.buffer:
                self._note("datagram dropped: too many on the way", data)
                return
            depart = self._free_at[target] = begin + len(data) / link.bandwidth
        copies = 2 if link.duplicates and chance() < link.duplicates else 1
        for _ in range(copies):
            arrival = depart + link.latency + (link.jitter * chance() if link.jitter else 0.0)
            self._loop.timers.push(arrival, At(self._arrive, data, target, to[1]))

    def _arrive(self, data: bytes, target: str, port: int) -> None:
        network = self._network
        receiver = network.socket_at(target, port)
        if receiver is not None:
            receiver.take(data, (self._source, self._address[1]))
        elif network.host(target).connects != "drop":
            self._note("datagram refused", data)
            back = network.link(target, self._source)
            if not back.cut:
                self._loop.timers.push(self._loop.clock.now() + back.latency, At(self._refused, target, port))

    def _refused(self, target: str, port: int) -> None:
        if self._peer == (target, port):  # one that is not connected is not told
            self._error = ConnectionRefusedError(
                errno.ECONNREFUSED, f"{os.strerror(errno.ECONNREFUSED)}: {target}:{port}"
            )
            self._wake()

    def take(self, data: bytes, sender: Address) -> None:
        """A datagram has arrived."""
        if self._peer is not None and sender != self._peer:
            self._note("datagram of a stranger", data)
        elif self._size + len(data) > self._network.link(sender[0], self._source).buffer:
            self._note("datagram dropped: too many unread", data)
        else:
            self._note("datagram arrived", data)
            self._size += len(data)
            self._queue.append((data, sender))
            self._wake()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._network.unbind(self)
            self._queue.clear()
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None:
            self._reader.wake()

    def _check(self) -> None:
        if self._closed:
            raise Closed(f"{self!r} is closed")
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _enter(self, what: str) -> Fiber:
        fiber = here()
        loop = self._loop
        if fiber.loop is not loop:
            raise WrongLoop(f"{what}: the socket belongs to {loop!r}, {fiber.task!r} to {fiber.loop!r}")
        if self._closed:
            raise Closed(f"{self!r} is closed")
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        return fiber

    def _note(self, what: str, data: bytes) -> None:
        self._network.note(f"{self._source}:{self._address[1]}", what, len(data), crc32(data))

    def __repr__(self) -> str:
        return f"<SimDatagramSocket {self._address[0]}:{self._address[1]}{' closed' if self._closed else ''}>"


def _nothing(_waiter: Waiter) -> None:
    """Whoever waited forgets the waiter."""
