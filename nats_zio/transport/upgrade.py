"""From HTTP to WebSocket: the request that opens one, and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.utilities import ProtocolError

from ..errors import WebSocketError
from .deflate import Deflate
from .http import host_header, status_text
from .websocket import WebSocketStream
from .ws_headers import ask_ws_headers

if TYPE_CHECKING:
    from zio.net import Stream

    from ..options import Options
    from ..servers import Server
    from ..user_functions import UserFunctions

READ_SIZE = 4096
_HTTP = b"HTTP/1."


def upgrade(
    stream: Stream, server: Server, options: Options, user_functions: UserFunctions, *, encrypted: bool
) -> WebSocketStream:
    """Open a WebSocket on ``stream``, which is of no use alone any more.

    WebSocketError if the server does not open one; OSError. What comes glued to its answer is not lost.
    """
    headers = ask_ws_headers(options.ws_headers, user_functions)
    engine = WSConnection(ConnectionType.CLIENT)
    deflate = [Deflate()] if options.ws_compression else []
    request = Request(
        host=host_header(server.host, server.port, 443 if encrypted else 80),
        target=server.target or "/",
        extensions=list(deflate),
        extra_headers=headers,
    )
    stream.send_all(engine.send(request))
    begin = b""
    while True:
        data = stream.recv(READ_SIZE)
        if not data:
            raise WebSocketError(f"{server} closed the connection instead of opening a WebSocket")
        begin = (begin + data)[: len(_HTTP)]
        if not _HTTP.startswith(begin):  # the library would wait for the end of what is no HTTP
            raise WebSocketError(f"{server} does not speak HTTP at that port, and so no WebSocket")
        answer = _answer(engine, data, server)
        if answer is not None:
            return WebSocketStream(stream, engine, answer)


def _answer(engine: WSConnection, data: bytes, server: Server) -> AcceptConnection | None:
    """The acceptance, None as long as the answer is not complete. What came glued to it is still in the engine."""
    problem = ""
    try:
        engine.receive_data(data)
        event = next(engine.events(), None)
    except (ProtocolError, ValueError, IndexError) as exc:  # of parameters that make no sense, the plain ones
        problem = str(exc) if isinstance(exc, ProtocolError) else "parameters that make no sense"
    if problem:  # outside of the except clause: our own headers may hang on what the library raises
        raise WebSocketError(f"{server} did not answer as a WebSocket server does: {problem}")
    if isinstance(event, RejectConnection):
        raise WebSocketError(f"{server} opens no WebSocket: {status_text(event.status_code)}", event.status_code)
    assert event is None or isinstance(event, AcceptConnection)
    return event
