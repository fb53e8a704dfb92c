"""Where connections come from: the machine's own network, or one that a test puts in its place."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Protocol

from .._core import here
from .datagrams import SystemDatagramSocket, bound_socket
from .resolving import EVERYWHERE, by_name, by_number, every_interface
from .tcp import Listener, connect_socket
from .unix import UnixListener, connect_unix_socket, listen_unix_socket

if TYPE_CHECKING:
    from .._core import Fiber
    from .datagrams import DatagramSocket
    from .stream import Stream


class Network(Protocol):
    """What ``Runtime(network=)`` takes. ``connect`` and ``udp`` get addresses as ``resolve`` gives them, one each."""

    def connect(self, host: str, port: int) -> Stream: ...
    def listen(self, host: str, port: int, backlog: int, reuse_port: bool) -> Any: ...
    def connect_unix(self, path: str) -> Stream: ...
    def listen_unix(self, path: str, backlog: int) -> Any: ...
    def udp(self, local: tuple[str, int] | None, remote: tuple[str, int] | None) -> DatagramSocket: ...
    def resolve(self, host: str, port: int) -> list[tuple[int, Any]]: ...


class SystemNetwork:
    """The machine's own network."""

    def connect(self, host: str, port: int) -> Stream:
        family, address = self._one(host, port)
        return connect_socket(running("connect"), family, address)

    def listen(self, host: str, port: int, backlog: int, reuse_port: bool = False) -> Listener:
        loop = running("listen").loop
        family, address = (every_interface(port)) if host in EVERYWHERE else self._one(host, port)
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            if host in EVERYWHERE and family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            sock.listen(backlog)
            return Listener(sock, loop)
        except BaseException:
            sock.close()
            raise

    def connect_unix(self, path: str) -> Stream:
        return connect_unix_socket(running("connect_unix"), path)

    def listen_unix(self, path: str, backlog: int) -> UnixListener:
        return listen_unix_socket(path, running("listen_unix").loop, backlog)

    def udp(self, local: tuple[str, int] | None, remote: tuple[str, int] | None) -> SystemDatagramSocket:
        here_at = None if local is None else self._one(*local)
        there = None if remote is None else self._one(*remote)
        family = (here_at or there or (socket.AF_INET, None))[0]
        sock = bound_socket(family, here_at and here_at[1], there and there[1])
        return SystemDatagramSocket(sock, running("udp").loop)

    def resolve(self, host: str, port: int) -> list[tuple[int, Any]]:
        return by_name(running("resolve"), host, port)

    def _one(self, host: str, port: int) -> tuple[int, Any]:
        return (by_number(host, port) or self.resolve(host, port))[0]


system = SystemNetwork()


def running(what: str) -> Fiber:
    """The current fiber; RuntimeError if there is none, naming the call."""
    try:
        return here()
    except RuntimeError:
        raise RuntimeError(f"zio.net.{what} needs a running zio task: call it inside zio.run(...)") from None


def network_of(fiber: Fiber) -> Network:
    """The network of the runtime that the fiber belongs to."""
    network: Network = fiber.loop.runtime.network or system
    return network


def entered(what: str) -> Network:
    """The network, after the checkpoint that begins every call that may wait."""
    fiber = running(what)
    loop = fiber.loop
    if loop.budget <= 0:
        loop.checkpoint(fiber)
    else:
        loop.budget -= 1
    return network_of(fiber)
