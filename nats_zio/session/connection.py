"""One connection to one server: opening it, up to the moment when both sides may speak freely."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zio

from .. import protocol
from ..auth import connect_fields
from ..errors import AuthError, Error, ProtocolError, ServerError, TimeoutError, TLSRequiredError
from ..protocol import ErrorKind, ServerInfo
from ..tls import TLS, secure, tls_wanted
from ..transport import dial

if TYPE_CHECKING:
    from zio.net import Stream

    from ..message import Message
    from ..options import Options
    from ..protocol import Event, Parser
    from ..servers import Server
    from ..transport.websocket import WebSocketStream
    from ..user_functions import UserFunctions

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

    stream: Stream
    server: Server
    info: ServerInfo
    parser: Parser[Message]
    events: list[Event]
    encrypted: bool
    websocket: WebSocketStream | None


def open_connection(
    server: Server, options: Options, new_parser: Any, user_functions: UserFunctions, *, encrypted: bool
) -> Connection:
    """Connect and shake hands, within ``connect_timeout``.

    ``encrypted``: with TLS and not without, also where the user did not ask for it. OSError (TLS: ssl.SSLError;
    WebSocketError, ProxyError), TimeoutError, AuthError, TLSRequiredError, ServerError or ProtocolError; then nothing
    is left open.
    """
    try:
        with zio.timeout(options.connect_timeout):
            parser = new_parser()
            stream = dial(server, options, user_functions)
            try:
                tls = tls_wanted(server, options) or (TLS() if encrypted else None)
                first = tls is not None and (tls.handshake_first or server.websocket)
                if tls is not None and first:
                    stream = secure(stream, server, tls)
                websocket = None
                if server.websocket:
                    stream = websocket = _open_websocket(stream, server, options, user_functions, encrypted=first)
                info, events, alone = _receive_info(stream, parser, trusted=first or tls is None)
                upgrade = not (first or server.websocket) and (tls is not None or info.tls_required)
                _raise_refusal(events, trusted=not upgrade)
                if websocket is not None:
                    websocket.fit(info.max_payload)
                if upgrade:
                    _check_before_tls(server, info, alone)
                    stream = secure(stream, server, tls or TLS())
                    first = True
                fields = _connect_fields(options, info, first)
                fields |= connect_fields(server, options, info, user_functions)
                return _introduce(stream, server, fields, parser, info, events, first, websocket)
            except BaseException:
                stream.close()
                raise
    except Error:
        raise
    except builtins.TimeoutError:
        raise TimeoutError(f"{server} did not complete the handshake within {options.connect_timeout} s") from None
    raise AssertionError("unreachable: a timeout raises")


def _open_websocket(
    stream: Stream, server: Server, options: Options, user_functions: UserFunctions, *, encrypted: bool
) -> WebSocketStream:
    from ..transport.upgrade import upgrade  # needs the package of an extra

    return upgrade(stream, server, options, user_functions, encrypted=encrypted)


def _receive_info(stream: Stream, parser: Parser[Message], *, trusted: bool) -> tuple[ServerInfo, list[Event], bool]:
    """INFO, what came with it, and whether that was nothing at all."""
    while True:
        data = _read(stream)
        _messages, events = parser.feed(data)
        if parser.messages:
            raise ProtocolError("the server began with a message instead of INFO")
        if events:
            event = events.pop(0)
            if isinstance(event, protocol.Info):
                return ServerInfo.from_json(event.fields), events, data.find(b"\n") == len(data) - 1
            if isinstance(event, protocol.Err):
                raise server_error(event.text, trusted=trusted)
            raise ProtocolError(f"the server began with {event!r} instead of INFO")


def _check_before_tls(server: Server, info: ServerInfo, alone: bool) -> None:
    if not (info.tls_required or info.tls_available):
        raise TLSRequiredError(f"{server} does not offer TLS, which was asked for; nothing was sent to it")
    if not alone:
        raise ProtocolError("more than INFO came in clear before TLS: refused, since anyone may have put it there")


def _introduce(
    stream: Stream,
    server: Server,
    fields: dict[str, Any],
    parser: Parser[Message],
    info: ServerInfo,
    events: list[Event],
    encrypted: bool,
    websocket: WebSocketStream | None,
) -> Connection:
    """CONNECT, up to the PONG that says we are taken.

    An error with which the server says that it will not take us is raised at once; any other one (a text not known
    here, say) only if the stream ends behind it. If it does not, the session tells of it.
    """
    stream.send_all(protocol.encoder.connect(fields) + protocol.PING)
    told: list[protocol.Err] = []
    while True:
        while events:
            event = events.pop(0)
            if isinstance(event, protocol.Pong):
                return Connection(stream, server, info, parser, [*told, *events], encrypted, websocket)
            if isinstance(event, protocol.Err):
                _raise_refusal([event])
                told.append(event)
            elif isinstance(event, protocol.Info):
                info = info.merged(event.fields)
            elif isinstance(event, protocol.Ping):
                stream.send_all(protocol.PONG)
        try:
            events = _receive(stream, parser)
        except OSError as exc:
            if told:
                raise server_error(told[-1].text) from exc
            raise


def _receive(stream: Stream, parser: Parser[Message]) -> list[Event]:
    # Messages are dropped: nothing is subscribed on this connection yet, so nobody has asked for them.
    return parser.feed(_read(stream))[1]


def _read(stream: Stream) -> bytes:
    data = stream.recv(READ_SIZE)
    if not data:
        raise ConnectionResetError("the server closed the connection during the handshake")
    return data


def _connect_fields(options: Options, info: ServerInfo, encrypted: bool) -> dict[str, Any]:
    from .. import __version__

    return {
        "verbose": options.verbose,
        "pedantic": options.pedantic,
        "echo": not options.no_echo,
        "tls_required": encrypted,
        "lang": "python-zio",
        "version": __version__,
        "protocol": 1,
        "headers": info.headers,
        "no_responders": info.headers,
        "name": options.name,
    }


def _raise_refusal(events: list[Event], *, trusted: bool = True) -> None:
    """Raise the first error with which the server says that it does not take us."""
    for event in events:
        if isinstance(event, protocol.Err):
            info = protocol.classify(event.text)
            if info.closes or info.kind in AUTH_KINDS:
                raise server_error(event.text, trusted=trusted)


def server_error(text: str, *, trusted: bool = True) -> ServerError:
    """The exception for a -ERR.

    One that came in clear where TLS is to come may be anybody's: it must not pass for a refusal of our credentials,
    which twice in a row would end the attempts.
    """
    info = protocol.classify(text)
    if not trusted:
        return ServerError(f"{info.text} (said in clear, before TLS)")
    return AuthError(info.text) if info.kind in AUTH_KINDS else ServerError(info.text)
