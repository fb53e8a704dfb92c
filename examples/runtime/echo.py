"""TCP echo: a server that answers every connection in a task of its own, and clients that check what comes back.

python examples/runtime/echo.py                   server and clients in one program
python examples/runtime/echo.py serve PORT        the server alone, until Control-C
"""

from __future__ import annotations

import os
import signal
import sys

import zio
from zio.net import Stream

CLIENTS = 100
ROUNDS = 20


def echo(stream: Stream) -> None:
    while data := stream.recv(65536):
        stream.send_all(data)


def client(port: int) -> int:
    """Send and receive; how many bytes came back."""
    total = 0
    with zio.net.connect("127.0.0.1", port, timeout=5) as stream:
        for _ in range(ROUNDS):
            data = os.urandom(1000)
            stream.send_all(data)
            if stream.recv_exactly(len(data)) != data:
                raise AssertionError("an echo differs from what was sent")
            total += len(data)
        stream.shutdown_write()  # our end: the server leaves its loop, and ends its side too
        assert stream.recv(1) == b""
    return total


def demo() -> None:
    with zio.net.listen("127.0.0.1", 0) as listener, zio.TaskGroup() as group:
        group.spawn(listener.serve, echo)
        totals = zio.map(client, [listener.port] * CLIENTS, limit=25)
        print(f"{CLIENTS} clients, {sum(totals):,} bytes echoed")
        listener.close()  # serve returns when its handlers have ended, and so does the group


def serve(port: int) -> None:
    with zio.signals(signal.SIGINT, signal.SIGTERM) as stop, zio.net.listen("127.0.0.1", port) as listener:
        print(f"echo at 127.0.0.1:{listener.port}", flush=True)
        serving = zio.spawn(lambda: listener.serve(echo, limit=10_000))
        zio.select(serving, stop)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        zio.run(serve, int(sys.argv[2]))
    else:
        zio.run(demo)
