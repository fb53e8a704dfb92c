"""An HTTP/1.1 server in blocking style, on h11: keep-alive, pipelining, chunked bodies, limits, an orderly end.

python examples/runtime/http_server.py [PORT]        until Control-C or SIGTERM            (pip install h11)

h11 knows the protocol and does no I/O; everything that waits is here, one task for each connection.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

import h11

import zio
from zio.net import Listener, Stream

logger = logging.getLogger("http")


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Response:
    """A body of bytes is sent with its length; any other iterable of bytes piece by piece, as it comes."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The request is answered with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).phrase)
        self.status = status


class HTTPServer:
    """Sizes in bytes, times in seconds."""

    def __init__(
        self,
        handler: Callable[[Request], Response],
        *,
        header_limit: int = 16_384,
        body_limit: int = 1 << 20,
        idle_timeout: float = 30,
        receive_timeout: float = 10,
        send_timeout: float = 10,
        max_connections: int = 10_000,
    ) -> None:
        self.handler = handler
        self.header_limit = header_limit
        self.body_limit = body_limit
        self.idle_timeout = idle_timeout
        self.receive_timeout = receive_timeout
        self.send_timeout = send_timeout
        self.max_connections = max_connections
        self.stopping = False
        self.idle: set[zio.CancelScope] = set()
        self.listener: Listener | None = None

    def serve(self, listener: Listener) -> None:
        """Serve until ``stop``; returns when the last answer has been sent."""
        self.listener = listener
        listener.serve(lambda stream: Connection(self, stream).run(), limit=self.max_connections)

    def stop(self) -> None:
        """Nobody comes in any more, idle connections are closed, requests that are here get their answers."""
        self.stopping = True
        if self.listener is not None:
            self.listener.close()
        for scope in self.idle:
            scope.cancel()


class Connection:
    """One client, and its requests one after the other: h11 holds those that were sent ahead until their turn."""

    def __init__(self, server: HTTPServer, stream: Stream) -> None:
        self.server = server
        self.stream = stream
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=server.header_limit)

    def run(self) -> None:
        try:
            while (request := self.next_request()) is not None:
                self.answer(request)
                if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
                    break  # one of the two wants no more
                self.http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            self.refuse(error.error_status_hint)
        except Refused as error:
            self.refuse(error.status)
        except TimeoutError:
            self.refuse(408)
        except OSError:
            pass  # the client is gone

    # Receiving.

    def next_request(self) -> Request | None:
        """The next request with its body; None if there is none, or none is wanted any more."""
        event = self.http.next_event()
        if event is h11.NEED_DATA and (self.server.stopping or not self.wait_for_client()):
            return None
        with zio.timeout(self.server.receive_timeout):
            if not isinstance(event, h11.Request):
                event = self.next_event()
            if not isinstance(event, h11.Request):
                return None  # ConnectionClosed
            # h11 limits what is incomplete; headers that came in one piece are measured here.
            size = len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
            if size > self.server.header_limit:
                raise Refused(431)
            body = b"".join(self.body_pieces())
            headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
            return Request(event.method.decode("ascii"), event.target.decode("ascii"), headers, body)
        raise AssertionError("unreachable: a timeout raises")

    def wait_for_client(self) -> bool:
        """Wait for the first bytes of a request. False if the client is silent for too long, or the server stops."""
        with zio.move_on_after(self.server.idle_timeout) as scope:
            self.server.idle.add(scope)
            try:
                data = self.stream.recv(65536)
            finally:
                self.server.idle.discard(scope)
            self.http.receive_data(data)
            return True
        return False

    def body_pieces(self) -> Iterator[bytes]:
        size = 0
        while True:
            if self.http.they_are_waiting_for_100_continue:
                self.send(h11.InformationalResponse(status_code=100, headers=[]))
            event = self.next_event()
            if not isinstance(event, h11.Data):
                return  # EndOfMessage
            size += len(event.data)
            if size > self.server.body_limit:
                raise Refused(413)
            yield bytes(event.data)

    def next_event(self) -> h11.Event:
        while True:
            event = self.http.next_event()
            if isinstance(event, h11.Event):  # it is never PAUSED: the message before was finished
                return event
            self.http.receive_data(self.stream.recv(65536))

    # Sending.

    def answer(self, request: Request) -> None:
        try:
            response = self.server.handler(request)
        except Refused as error:
            response = Response(error.status, f"{error}\n".encode())
        except Exception:
            logger.exception("%s %s", request.method, request.target)
            response = Response(500, b"internal error\n")
        headers = [("date", formatdate(usegmt=True)), *response.headers.items()]
        if self.server.stopping:
            headers.append(("connection", "close"))
        bodyless = request.method == "HEAD" or response.status in (204, 304)
        if isinstance(response.body, bytes):
            if response.status not in (204, 304):
                headers.append(("content-length", str(len(response.body))))
            head = self.head(response.status, headers)
            pieces = [] if bodyless else [h11.Data(data=response.body)]
            self.send(head, *pieces, h11.EndOfMessage())
        else:
            self.send(self.head(response.status, headers))
            if not bodyless:
                for piece in response.body:
                    self.send(h11.Data(data=piece))
            self.send(h11.EndOfMessage())

    @staticmethod
    def head(status: int, headers: list[tuple[str, str]]) -> h11.Response:
        reason = HTTPStatus(status).phrase.encode() if status in set(HTTPStatus) else b""
        return h11.Response(status_code=status, headers=headers, reason=reason)

    def send(self, *events: h11.Event) -> None:
        """Send in one write. TimeoutError if the client does not take it in time."""
        with zio.timeout(self.server.send_timeout):
            self.stream.send_all(b"".join(self.http.send(event) or b"" for event in events))

    def refuse(self, status: int) -> None:
        """The last answer, if one can be given still, and the end."""
        if self.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = f"{status} {HTTPStatus(status).phrase}\n".encode()
        headers = [("content-length", str(len(body))), ("connection", "close")]
        try:
            self.send(self.head(status, headers), h11.Data(data=body), h11.EndOfMessage())
            # Closing with bytes unread would reset the connection, and the answer could be lost with it.
            self.stream.shutdown_write()
            with zio.move_on_after(1):
                for _ in range(100):
                    if not self.stream.recv(65536):
                        break
        except (OSError, TimeoutError):
            pass  # the client is gone


# What this server answers.


def handle(request: Request) -> Response:
    path, _, query = request.target.partition("?")
    if path == "/":
        return Response(body=b"hello\n", headers={"content-type": "text/plain"})
    if path == "/echo" and request.method == "POST":
        return Response(body=request.body)
    if path == "/headers":
        return Response(body=json.dumps(request.headers).encode(), headers={"content-type": "application/json"})
    if path == "/count":
        return Response(body=count(min(number_of(query), 1000)))
    if path == "/slow":
        zio.sleep(min(number_of(query), 60))
        return Response(body=b"at last\n")
    return Response(404, b"not found\n")


def number_of(query: str) -> int:
    if not (query.isascii() and query.isdigit()):
        raise Refused(400)
    return int(query)


def count(last: int) -> Iterator[bytes]:
    for number in range(1, last + 1):
        yield b"%d\n" % number
        zio.sleep(0.01)


def main(port: int) -> None:
    server = HTTPServer(handle)
    with zio.signals(signal.SIGTERM, signal.SIGINT) as stop, zio.TaskGroup() as group:
        listener = zio.net.listen("127.0.0.1", port, backlog=1024)
        serving = group.spawn(server.serve, listener)
        print(f"http://127.0.0.1:{listener.port}", flush=True)
        stop.wait()
        server.stop()
        with zio.move_on_after(10):
            serving.join()
        group.cancel()
    print("stopped", flush=True)


if __name__ == "__main__":
    zio.run(main, int(sys.argv[1]) if sys.argv[1:] else 8080)
