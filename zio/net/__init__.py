"""Network connections in blocking style."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Protocol

from .._core import here
from .._core import timeout as _timeout
from .sockets import Listener, SocketStream, connect_socket
from .stream import Stream

if TYPE_CHECKING:
    from ssl import SSLContext

    from .._core import Fiber
    from .tls import TLSStream

__all__ = ["Listener", "Network", "SocketStream", "Stream", "TLSStream", "connect", "listen", "resolve"]


def __getattr__(name: str) -> Any:
    if name == "TLSStream":  # only who uses TLS pays for importing ssl
        from .tls import TLSStream

        return TLSStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Network(Protocol):
    """What ``Runtime(network=)`` takes: where connections come from. Tests put a simulated one there."""

    def connect(self, host: str, port: int) -> Stream: ...
    def listen(self, host: str, port: int, backlog: int) -> Any: ...


class SystemNetwork:
    """The machine's own network."""

    def connect(self, host: str, port: int) -> Stream:
        fiber = _here("connect")
        errors: list[OSError] = []
        for family, address in resolve(host, port):
            try:
                return connect_socket(fiber, family, address)
            except OSError as exc:
                errors.append(exc)
        if len(errors) == 1:
            raise errors[0]
        raise OSError(f"cannot connect to {host}:{port}: " + "; ".join(map(str, errors)))

    def listen(self, host: str, port: int, backlog: int) -> Listener:
        fiber = _here("listen")
        family, address = resolve(host, port)[0]
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(backlog)
            return Listener(sock, fiber.loop)
        except BaseException:
            sock.close()
            raise


_system = SystemNetwork()


def _here(what: str) -> Fiber:
    try:
        return here()
    except RuntimeError:
        raise RuntimeError(f"zio.net.{what} needs a running zio task: call it inside zio.run(...)") from None


def _network(what: str) -> Network:
    network: Network = _here(what).loop.runtime.network or _system
    return network


def connect(host: str, port: int, *, tls: SSLContext | bool | None = None, timeout: float | None = None) -> Stream:
    """Connect to ``host`` and ``port`` by TCP, trying its addresses in turn; with ``tls`` shake hands as well.

    ``tls``: an ``ssl.SSLContext``, or True for the default one, which trusts the system's authorities and checks
    that the certificate is for ``host``. ``timeout`` in seconds for all of it: TimeoutError. OSError if no
    address accepts, ssl.SSLError if TLS fails. Cancelled or timed out, no socket is left behind. Only inside a
    zio runtime.
    """
    if tls is not None and not isinstance(tls, bool):
        from ssl import SSLContext

        if not isinstance(tls, SSLContext):
            raise TypeError(f"tls must be an ssl.SSLContext or True, not {type(tls).__name__}")
    if timeout is None:
        return _connect(host, port, tls)
    with _timeout(timeout):
        return _connect(host, port, tls)
    raise AssertionError("unreachable: a timeout raises")


def _connect(host: str, port: int, tls: SSLContext | bool | None) -> Stream:
    if tls is True:
        from ssl import create_default_context

        # In a thread, since it reads the system's certificates.
        tls = _here("connect").loop.runtime.pool.run(create_default_context, (), abandon=True)
    stream = _connect_plain(host, port)
    if not tls:
        return stream
    try:
        return stream.start_tls(tls, host)  # type: ignore[arg-type]
    except BaseException:
        stream.close()
        raise


def _connect_plain(host: str, port: int) -> Stream:
    fiber = _here("connect")
    loop = fiber.loop
    if loop.budget <= 0:
        loop.checkpoint(fiber)
    else:
        loop.budget -= 1
    network: Network = loop.runtime.network or _system
    return network.connect(host, port)


def listen(host: str, port: int, *, backlog: int = 128) -> Any:
    """Listen for TCP connections; port 0 takes a free one, see ``listener.port``. Only inside a zio runtime."""
    return _network("listen").listen(host, port, backlog)


def resolve(host: str, port: int) -> list[tuple[int, Any]]:
    """The addresses of ``host`` as ``(family, address)``. A name is looked up in a pool thread; a number is not.

    OSError if there is no such name.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pool = _here("resolve").loop.runtime.pool
        found = pool.run(socket.getaddrinfo, (host, port, 0, socket.SOCK_STREAM), abandon=True)
    except UnicodeError as exc:  # a label that is empty or too long
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} cannot be a host name: {exc}") from None
    return [(family, address) for family, _, _, _, address in found]
