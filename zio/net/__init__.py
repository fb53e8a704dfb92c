"""Network connections in blocking style."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Protocol

from .._core import here
from .._core import timeout as _timeout
from .sockets import Listener, SocketStream, connect_socket
from .stream import Stream
from .unix import UnixListener, connect_unix_socket, listen_unix_socket, unix_path

if TYPE_CHECKING:
    import os
    from ssl import SSLContext

    from .._core import Fiber
    from .tls import TLSStream

    StrPath = str | os.PathLike[str]

__all__ = [
    "Listener",
    "Network",
    "SocketStream",
    "Stream",
    "TLSStream",
    "UnixListener",
    "connect",
    "connect_unix",
    "listen",
    "listen_unix",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name == "TLSStream":  # only who uses TLS pays for importing ssl
        from .tls import TLSStream

        return TLSStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Network(Protocol):
    """What ``Runtime(network=)`` takes: where connections come from. Tests put a simulated one there."""

    def connect(self, host: str, port: int) -> Stream: ...
    def listen(self, host: str, port: int, backlog: int) -> Any: ...
    def connect_unix(self, path: str) -> Stream: ...
    def listen_unix(self, path: str, backlog: int) -> Any: ...
    def resolve(self, host: str, port: int) -> list[tuple[int, Any]]: ...


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

    def connect_unix(self, path: str) -> Stream:
        return connect_unix_socket(_here("connect_unix"), path)

    def listen_unix(self, path: str, backlog: int) -> UnixListener:
        return listen_unix_socket(path, _here("listen_unix").loop, backlog)

    def resolve(self, host: str, port: int) -> list[tuple[int, Any]]:
        pool = _here("resolve").loop.runtime.pool
        return _addresses(pool.run(socket.getaddrinfo, (host, port, 0, socket.SOCK_STREAM), abandon=True))


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
    return _entered("connect").connect(host, port)


def _entered(what: str) -> Network:
    """The network, after the checkpoint that begins every call that may wait."""
    fiber = _here(what)
    loop = fiber.loop
    if loop.budget <= 0:
        loop.checkpoint(fiber)
    else:
        loop.budget -= 1
    network: Network = loop.runtime.network or _system
    return network


def connect_unix(path: StrPath, *, timeout: float | None = None) -> Stream:
    """Connect to the unix socket at ``path``, waiting while the listener's queue is full.

    ``timeout`` in seconds: TimeoutError. OSError if nobody listens there. Cancelled or timed out, no socket is left
    behind. Only inside a zio runtime.
    """
    text = unix_path(path)
    if timeout is None:
        return _entered("connect_unix").connect_unix(text)
    with _timeout(timeout):
        return _entered("connect_unix").connect_unix(text)
    raise AssertionError("unreachable: a timeout raises")


def listen(host: str, port: int, *, backlog: int = 128) -> Any:
    """Listen for TCP connections; port 0 takes a free one, see ``listener.port``. Only inside a zio runtime."""
    return _network("listen").listen(host, port, backlog)


def listen_unix(path: StrPath, *, backlog: int = 128) -> Any:
    """Listen at a unix socket, whose file is made now and removed by ``close``, see ``listener.path``.

    OSError if there is a file at ``path`` already, be it a socket that nobody listens on any more. Only inside a zio
    runtime.
    """
    return _network("listen_unix").listen_unix(unix_path(path), backlog)


def resolve(host: str, port: int) -> list[tuple[int, Any]]:
    """The addresses of ``host`` as ``(family, address)``, of which the first two items are host and port.

    A name is looked up in a pool thread (or in the runtime's own network); a number is not. OSError if there is no such
    name.
    """
    try:
        return _addresses(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except socket.gaierror:
        pass  # a name
    except UnicodeError as exc:  # a label that is empty or too long
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} cannot be a host name: {exc}") from None
    return _network("resolve").resolve(host, port)


def _addresses(found: list[Any]) -> list[tuple[int, Any]]:
    return [(family, address) for family, _, _, _, address in found]
