"""A stream of the running loop whose peer is a plain blocking socket: what it did is done when its call returns."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

import zio
from zio.lowlevel import here
from zio.net import SocketStream


@contextlib.contextmanager
def stream_and_peer() -> Iterator[tuple[SocketStream, socket.socket]]:
    """A connected TCP stream, made by ``zio.net.connect``, and its blocking peer."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        zio.net.connect("127.0.0.1", server.getsockname()[1]) as stream,
        server.accept()[0] as peer,
    ):
        assert isinstance(stream, SocketStream)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield stream, peer


def poll_now() -> None:
    """Take notice of what the kernel has to report, without running another task."""
    loop = here().loop
    loop.poller.poll(0, loop.ready)


def reset(peer: socket.socket) -> None:
    """Close with RST instead of FIN."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def fill(stream: SocketStream) -> int:
    """Send until there is no room left; how many bytes that took."""
    sent = 0
    while count := stream.send_some(b"x" * 65536):
        sent += count
    return sent


def in_turn(*steps: Callable[[], object]) -> Callable[[], None]:
    """One function that calls these, one after the other."""

    def run() -> None:
        for step in steps:
            step()

    return run
