"""An HTTP/1.1 client in blocking style, on h11: one connection for many requests, chunked bodies, limits, timeouts.

python examples/runtime/http_client.py [http://HOST:PORT/PATH]        without: a server of our own    (pip install h11)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import h11
from http_server import HTTPServer, handle

import zio
from zio.net import Stream

HEADER_LIMIT = 65_536


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class HTTPClient:
    """Requests to one server, one after the other, over a connection that is kept while both sides like to."""

    def __init__(self, host: str, port: int = 80, *, timeout: float = 10, body_limit: int = 16 << 20) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        self.body_limit = body_limit
        self.stream: Stream | None = None
        self.http = h11.Connection(h11.CLIENT)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request and read the whole answer. TimeoutError, OSError, h11.RemoteProtocolError, ValueError if it is
        too long; whatever is raised, the next request begins with a new connection."""
        with zio.timeout(self.timeout):
            # The server may have closed a kept connection just now. What may be repeated is repeated once.
            repeatable = self.stream is not None and method in ("GET", "HEAD") and not body
            try:
                return self._request(method, path, body, headers or {})
            except (OSError, EOFError):
                if not repeatable:
                    raise
            return self._request(method, path, body, headers or {})
        raise AssertionError("unreachable: a timeout raises")

    def _request(self, method: str, path: str, body: bytes | Iterable[bytes], headers: dict[str, str]) -> Answer:
        try:
            answer = self._exchange(self._connected(), method, path, body, headers)
        except BaseException:
            self.close()
            raise
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
        else:
            self.close()
        return answer

    def _connected(self) -> Stream:
        if self.stream is None:
            self.stream = zio.net.connect(self.host, self.port)
            self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_LIMIT)
        return self.stream

    def _exchange(
        self, stream: Stream, method: str, path: str, body: bytes | Iterable[bytes], headers: dict[str, str]
    ) -> Answer:
        length = {"content-length": str(len(body))} if isinstance(body, bytes) else {"transfer-encoding": "chunked"}
        all_headers = {"host": f"{self.host}:{self.port}", **length, **headers}
        events: list[h11.Event] = [h11.Request(method=method, target=path, headers=list(all_headers.items()))]
        if isinstance(body, bytes):
            events.append(h11.Data(data=body))
        self._send(stream, *events)
        if not isinstance(body, bytes):
            for piece in body:
                self._send(stream, h11.Data(data=piece))
        self._send(stream, h11.EndOfMessage())

        found: h11.Response | None = None
        parts, size = [], 0
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                data = stream.recv(65536)
                if not data and found is None:
                    raise EOFError("the server closed the connection without an answer")
                self.http.receive_data(data)
            elif isinstance(event, h11.Response):
                found = event
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > self.body_limit:
                    raise ValueError(f"the answer has more than {self.body_limit} bytes")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
        assert found is not None
        names = {name.decode("ascii"): value.decode("latin-1") for name, value in found.headers}
        return Answer(found.status_code, names, b"".join(parts))

    def _send(self, stream: Stream, *events: h11.Event) -> None:
        data = b"".join(self.http.send(event) or b"" for event in events)
        if data:
            stream.send_all(data)

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def demo() -> None:
    server = HTTPServer(handle)
    with zio.net.listen("127.0.0.1", 0) as listener, zio.TaskGroup() as group:
        serving = group.spawn(server.serve, listener)
        with HTTPClient("127.0.0.1", listener.port) as client:
            print(client.request("GET", "/").body)
            head = client.request("HEAD", "/")
            print(head.status, head.headers["content-length"], head.body)
            print(client.request("POST", "/echo", [b"in ", b"three ", b"pieces"]).body)
            print(client.request("GET", "/count?4").body)
            print(client.request("GET", "/nowhere").status)
        server.stop()
        serving.join()


def fetch(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(f"{url!r} is no URL of http://")
    with HTTPClient(parts.hostname, parts.port or 80) as client:
        answer = client.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        print(answer.status, answer.headers)
        sys.stdout.write(answer.body.decode("utf-8", "replace"))


if __name__ == "__main__":
    if sys.argv[1:]:
        zio.run(fetch, sys.argv[1])
    else:
        zio.run(demo)
