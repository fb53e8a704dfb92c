"""Network connections in blocking style."""

from __future__ import annotations

import errno
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import TYPE_CHECKING, Any

from .._core import check_seconds
from .._core import timeout as _timeout
from .connecting import ATTEMPT_DELAY, connect_to_any
from .datagrams import Datagram, DatagramSocket, checked_address
from .network import Network, SystemNetwork, entered, network_of, running
from .resolving import EVERYWHERE, by_number, number_of
from .sockets import SocketStream
from .stream import Stream
from .tcp import Listener
from .unix import UnixDatagramSocket, UnixListener, unix_datagram_socket, unix_path

if TYPE_CHECKING:
    import os
    from ssl import SSLContext

    from .tls import TLSStream

    StrPath = str | os.PathLike[str]

__all__ = [
    "Datagram",
    "DatagramSocket",
    "Listener",
    "Network",
    "SocketStream",
    "Stream",
    "SystemNetwork",
    "TLSStream",
    "UnixDatagramSocket",
    "UnixListener",
    "connect",
    "connect_unix",
    "listen",
    "listen_unix",
    "resolve",
    "udp",
    "unix_datagram",
]


def __getattr__(name: str) -> Any:
    if name == "TLSStream":  # only who uses TLS pays for importing ssl
        from .tls import TLSStream

        return TLSStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def connect(
    host: str,
    port: int,
    *,
    tls: SSLContext | bool | None = None,
    timeout: float | None = None,
    attempt_delay: float = ATTEMPT_DELAY,
) -> Stream:
    """Connect to ``host`` and ``port`` by TCP; with ``tls`` shake hands as well.

    A name with several addresses: they are tried in the system's order, families taking turns, each ``attempt_delay``
    seconds after the one before or as soon as that has failed; the first that accepts is it (RFC 8305).

    ``tls``: an ``ssl.SSLContext``, or True for the default one, which trusts the system's authorities and checks
    that the certificate is for ``host``. ``timeout`` in seconds for all of it: TimeoutError. OSError if no
    address accepts, ssl.SSLError if TLS fails. Cancelled or timed out, no socket is left behind. Only inside a
    zio runtime.
    """
    if tls is not None and not isinstance(tls, bool):
        from ssl import SSLContext

        if not isinstance(tls, SSLContext):
            raise TypeError(f"tls must be an ssl.SSLContext or True, not {type(tls).__name__}")
    check_seconds("attempt_delay", attempt_delay)
    if attempt_delay < 0:
        raise ValueError(f"attempt_delay={attempt_delay!r} must be a number of seconds, 0 or more")
    if timeout is None:
        return _connect(host, port, tls, attempt_delay)
    with _timeout(timeout):
        return _connect(host, port, tls, attempt_delay)
    raise AssertionError("unreachable: a timeout raises")


def _connect(host: str, port: int, tls: SSLContext | bool | None, delay: float) -> Stream:
    if tls is True:
        from ssl import create_default_context

        # In a thread, since it reads the system's certificates.
        tls = running("connect").loop.runtime.pool.run(create_default_context, (), abandon=True)
    network = entered("connect")
    found = by_number(host, port) or network.resolve(host, port)
    stream = connect_to_any(network.connect, host, port, found, delay)
    if not tls:
        return stream
    try:
        return stream.start_tls(tls, host)  # type: ignore[arg-type]
    except BaseException:
        stream.close()
        raise


def connect_unix(path: StrPath, *, timeout: float | None = None) -> Stream:
    """Connect to the unix socket at ``path``, waiting while the listener's queue is full.

    A path that begins with a NUL is an abstract name (Linux): no file. ``timeout`` in seconds: TimeoutError. OSError if
    nobody listens there. Cancelled or timed out, no socket is left behind. Only inside a zio runtime.
    """
    text = unix_path(path)
    if timeout is None:
        return entered("connect_unix").connect_unix(text)
    with _timeout(timeout):
        return entered("connect_unix").connect_unix(text)
    raise AssertionError("unreachable: a timeout raises")


def listen(host: str | None, port: int, *, backlog: int = 128, reuse_port: bool = False) -> Any:
    """Listen for TCP connections; port 0 takes a free one, see ``listener.port``.

    ``host`` None, ``""`` or ``"*"``: all interfaces, by IPv4 and, where the system has it, IPv6, at one port. The
    addresses ``"0.0.0.0"`` and ``"::"`` mean what they mean to the system.

    ``backlog``: how many may wait to be accepted. ``reuse_port``: others that say so too, in any process of the same
    user, may listen at the same address; each connection goes to one of them. OSError if the address is not to be had.
    Only inside a zio runtime.
    """
    _check_backlog(backlog)
    return network_of(running("listen")).listen("" if host is None else host, port, backlog, reuse_port)


def _check_backlog(backlog: int) -> None:
    if not isinstance(backlog, int):
        raise TypeError(f"backlog={backlog!r} must be a whole number of connections")
    if backlog < 0:
        raise ValueError(f"backlog={backlog!r} must be 0 or more")


def listen_unix(path: StrPath, *, backlog: int = 128) -> Any:
    """Listen at a unix socket, whose file is made now and removed by ``close``, see ``listener.path``.

    A path that begins with a NUL is an abstract name (Linux): no file. OSError if there is a file at ``path`` already,
    be it a socket that nobody listens on any more. Only inside a zio runtime.
    """
    _check_backlog(backlog)
    return network_of(running("listen_unix")).listen_unix(unix_path(path), backlog)


def udp(host: str | None = None, port: int = 0, *, remote: tuple[str, int] | None = None) -> DatagramSocket:
    """A UDP socket: bound to ``host`` and ``port``, by default a free port of all interfaces.

    ``host`` None, ``""`` or ``"*"``: all interfaces, of IPv4; ``"::"`` means those of IPv6. With ``remote`` it is
    connected: it sends to that address, hears nobody else, and is told by ConnectionRefusedError if nobody listens
    there. OSError if an address is not to be had. Only inside a zio runtime.
    """
    network = entered("udp")
    if host in EVERYWHERE:
        host = None
    if remote is None:
        _, ours = resolve(host or _wildcard(AF_INET), port)[0]
        return network.udp((number_of(ours), port), None)
    remote = checked_address("remote", remote)[:2]
    theirs = resolve(*remote)
    if host is None:
        family, there = theirs[0]
        return network.udp((_wildcard(family), port) if port else None, (number_of(there), remote[1]))
    for family, there in theirs:
        for other, ours in resolve(host, port):
            if family == other or AF_UNSPEC in {family, other}:
                return network.udp((number_of(ours), port), (number_of(there), remote[1]))
    raise OSError(errno.EAFNOSUPPORT, f"{host} and {remote[0]} have no family of addresses in common")


def _wildcard(family: int) -> str:
    return "::" if family == AF_INET6 else "0.0.0.0"


def unix_datagram(path: StrPath | None = None, *, remote: StrPath | None = None) -> UnixDatagramSocket:
    """A unix socket for datagrams, which are not lost and keep their order.

    Bound to ``path`` if there is one, else it has no address and gets no answers; connected to ``remote`` if there is
    one. A path that begins with a NUL is an abstract name (Linux): no file. ``close`` removes the file that it made.
    OSError if there is a file at ``path``, or nobody at ``remote``. It is the machine's own, also where the network is
    a simulated one. Only inside a zio runtime.
    """
    loop = running("unix_datagram").loop
    return unix_datagram_socket(
        None if path is None else unix_path(path), None if remote is None else unix_path(remote), loop
    )


def resolve(host: str, port: int) -> list[tuple[int, Any]]:
    """The addresses of ``host`` as ``(family, address)``, of which the first two items are host and port.

    A name is looked up in a thread (or in the runtime's own network); a number is not. Tasks that ask for the same name
    at the same time share one look-up; cancelled, one leaves it to the others, or drops its result. OSError if there is
    no such name.
    """
    return by_number(host, port) or network_of(running("resolve")).resolve(host, port)
