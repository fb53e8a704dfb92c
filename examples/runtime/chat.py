"""A chat: what one writes, all others read. A reader that is too slow misses lines, is told so, and holds up nobody.

python examples/runtime/chat.py                   a room and three guests in one program
python examples/runtime/chat.py serve PORT        a room for `nc 127.0.0.1 PORT`, until Control-C
"""

from __future__ import annotations

import signal
import sys
from typing import NamedTuple

import zio
from zio.broadcast import BroadcastReceiver
from zio.net import Stream

LINE_LIMIT = 1000  # bytes
KEPT = 100  # lines that wait for a slow reader


class Line(NamedTuple):
    author: str
    text: str


class Room:
    def __init__(self) -> None:
        self.lines = zio.Broadcast[Line](KEPT)

    def guest(self, stream: Stream) -> None:
        """One connection: two tasks, and the end of either is the end of both."""
        stream.send_all(b"your name? ")
        try:
            name = read_line(stream)
        except (EOFError, ValueError):
            return  # no name, no chat
        received = self.lines.subscribe()
        self.lines.send(Line("*", f"{name} has come"))
        try:
            with zio.TaskGroup() as group:
                group.spawn(self.write_all, stream, received, name)
                while True:
                    self.lines.send(Line(name, read_line(stream)))
        except* (EOFError, ValueError, OSError):
            pass  # has hung up, or sent no lines
        finally:
            self.lines.send(Line("*", f"{name} has left"))

    @staticmethod
    def write_all(stream: Stream, received: BroadcastReceiver[Line], name: str) -> None:
        while True:
            try:
                line = received.recv()
            except zio.Lagged as lagged:
                stream.send_all(f"* you have missed {lagged.skipped} lines\n".encode())
                continue
            if line.author != name:
                stream.send_all(f"{line.author}: {line.text}\n".encode())


def read_line(stream: Stream) -> str:
    return stream.recv_until(b"\n", LINE_LIMIT).decode("utf-8", "replace").strip()


def demo() -> None:
    with zio.net.listen("127.0.0.1", 0) as listener, zio.TaskGroup() as group:
        group.spawn(listener.serve, Room().guest)

        def enter(name: str) -> Stream:
            stream = zio.net.connect("127.0.0.1", listener.port)
            stream.send_all(name.encode() + b"\n")
            stream.recv_until(b"has come\n", 200)  # our own coming
            return stream

        with enter("ann") as ann, enter("bob") as bob, enter("cleo") as cleo:
            ann.send_all(b"hello everybody\n")
            print("bob reads:", bob.recv_until(b"everybody\n", 200).decode().split("\n")[-2])
            bob.send_all(b"hello ann\n")
            print("cleo reads:", cleo.recv_until(b"ann\n", 200).decode().replace("\n", " | ").strip(" |"))
            cleo.close()
            print("ann reads:", ann.recv_until(b"left\n", 500).decode().split("\n")[-2])
        listener.close()


def serve(port: int) -> None:
    with zio.signals(signal.SIGINT, signal.SIGTERM) as stop, zio.net.listen("127.0.0.1", port) as listener:
        print(f"chat at 127.0.0.1:{listener.port}", flush=True)
        serving = zio.spawn(listener.serve, Room().guest)
        zio.select(serving, stop)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        zio.run(serve, int(sys.argv[2]))
    else:
        zio.run(demo)
