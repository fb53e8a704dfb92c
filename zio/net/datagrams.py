"""Sockets for datagrams: messages that arrive whole or not at all."""

from __future__ import annotations

import errno
import os
import socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from .._core import Closed
from .polled import PolledSocket
from .resolving import by_name, by_number

if TYPE_CHECKING:
    from .._core import Fiber, Loop

LARGEST = 65536  # bytes; more than any UDP datagram


def checked_address(name: str, address: Any) -> tuple[Any, ...]:
    """``address`` as ``(host, port)``, behind which may stand what IPv6 has more; TypeError if it is none."""
    if not isinstance(address, tuple) or len(address) < 2:
        raise TypeError(f"{name}={address!r} must be (host, port)")
    if not isinstance(address[0], str) or not isinstance(address[1], int):
        raise TypeError(f"{name}={address!r} must be (host, port): text and a number")
    return address


class Datagram(NamedTuple):
    """What has arrived: ``address`` is the sender's, None if it has none; ``truncated`` if it was longer than that."""

    data: bytes
    address: Any
    truncated: bool


class DatagramSocket(ABC):
    """A socket for datagrams, made by ``zio.net.udp`` or ``unix_datagram``. Iterating receives; ``with`` closes it.

    All calls are for tasks of the socket's own runtime. One task may receive while another sends.
    """

    @property
    @abstractmethod
    def address(self) -> Any:
        """Its own address; of a unix socket the path, None without one."""

    @property
    def port(self) -> int:
        """The port it is bound to; AttributeError for a unix socket."""
        return int(self.address[1])

    @abstractmethod
    def recv(self, max_bytes: int = LARGEST) -> Datagram:
        """Wait for a datagram; what is longer than ``max_bytes`` is cut off and lost, and ``truncated`` says so.

        ConnectionRefusedError, on a connected socket, if something sent before found nobody. zio.Closed when the socket
        gets closed. A cancel takes no datagram.
        """

    @abstractmethod
    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send to the address that the socket is connected to, waiting for room. OSError with EDESTADDRREQ if to none.

        ConnectionRefusedError if something sent before found nobody: then this datagram was not sent. OSError with
        EMSGSIZE if it is too large. Cancelled, it was not sent.
        """

    @abstractmethod
    def send_to(self, data: bytes | bytearray | memoryview, address: Any) -> None:
        """Like ``send``, to ``address``: ``(host, port)``, where a name is looked up; of unix sockets the path."""

    @abstractmethod
    def close(self) -> None:
        """Close it; who waits in ``recv`` gets zio.Closed. Never blocks; idempotent."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Datagram:
        try:
            return self.recv()
        except Closed:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class SystemDatagramSocket(DatagramSocket):
    """One of the system: UDP. It takes over ``sock``."""

    def __init__(self, sock: socket.socket, loop: Loop) -> None:
        try:
            self._address = self._plain(sock.getsockname())
            self._polled = PolledSocket(sock, loop)
        except BaseException:
            sock.close()
            raise

    @property
    def socket(self) -> socket.socket:
        """The socket itself, for options; do not read, write or close it."""
        return self._polled.sock

    @property
    def address(self) -> Any:
        return self._address

    def recv(self, max_bytes: int = LARGEST) -> Datagram:
        if max_bytes < 0:
            raise ValueError(f"max_bytes={max_bytes!r} must not be negative")
        fiber = self._enter("recv")
        polled = self._polled
        while True:
            if polled.io.readable and not polled.closed:
                try:
                    data, _, flags, address = polled.sock.recvmsg(max_bytes)
                except BlockingIOError:
                    polled.io.readable = False
                else:
                    return Datagram(data, self._plain(address), bool(flags & socket.MSG_TRUNC))
            else:
                polled.wait_readable(fiber, self)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        self._send(self._enter("send"), data, None)

    def send_to(self, data: bytes | bytearray | memoryview, address: Any) -> None:
        fiber = self._enter("send_to")
        self._send(fiber, data, self._target(fiber, address))

    def _send(self, fiber: Fiber, data: bytes | bytearray | memoryview, target: Any) -> None:
        polled = self._polled
        pause = 0.0
        while True:
            if polled.closed:
                raise Closed(f"{self!r} is closed")
            try:
                if target is None:
                    polled.sock.send(data)
                else:
                    polled.sock.sendto(data, target)
                return
            except BlockingIOError:
                pause = self._wait_for_room(fiber, target, pause)
            except OSError as exc:
                if exc.errno != errno.EMSGSIZE:
                    raise
                raise OSError(
                    errno.EMSGSIZE, f"{os.strerror(errno.EMSGSIZE)}: {memoryview(data).nbytes} bytes"
                ) from None

    def _wait_for_room(self, fiber: Fiber, _target: Any, _pause: float) -> float:
        """Wait until another attempt may succeed; what to pass the next time."""
        self._polled.wait_writable(fiber, self)
        return 0.0

    def _target(self, fiber: Fiber, address: Any) -> Any:
        """The address with the host as a number, since the socket would look a name up in this thread."""
        host, port, *scope = checked_address("address", address)
        if by_number(host, port):
            return address
        family = self._polled.sock.family
        for found, numeric in by_name(fiber, host, port):
            if found == family:
                return (*numeric[:2], *scope) if scope else numeric
        raise OSError(errno.EAFNOSUPPORT, f"{host} has no address of the socket's family")

    def _plain(self, address: Any) -> Any:
        return address

    def _enter(self, what: str) -> Fiber:
        polled = self._polled
        fiber = polled.fiber(what)
        loop = polled.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        return fiber

    def close(self) -> None:
        polled = self._polled
        if not polled.closed and not polled.loop.closed and not polled.loop.forked and not polled.loop.is_here():
            polled.fiber("close")
        polled.close(self)

    def __repr__(self) -> str:
        where = "closed" if self._polled.closed else f"fd {self._polled.io.fd} at {self._address!r}"
        return f"<{type(self).__name__} {where}>"


def bound_socket(family: int, local: Any, remote: Any) -> socket.socket:
    """A socket for datagrams, bound and connected to these addresses as far as there are any."""
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        if local is not None:
            sock.bind(local)
        if remote is not None:
            sock.connect(remote)
    except BaseException:
        sock.close()
        raise
    return sock
