"""One connection to one server: opening it, up to the moment when both sides may speak freely."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zio

from . import protocol
from .errors import AuthError, Error, ProtocolError, ServerError, TimeoutError
from .protocol import ErrorKind, ServerInfo

if TYPE_CHECKING:
    from zio.net import SocketStream

    from .message import Message
    from .options import Options
    from .protocol import Event, Parser
    from .servers import Server

READ_SIZE = 32 << 10  # of one recv to begin with

AUTH_KINDS = frozenset(
    {
        ErrorKind.AUTHORIZATION_VIOLATION,
        ErrorKind.AUTHENTICATION_TIMEOUT,
        ErrorKind.USER_AUTHENTICATION_EXPIRED,
        ErrorKind.ACCOUNT_AUTHENTICATION_EXPIRED,
        ErrorKind.USER_AUTHENTICATION_REVOKED,
    }
)


@dataclass(slots=True)
class Connection:
    """A stream whose handshake is done. ``events`` came glued to its end and are still to be handled."""

    stream: SocketStream
    server: Server
    info: ServerInfo
    parser: Parser[Message]
    events: list[Event]


def open_connection(server: Server, options: Options, version: str, new_parser: Any) -> Connection:
    """Connect and shake hands, within ``connect_timeout``.

    OSError, TimeoutError, AuthError, ServerError or ProtocolError; then nothing is left open.
    """
    try:
        with zio.timeout(options.connect_timeout):
            stream = zio.net.connect(server.host, server.port)
            try:
                return _shake_hands(stream, server, options, version, new_parser())  # type: ignore[arg-type]
            except BaseException:
                stream.close()
                raise
    except Error:
        raise
    except builtins.TimeoutError:
        raise TimeoutError(f"{server} did not complete the handshake within {options.connect_timeout} s") from None
    raise AssertionError("unreachable: a timeout raises")


def _shake_hands(
    stream: SocketStream, server: Server, options: Options, version: str, parser: Parser[Message]
) -> Connection:
    info: ServerInfo | None = None
    events: list[Event] = []
    while info is None:
        events = _receive(stream, parser)
        while events and info is None:
            event = events.pop(0)
            if isinstance(event, protocol.Info):
                info = ServerInfo.from_json(event.fields)
            elif isinstance(event, protocol.Err):
                raise server_error(event.text)
            else:
                raise ProtocolError(f"the server began with {event!r} instead of INFO")
    stream.send_all(protocol.encoder.connect(_connect_fields(server, options, info, version)) + protocol.PING)
    while True:
        while events:
            event = events.pop(0)
            if isinstance(event, protocol.Pong):
                return Connection(stream, server, info, parser, events)
            if isinstance(event, protocol.Err):
                raise server_error(event.text)
            if isinstance(event, protocol.Info):
                info = info.merged(event.fields)
            elif isinstance(event, protocol.Ping):
                stream.send_all(protocol.PONG)
        events = _receive(stream, parser)


def _receive(stream: SocketStream, parser: Parser[Message]) -> list[Event]:
    data = stream.recv(READ_SIZE)
    if not data:
        raise ConnectionResetError("the server closed the connection during the handshake")
    messages, events = parser.feed(data)
    if messages:
        raise ProtocolError("the server sent a message during the handshake")
    return events


def _connect_fields(server: Server, options: Options, info: ServerInfo, version: str) -> dict[str, Any]:
    user, password, token = server.user, server.password, server.token
    if user is None and token is None:
        user, password, token = options.user, options.password, options.token
    return {
        "verbose": options.verbose,
        "pedantic": options.pedantic,
        "echo": not options.no_echo,
        "tls_required": False,
        "lang": "python-zio",
        "version": version,
        "protocol": 1,
        "headers": info.headers,
        "no_responders": info.headers,
        "name": options.name,
        "user": user,
        "pass": password,
        "auth_token": token,
    }


def server_error(text: str) -> ServerError:
    """The exception for a -ERR."""
    info = protocol.classify(text)
    return AuthError(info.text) if info.kind in AUTH_KINDS else ServerError(info.text)
