"""The server's side of a WebSocket, to be scripted: what it sends, frame by frame, and what it has received."""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Pong, Request
from wsproto.extensions import Extension, PerMessageDeflate

import nats_zio
import zio
from nats_zio.options import Options
from nats_zio.servers import parse_server
from nats_zio.testing import NatsServer, free_port
from nats_zio.transport.upgrade import upgrade
from nats_zio.transport.websocket import WebSocketStream
from nats_zio.user_functions import UserFunctions
from zio.net import Stream
from zio.testing import SimNetwork, memory_stream_pair, run_virtual

T = TypeVar("T")

BINARY, CONTINUATION, TEXT, CLOSE, PING, PONG = 2, 0, 1, 8, 9, 10


def frame(
    payload: bytes = b"", opcode: int = BINARY, *, fin: bool = True, rsv1: bool = False, masked: bool = False
) -> bytes:
    """A frame, made by hand."""
    first = opcode | fin << 7 | rsv1 << 6
    size, mask = len(payload), masked << 7
    if size < 126:
        head = struct.pack("!BB", first, mask | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + (bytes(4) if masked else b"") + payload


class WebSocketPeer:
    """The server's end of a WebSocket on a stream. The client's bytes since its request are kept in `raw` as well."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.engine = WSConnection(ConnectionType.SERVER)
        self.request: Request
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.close: CloseConnection | None = None  # the close frame that the client has sent
        self.messages: list[int] = []  # the sizes of those that have come
        self.raw = bytearray()
        self._data = bytearray()

    def read_request(self) -> Request:
        """Wait for the HTTP request."""
        while True:
            data = self.stream.recv(65536)
            if not data:
                raise ConnectionResetError("the client has gone without asking")
            self.engine.receive_data(data)
            for event in self.engine.events():
                assert isinstance(event, Request)
                self.request = event
                return event

    def accepted(self, *extensions: Extension) -> bytes:
        """The answer that accepts it."""
        return self.engine.send(AcceptConnection(extensions=list(extensions)))

    def accept(self, *extensions: Extension) -> None:
        """Read the request and accept it."""
        self.read_request()
        self.stream.send_all(self.accepted(*extensions))

    def send(self, data: bytes) -> None:
        """A binary message."""
        self.stream.send_all(self.engine.send(BytesMessage(data=data)))

    def recv(self) -> bytes:
        """Data, b"" at the end of the WebSocket or of the stream. Pings and pongs are noted."""
        while not self._data and self.close is None:
            data = self.stream.recv(65536)
            if not data:
                return b""
            self.raw += data
            self.engine.receive_data(data)
            for event in self.engine.events():
                self._note(event)
        data, self._data = bytes(self._data), bytearray()
        return data

    def recv_exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            more = self.recv()
            assert more, f"the end after {len(data)} of {count} bytes"
            data += more
        self._data[:0] = data[count:]
        return bytes(data[:count])

    def recv_all(self) -> bytes:
        """Everything up to the end."""
        return b"".join(iter(self.recv, b""))

    def _note(self, event: Event) -> None:
        if isinstance(event, BytesMessage):
            self._data += event.data
            if event.message_finished:
                self.messages.append(len(event.data))
        elif isinstance(event, Ping):
            self.pings.append(bytes(event.payload))
        elif isinstance(event, Pong):
            self.pongs.append(bytes(event.payload))
        elif isinstance(event, CloseConnection):
            self.close = event

    def echo(self) -> None:
        """Send back what comes, until its end."""
        with contextlib.suppress(OSError):
            while data := self.recv():
                self.send(data)
        self.stream.close()


def client_end(stream: Stream, url: str = "ws://host", **values: Any) -> WebSocketStream:
    """Open a WebSocket on a stream."""
    functions = UserFunctions(zio.lowlevel.here().loop.runtime, in_threads=False)
    return upgrade(stream, parse_server(url), Options(**values), functions, encrypted=url.startswith("wss"))


def websocket_pair(
    limit: int = 65536, extensions: tuple[Extension, ...] = (), **values: Any
) -> tuple[WebSocketStream, WebSocketPeer]:
    """A WebSocket over memory that holds `limit` bytes each way; `values` are options of the client."""
    ours, theirs = memory_stream_pair(limit)
    peer = WebSocketPeer(theirs)
    accepting = zio.spawn(peer.accept, *extensions)
    stream = client_end(ours, **values)
    accepting.join()
    return stream, peer


@contextlib.contextmanager
def websocket_server(*settings: str, config: str = "", tls: str = "no_tls: true") -> Iterator[tuple[NatsServer, str]]:
    """A real server that speaks WebSocket too, and the URL of that."""
    port = free_port("127.0.0.1")
    listener = ", ".join(("host: 127.0.0.1", f"port: {port}", tls, *settings))
    with NatsServer(config=f"websocket {{ {listener} }}\n{config}") as server:
        yield server, f"{'ws' if 'no_tls' in tls else 'wss'}://127.0.0.1:{port}"


# In memory.


def in_time(fn: Callable[[], T]) -> T:
    """Run ``fn``, whose lost wake-ups end in a TimeoutError."""

    def limited() -> T:
        with zio.timeout(30):
            return fn()
        raise AssertionError

    return zio.run(limited)


def everything(stream: WebSocketStream) -> bytes:
    return b"".join(iter(lambda: stream.recv(65536), b""))


def deflated(data: bytes) -> bytes:
    """As it travels in a compressed message."""
    engine = zlib.compressobj(wbits=-15)
    return (engine.compress(data) + engine.flush(zlib.Z_SYNC_FLUSH))[:-4]


COMPRESSED: dict[str, Any] = {"ws_compression": True}


def compressing_pair(limit: int = 65536) -> tuple[WebSocketStream, WebSocketPeer]:
    return websocket_pair(limit, (PerMessageDeflate(),), **COMPRESSED)


# A client, and a server in a simulated network.


def works(nc: nats_zio.Client, subject: str, data: bytes = b"there and back") -> None:
    with nc.subscribe(subject) as sub:
        nc.publish(subject, data)
        assert sub.next().data == data


def failure(url: str, **options: Any) -> BaseException:
    """Why no connection to the only server comes about."""
    with pytest.raises(nats_zio.NoServersError) as caught:
        nats_zio.connect(url, **options)
    (error,) = caught.value.errors.values()
    return error


class ScriptedWebSocket:
    """Serves WebSockets in a simulated network, and NATS in them: INFO, and a PONG for each PING."""

    def __init__(self, host: str, port: int = 80, **info: Any) -> None:
        self.listener = zio.net.listen(host, port)
        self.info = {"max_payload": 1 << 20, "headers": True, **info}
        self.peers: list[WebSocketPeer] = []
        self.answer: Callable[[WebSocketPeer], object] = lambda peer: peer.accept()
        zio.spawn(self._accept)

    def _accept(self) -> None:
        for stream in self.listener:
            zio.spawn(self._serve, WebSocketPeer(stream))

    def _serve(self, peer: WebSocketPeer) -> None:
        with contextlib.suppress(OSError, zio.Closed), peer.stream:
            self.peers.append(peer)
            self.answer(peer)
            peer.send(b"INFO " + json.dumps(self.info).encode() + b"\r\n")
            while data := peer.recv():
                for _ in range(data.count(b"PING\r\n")):
                    peer.send(b"PONG\r\n")

    def close(self) -> None:
        self.listener.close()
        for peer in self.peers:
            peer.stream.close()


@contextlib.contextmanager
def serving(host: str = "server", port: int = 80, **info: Any) -> Iterator[ScriptedWebSocket]:
    server = ScriptedWebSocket(host, port, **info)
    yield server
    server.close()


def simulated(test: Callable[..., Any], network: SimNetwork | None = None) -> Any:
    """Run `test(server)` with a scripted server at ws://server."""

    def main() -> Any:
        with serving() as server:
            return test(server)

    return run_virtual(main, network=network or SimNetwork(1), seed=1)
