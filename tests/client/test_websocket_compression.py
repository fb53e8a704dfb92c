"""Compression of WebSocket messages: asked for, agreed on, and what then goes over the wire."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wsproto.extensions import PerMessageDeflate

import nats_zio
import zio
from nats_zio.errors import WebSocketError
from nats_zio.transport.websocket import WRITE_SIZE
from tests.client.websockets import (
    BINARY,
    COMPRESSED,
    CONTINUATION,
    PING,
    PONG,
    ScriptedWebSocket,
    compressing_pair,
    deflated,
    failure,
    frame,
    in_time,
    simulated,
    websocket_pair,
    websocket_server,
    works,
)

# Messages.


def test_compression_is_not_offered_unless_asked_for() -> None:
    def main() -> None:
        ours, peer = websocket_pair(extensions=(PerMessageDeflate(),))
        assert peer.request.extensions == []
        assert not ours.compressed
        ours.send_all(b"x" * 1000)
        assert peer.recv_exactly(1000)
        assert peer.raw[0] == 0x80 | BINARY
        ours.close()

    in_time(main)


def test_a_server_that_does_not_compress_gets_plain_frames() -> None:
    def main() -> None:
        ours, peer = websocket_pair(**COMPRESSED)
        (offer,) = peer.request.extensions
        assert str(offer).startswith("permessage-deflate;")
        assert not ours.compressed
        ours.send_all(b"x" * 1000)
        assert peer.recv_exactly(1000)
        assert len(peer.raw) > 1000
        ours.close()

    in_time(main)


def test_compressed_messages_go_both_ways() -> None:
    data = b"the same again " * 10_000

    def main() -> None:
        ours, peer = compressing_pair(1 << 20)
        assert ours.compressed
        for _ in range(3):
            ours.send_all(data)
            assert peer.recv_exactly(len(data)) == data
            peer.send(data)
            assert ours.recv_exactly(len(data)) == data
        assert len(peer.raw) < len(data) / 50
        assert peer.raw[0] == 0xC0 | BINARY
        ours.close()

    in_time(main)


class Brief(PerMessageDeflate):
    """Accepts without repeating the conditions."""

    def accept(self, offer: str) -> bool:
        super().accept(offer)
        return True


def test_each_message_is_compressed_by_itself() -> None:
    """A server that forgets what came before (as nats-server does) can read it."""

    def main() -> None:
        ours, peer = websocket_pair(65536, (Brief(),), **COMPRESSED)
        sent = []
        for _ in range(2):
            ours.send_all(b"abc" * 100)
            peer.raw.clear()
            peer.recv_exactly(300)
            raw = bytes(peer.raw)
            sent.append(bytes(byte ^ raw[2 + at % 4] for at, byte in enumerate(raw[6:])))
        assert sent[0] == sent[1]
        assert zlib.decompress(sent[0] + b"\x00\x00\xff\xff\x01\x00\x00\xff\xff", -15) == b"abc" * 100
        ours.close()

    in_time(main)


def test_small_messages_are_not_compressed() -> None:
    def main() -> None:
        ours, peer = compressing_pair()
        ours.send_all(b"x" * 63)
        assert peer.recv_exactly(63)
        assert peer.raw[0] == 0x80 | BINARY
        ours.close()

    in_time(main)


def test_plain_messages_may_come_between_compressed_ones() -> None:
    def main() -> None:
        ours, peer = compressing_pair()
        one, two = b"one" * 100, b"two" * 100
        peer.stream.send_all(
            frame(deflated(one), rsv1=True) + frame(b"plain") + frame(b"", rsv1=False) + frame(deflated(two), rsv1=True)
        )
        assert ours.recv_exactly(605) == one + b"plain" + two
        ours.close()

    in_time(main)


def test_a_ping_between_the_fragments_of_a_compressed_message_does_not_end_it() -> None:
    """The library alone takes the rest of such a message for plain."""

    def main() -> None:
        ours, peer = compressing_pair()
        data = os.urandom(100) * 10
        whole = deflated(data)
        for cut in range(1, len(whole)):
            peer.stream.send_all(
                frame(whole[:cut], fin=False, rsv1=True)
                + frame(b"ping", PING)
                + frame(b"pong", PONG)
                + frame(whole[cut:], CONTINUATION)
            )
            assert ours.recv_exactly(len(data)) == data
        ours.close()

    in_time(main)


@pytest.mark.slow
def test_what_grows_a_thousandfold_is_not_held_in_memory_all_at_once() -> None:
    size = 96 << 20
    engine = zlib.compressobj(wbits=-15)
    zeros = bytes(1 << 20)
    whole = b"".join(engine.compress(zeros) for _ in range(size >> 20)) + engine.flush(zlib.Z_SYNC_FLUSH)
    bomb = frame(whole[:-4], rsv1=True)

    def main() -> None:
        ours, peer = compressing_pair(1 << 20)
        sending = zio.spawn(peer.stream.send_all, bomb)
        tracemalloc.start()
        try:
            have = 0
            while have < size:
                have += len(ours.recv(65536))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        sending.join()
        assert peak < 60 << 20
        ours.close()

    in_time(main)


def test_a_compressed_message_is_no_larger_than_a_payload_that_the_server_takes() -> None:
    def main() -> None:
        ours, peer = compressing_pair()
        ours.fit(1000)
        ours.send_all(bytes(3500))
        assert peer.recv_exactly(3500)
        assert peer.messages == [1000, 1000, 1000, 500]
        ours.fit(1 << 20)
        peer.messages.clear()
        ours.send_all(bytes(WRITE_SIZE + 1))
        assert peer.recv_exactly(WRITE_SIZE + 1)
        assert peer.messages == [WRITE_SIZE, 1]
        ours.close()

    in_time(main)


def test_a_plain_message_may_be_larger() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        ours.fit(1000)
        ours.send_all(bytes(3500))
        assert peer.recv_exactly(3500)
        assert peer.messages == [3500]
        ours.close()

    in_time(main)


def test_a_compressed_frame_that_cannot_be_decompressed_ends_it() -> None:
    def main() -> None:
        ours, peer = compressing_pair()
        peer.stream.send_all(frame(b"\xff\xff\xff\xff", rsv1=True))
        with pytest.raises(WebSocketError, match="error in extension"):
            ours.recv(1)
        ours.close()

    in_time(main)


def test_a_control_frame_is_not_compressed() -> None:
    def main() -> None:
        ours, peer = compressing_pair()
        peer.stream.send_all(frame(b"x", PING, rsv1=True))
        with pytest.raises(WebSocketError, match="error in extension"):
            ours.recv(1)
        ours.close()

    in_time(main)


class Odd(PerMessageDeflate):
    """Accepts with conditions that nobody can meet."""

    def __init__(self, conditions: str) -> None:
        super().__init__()
        self._conditions = conditions

    def accept(self, offer: str) -> str:
        super().accept(offer)
        return self._conditions


@pytest.mark.parametrize(
    "conditions", ["server_max_window_bits=99", "client_max_window_bits=x", "server_max_window_bits"]
)
def test_conditions_of_compression_that_make_no_sense_are_an_error(conditions: str) -> None:
    def test(server: ScriptedWebSocket) -> None:
        server.answer = lambda peer: peer.accept(Odd(conditions))
        error = failure("ws://server", ws_compression=True)
        assert isinstance(error, WebSocketError)
        assert "parameters that make no sense" in str(error)

    simulated(test)


# The real server.


@pytest.fixture(scope="module")
def compressing() -> Iterator[str]:
    """The URL of a server that compresses, if asked to."""
    with websocket_server("compression: true") as (_, url):
        yield url


def seen_from_the_wire(url: str, test: Callable[[str], None]) -> tuple[bytes, bytes]:
    """Run `test(url)` through a relay; what went up and what came down."""
    up, down = bytearray(), bytearray()
    port = int(url.rpartition(":")[2])

    def pump(source: zio.net.Stream, target: zio.net.Stream, copy: bytearray) -> None:
        with contextlib.suppress(OSError, zio.Closed):
            while data := source.recv(65536):
                copy += data
                target.send_all(data)
        target.close()

    def relay(listener: Any) -> None:
        with listener.accept() as near, zio.net.connect("127.0.0.1", port) as far, zio.TaskGroup() as group:
            group.spawn(pump, near, far, up)
            group.spawn(pump, far, near, down)

    def main() -> None:
        with zio.net.listen("127.0.0.1", 0) as listener, zio.TaskGroup() as group:
            group.spawn(relay, listener)
            test(f"ws://127.0.0.1:{listener.port}")

    zio.run(main)
    return bytes(up), bytes(down)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_server_compresses_if_asked_to_and_so_do_we(compressing: str, subject: str, wanted: bool) -> None:
    data = b"again and again " * 1000

    def test(url: str) -> None:
        with nats_zio.connect(url, ws_compression=wanted) as nc:
            works(nc, subject, data)

    up, down = seen_from_the_wire(compressing, test)
    assert (b"\r\nSec-WebSocket-Extensions: permessage-deflate" in up) == wanted
    assert (b"\r\nSec-WebSocket-Extensions: permessage-deflate" in down) == wanted
    for way in (up, down):
        assert (len(way) < len(data) / 2) == wanted


def test_a_server_that_does_not_compress_is_spoken_to_without(subject: str) -> None:
    def test(url: str) -> None:
        with nats_zio.connect(url, ws_compression=True) as nc:
            works(nc, subject, b"again and again " * 1000)

    with websocket_server() as (_, url):
        up, down = seen_from_the_wire(url, test)
    assert b"permessage-deflate" in up
    assert b"permessage-deflate" not in down


@pytest.mark.parametrize("limit", [200, 1000, 100_000])
def test_a_compressed_message_is_as_large_as_the_server_takes_and_a_batch_may_be_larger(limit: int) -> None:
    """The server decompresses a message of the WebSocket only up to its max_payload."""

    def main(url: str) -> None:
        with nats_zio.connect(url, ws_compression=True) as nc, nc.subscribe("a") as sub:
            for _ in range(100):
                nc.publish("a", bytes(limit))
            nc.flush()
            assert [len(sub.next().data) for _ in range(100)] == [limit] * 100
            assert nc.stats.reconnects == 0

    with websocket_server("compression: true", config=f"max_payload: {limit}") as (_, url):
        zio.run(main, url)


def test_a_long_connect_is_sent_in_pieces_that_the_server_takes() -> None:
    def main(url: str) -> None:
        with nats_zio.connect(url, ws_compression=True, name="long " * 100) as nc:
            works(nc, "a")

    with websocket_server("compression: true", config="max_payload: 200") as (_, url):
        zio.run(main, url)


def test_a_limit_that_is_lowered_later_holds_for_compressed_messages_too() -> None:
    def test(server: ScriptedWebSocket) -> None:
        server.answer = lambda peer: peer.accept(PerMessageDeflate())
        with nats_zio.connect("ws://server", ws_compression=True) as nc:
            (peer,) = server.peers
            peer.send(b'INFO {"max_payload": 300}\r\nPING\r\n')
            nc.flush()
            zio.sleep(1)
            peer.messages.clear()
            for _ in range(20):
                nc.publish("a", bytes(300))
            nc.flush()
            assert max(peer.messages) == 300

    simulated(test)


def test_compressed_fragments_of_the_server_are_read(compressing: str, subject: str) -> None:
    """It sends browsers no frame of more than 4 KiB."""
    data = b"".join(b"%d " % (number * 7919 % 10007) for number in range(20_000))
    browser = {"User-Agent": "Mozilla/5.0"}

    def test(url: str) -> None:
        with nats_zio.connect(url, ws_compression=True, ws_headers=browser) as nc:
            works(nc, subject, data)

    _, down = seen_from_the_wire(compressing, test)
    assert b"\x42\x7e\x10\x00" in down  # compressed, binary, not the last one, 4096 bytes
