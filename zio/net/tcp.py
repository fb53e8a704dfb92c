"""TCP: listening, accepting and connecting."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from .._core import Closed
from .polled import PolledSocket
from .serving import Acceptor
from .sockets import SocketStream

if TYPE_CHECKING:
    from .._core import Fiber, Loop

# What accept may raise about a connection that is gone already, or about the network it came by.
NO_CONNECTION = {
    *(errno.ECONNABORTED, errno.EPROTO, errno.EINTR, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN),
    *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EOPNOTSUPP, getattr(errno, "ENONET", errno.ENETDOWN)),
}


class Listener(Acceptor):
    """A socket that accepts connections. Iterating accepts; ``with`` closes it."""

    def __init__(self, sock: socket.socket, loop: Loop) -> None:
        self._polled = PolledSocket(sock, loop)
        self._address = sock.getsockname()

    @property
    def address(self) -> Any:
        """Where it listens, in the form of the socket module."""
        return self._address

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._address[1])

    def accept(self) -> SocketStream:
        """Wait for a connection. zio.Closed when the listener gets closed; a cancel takes no connection."""
        polled = self._polled
        fiber = polled.fiber("accept")
        loop = polled.loop
        if loop.budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget -= 1
        io = polled.io
        while True:
            if io.readable:
                try:
                    sock, _ = polled.sock.accept()
                except BlockingIOError:
                    io.readable = False
                except OSError as exc:
                    if polled.closed:
                        raise Closed(f"{self!r} is closed") from None
                    if exc.errno not in NO_CONNECTION:
                        raise
                else:
                    return tcp_stream(sock, loop)
            else:
                polled.wait_readable(fiber, self)

    def close(self) -> None:
        """Stop listening; who waits in ``accept`` gets zio.Closed. Never blocks; idempotent."""
        self._polled.close(self)

    def __repr__(self) -> str:
        return f"<Listener {'closed' if self._polled.closed else self._address}>"


def tcp_stream(sock: socket.socket, loop: Loop) -> SocketStream:
    """A stream on a connected TCP socket: small writes go out at once."""
    try:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return SocketStream(sock, loop)
    except BaseException:
        sock.close()
        raise


def connect_socket(fiber: Fiber, family: int, address: Any) -> SocketStream:
    """Connect to one address; the socket is closed again if that fails or is cancelled."""
    loop = fiber.loop
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS, errno.EAGAIN, errno.EWOULDBLOCK):
            raise OSError(code, f"{os.strerror(code)}: connecting to {address}")
        stream = tcp_stream(sock, loop)
    except BaseException:
        sock.close()
        raise
    if code:
        polled = stream._polled
        try:
            while True:
                polled.wait_writable(fiber, stream)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, f"{os.strerror(code)}: connecting to {address}")
                try:
                    sock.getpeername()
                except OSError:
                    continue  # an event, but not connected yet
                break
        except BaseException:
            stream.close()
            raise
    return stream
