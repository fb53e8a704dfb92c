"""The server's side of a WebSocket. Needs the extra ``nats-zio[ws]``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request
from wsproto.extensions import PerMessageDeflate

from ...transport.websocket import WebSocketStream

if TYPE_CHECKING:
    from zio.net import Stream


def accept_websocket(stream: Stream) -> WebSocketStream:
    """Wait for the client's request and accept it, with compression if it offers that."""
    engine = WSConnection(ConnectionType.SERVER)
    while True:
        data = stream.recv(65536)
        if not data:
            raise ConnectionResetError("the client has gone before its request was complete")
        engine.receive_data(data)
        if isinstance(next(engine.events(), None), Request):
            accepted = AcceptConnection(extensions=[PerMessageDeflate()])
            stream.send_all(engine.send(accepted))
            return WebSocketStream(stream, engine, accepted)
