"""The stream over a WebSocket: its frames on the wire, in memory, against the server's side of wsproto."""

from __future__ import annotations

import contextlib
import os
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import CloseConnection
from wsproto.extensions import PerMessageDeflate

import zio
from nats_zio.errors import WebSocketError
from nats_zio.transport.websocket import WRITE_SIZE, WebSocketStream
from tests.client.websockets import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocketPeer,
    client_end,
    frame,
    websocket_pair,
)
from zio.testing import memory_stream_pair, wait_all_parked

T = TypeVar("T")


def run(fn: Callable[[], T]) -> T:
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


# Frames.


def test_bytes_travel_both_ways() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        ours.send_all(b"question")
        assert peer.recv() == b"question"
        peer.send(b"answer")
        assert ours.recv(100) == b"answer"
        ours.close()

    run(main)


def test_what_is_sent_is_a_binary_message_masked_with_a_key_of_its_own() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        keys = set()
        for _ in range(20):
            ours.send_all(b"plaintext")
            peer.raw.clear()
            assert peer.recv() == b"plaintext"
            assert peer.raw[0] == 0x80 | BINARY
            assert peer.raw[1] == 0x80 | len(b"plaintext")
            assert b"plaintext" not in peer.raw
            keys.add(bytes(peer.raw[2:6]))
        assert len(keys) == 20
        ours.close()

    run(main)


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536, 200_000])
def test_each_length_of_a_frame_is_read_and_written(size: int) -> None:
    data = os.urandom(size)

    def main() -> None:
        ours, peer = websocket_pair(1 << 20)
        peer.stream.send_all(frame(data))
        assert ours.recv_exactly(size) == data
        sending = zio.spawn(ours.send_all, data)
        assert peer.recv_exactly(size) == data
        sending.join()
        ours.close()

    run(main)


def test_many_megabytes_go_both_ways_at_once() -> None:
    data = os.urandom(5 << 20)

    def main() -> None:
        ours, peer = websocket_pair()
        with zio.TaskGroup() as group:
            echoing = group.spawn(peer.echo)
            group.spawn(ours.send_all, data)
            assert ours.recv_exactly(len(data)) == data
            ours.shutdown_write()
            echoing.join()
        ours.close()

    run(main)


def test_a_fragmented_message_is_read_as_it_comes() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        for part in (
            frame(b"one ", fin=False),
            frame(b"two ", CONTINUATION, fin=False),
            frame(b"", CONTINUATION, fin=False),
            frame(b"three", CONTINUATION),
        ):
            peer.stream.send_all(part)
        assert ours.recv_exactly(13) == b"one two three"
        peer.stream.send_all(frame(b"begun", fin=False))
        assert ours.recv(100) == b"begun"
        ours.close()

    run(main)


def test_empty_messages_are_no_end() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame() + frame() + frame(b"x"))
        assert ours.recv(100) == b"x"
        ours.close()

    run(main)


def test_recv_gives_at_most_what_was_asked_for() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"abc") + frame(b"defgh"))
        assert [ours.recv(2), ours.recv(4), ours.recv(100)] == [b"ab", b"cdef", b"gh"]
        ours.close()

    run(main)


def test_a_burst_of_many_frames_comes_in_one_piece() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(b"".join(frame(b"%03d" % number) for number in range(1000)))
        assert ours.recv(65536) == b"".join(b"%03d" % number for number in range(1000))
        ours.close()

    run(main)


# What comes in pieces.

TALK = b"".join(
    (
        frame(b"one"),
        frame(b"ping", PING),
        frame(b"x" * 126),
        frame(b"y", fin=False),
        frame(b"", PING),
        frame(b"z" * 300, CONTINUATION),
        frame(b"two"),
        frame(b"\x03\xe8bye", CLOSE),
    )
)
SAID = b"one" + b"x" * 126 + b"y" + b"z" * 300 + b"two"


@pytest.mark.parametrize("before", ["response", "frames"])
def test_what_the_server_sends_may_be_cut_at_any_byte(before: str) -> None:
    """The HTTP answer too, with frames glued to it."""

    def talk(cut: int) -> int:
        ours, theirs = memory_stream_pair(1 << 20)
        peer = WebSocketPeer(theirs)
        opening = zio.spawn(client_end, ours)
        peer.read_request()
        whole = peer.accepted() + TALK
        cut += 0 if before == "response" else len(whole) - len(TALK)
        theirs.send_all(whole[:cut])
        wait_all_parked()
        theirs.send_all(whole[cut:])
        stream = opening.join()
        assert everything(stream) == SAID
        stream.close()
        peer.recv_all()
        assert peer.pongs == [b"ping", b""]
        return len(whole)

    def main() -> None:
        cut = 0
        while cut < talk(cut):
            cut += 1

    run(main)


def test_what_is_sent_may_be_taken_in_pieces_cut_at_any_byte() -> None:
    """Pongs in between: a frame that has begun is finished first."""

    def talk(cut: int) -> int:
        ours, theirs = memory_stream_pair(1 << 20)
        peer = WebSocketPeer(theirs)
        opening = zio.spawn(client_end, ours)
        peer.accept()
        stream = opening.join()
        up = ours.out
        start = up.sent
        up.allow(cut)
        taken = stream.send_some(b"a" * 200)
        assert taken in (0, 200)
        peer.stream.send_all(frame(b"answer me", PING) + frame(b"now"))
        assert stream.recv(10) == b"now"
        up.allow(None)
        stream.send_all(b"a" * (200 - taken) + b"b" * 300)
        stream.shutdown_write()
        assert peer.recv_all() == b"a" * 200 + b"b" * 300
        assert peer.pongs == [b"answer me"]
        assert peer.close is not None
        stream.close()
        return up.sent - start

    def main() -> None:
        cut = 0
        while cut < talk(cut):
            cut += 1

    run(main)


# Control frames.


def test_a_ping_is_answered_with_its_payload() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"are you there?", PING) + frame(b"x"))
        assert ours.recv(10) == b"x"
        ours.close()
        assert peer.recv_all() == b""
        assert peer.pongs == [b"are you there?"]

    run(main)


def test_while_a_frame_is_stuck_only_the_last_ping_is_answered_and_after_it() -> None:
    def main() -> None:
        ours, peer = websocket_pair(1000)
        assert ours.send_some(b"x" * 2000) == 2000
        for number in range(100):
            peer.stream.send_all(frame(b"%d" % number, PING))
        peer.stream.send_all(frame(b"x"))
        assert ours.recv(10) == b"x"
        assert peer.recv_exactly(2000) == b"x" * 2000
        ours.shutdown_write()
        assert peer.recv_all() == b""
        assert peer.pongs == [b"99"]
        ours.close()

    run(main)


def test_a_pong_nobody_asked_for_is_ignored() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"here I am", PONG) + frame(b"x"))
        assert ours.recv(10) == b"x"
        ours.close()

    run(main)


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9going away"])
def test_a_close_frame_is_the_end_behind_what_came_before_and_is_answered(payload: bytes) -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"last words") + frame(payload, CLOSE) + frame(b"ignored"))
        assert ours.recv(5) == b"last "
        assert everything(ours) == b"words"
        assert ours.recv(1) == b""
        with pytest.raises(ConnectionResetError, match="the server closed the WebSocket"):
            ours.send_some(b"too late")
        raw = peer.stream.recv(100)
        assert raw[0] == 0x80 | CLOSE
        assert raw[1] == 0x80 | len(payload[:2])
        ours.close()
        assert peer.stream.recv(100) == b""

    run(main)


def test_a_close_frame_with_another_reason_is_an_error_with_that_reason() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"last words") + frame(b"\x03\xf0quota exceeded", CLOSE))
        assert ours.recv(100) == b"last words"
        for _ in range(2):
            with pytest.raises(ConnectionResetError, match="the server closed the WebSocket: 1008 quota exceeded"):
                ours.recv(1)
        ours.close()

    run(main)


def test_the_end_of_the_connection_is_the_end() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"last words") + frame(b"half a frame")[:5])
        peer.stream.shutdown_write()
        assert everything(ours) == b"last wordshal"
        ours.close()

    run(main)


# What is no WebSocket, or none for NATS.


@pytest.mark.parametrize(
    ("wrong", "problem", "code"),
    [
        (frame(b"text", TEXT), "text frame", 1003),
        (frame(b"x", masked=True), "masked", 1002),
        (frame(b"x", CONTINUATION), "CONTINUATION", 1002),
        (frame(b"x", fin=False) + frame(b"x"), "CONTINUATION", 1002),
        (frame(b"x", 3), "opcode", 1002),
        (frame(b"x", PING, fin=False), "fragment", 1002),
        (frame(b"x" * 126, PING), "125", 1002),
        (frame(b"x", rsv1=True), "Reserved", 1002),
        (frame(b"x", CLOSE), "CLOSE", 1002),
        (b"\x82\x7f" + b"\xff" * 8, "MSB", 1002),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "fragment", 1002),
    ],
)
def test_a_wrong_frame_ends_it_and_the_server_is_told_why(wrong: bytes, problem: str, code: int) -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"before") + wrong)
        assert ours.recv(6) == b"before"
        with pytest.raises(WebSocketError, match=problem):
            everything(ours)
        with pytest.raises(OSError, match="our side has ended"):
            ours.send_some(b"x")
        assert peer.recv_all() == b""
        assert peer.close is not None
        assert peer.close.code == code
        ours.close()

    run(main)


def test_a_compressed_frame_that_cannot_be_decompressed_ends_it() -> None:
    def main() -> None:
        ours, peer = compressing_pair()
        peer.stream.send_all(frame(b"\xff\xff\xff\xff", rsv1=True))
        with pytest.raises(WebSocketError, match="error in extension"):
            ours.recv(1)
        ours.close()

    run(main)


def test_a_control_frame_is_not_compressed() -> None:
    def main() -> None:
        ours, peer = compressing_pair()
        peer.stream.send_all(frame(b"x", PING, rsv1=True))
        with pytest.raises(WebSocketError, match="error in extension"):
            ours.recv(1)
        ours.close()

    run(main)


@settings(max_examples=300)
@given(st.binary(max_size=400), st.booleans())
def test_whatever_the_server_sends_is_data_an_end_or_an_error(noise: bytes, compression: bool) -> None:
    def main() -> None:
        ours, peer = compressing_pair() if compression else websocket_pair()
        peer.stream.send_all(noise)
        peer.stream.shutdown_write()
        with contextlib.suppress(OSError):
            everything(ours)
        ours.close()
        peer.stream.close()

    run(main)


# Compression.


def test_compression_is_not_offered_unless_asked_for() -> None:
    def main() -> None:
        ours, peer = websocket_pair(extensions=(PerMessageDeflate(),))
        assert peer.request.extensions == []
        assert not ours.compressed
        ours.send_all(b"x" * 1000)
        assert peer.recv_exactly(1000)
        assert peer.raw[0] == 0x80 | BINARY
        ours.close()

    run(main)


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

    run(main)


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

    run(main)


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

    run(main)


def test_small_messages_are_not_compressed() -> None:
    def main() -> None:
        ours, peer = compressing_pair()
        ours.send_all(b"x" * 63)
        assert peer.recv_exactly(63)
        assert peer.raw[0] == 0x80 | BINARY
        ours.close()

    run(main)


def test_plain_messages_may_come_between_compressed_ones() -> None:
    def main() -> None:
        ours, peer = compressing_pair()
        one, two = b"one" * 100, b"two" * 100
        peer.stream.send_all(
            frame(deflated(one), rsv1=True) + frame(b"plain") + frame(b"", rsv1=False) + frame(deflated(two), rsv1=True)
        )
        assert ours.recv_exactly(605) == one + b"plain" + two
        ours.close()

    run(main)


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

    run(main)


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

    run(main)


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

    run(main)


def test_a_plain_message_may_be_larger() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        ours.fit(1000)
        ours.send_all(bytes(3500))
        assert peer.recv_exactly(3500)
        assert peer.messages == [3500]
        ours.close()

    run(main)


# Waiting, cancelling.


def test_a_cancelled_recv_loses_nothing() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        data = bytes(range(256)) * 20
        whole = frame(data)
        got = bytearray()
        for at in range(0, len(whole), 7):
            with zio.move_on_after(0):
                got += ours.recv(100)
            waiting = zio.spawn(ours.recv, 5)
            wait_all_parked()
            peer.stream.send_all(whole[at : at + 7])
            waiting.cancel()
            with contextlib.suppress(zio.Cancelled):
                got += waiting.join()
        while len(got) < len(data):
            got += ours.recv(1000)
        assert bytes(got) == data
        ours.close()

    run(main)


def test_what_a_cancelled_send_has_begun_goes_out_whole() -> None:
    def main() -> None:
        ours, peer = websocket_pair(1000)
        sending = zio.spawn(ours.send_all, b"x" * (3 * WRITE_SIZE))
        wait_all_parked()
        sending.cancel()
        with pytest.raises(zio.Cancelled):
            sending.join()
        following = zio.spawn(ours.send_all, b"y")
        received = bytearray()
        while not received.endswith(b"y"):
            received += peer.recv()
        assert bytes(received) == b"x" * WRITE_SIZE + b"y"
        following.join()
        ours.close()

    run(main)


def test_send_some_takes_a_frame_or_nothing_and_wait_writable_waits_for_the_rest() -> None:
    def main() -> None:
        ours, peer = websocket_pair(1000)
        assert ours.send_some(b"x" * 2000) == 2000
        assert ours.send_some(b"y") == 0
        waiting = zio.spawn(ours.wait_writable)
        wait_all_parked()
        assert not waiting.done
        assert peer.recv_exactly(2000) == b"x" * 2000
        waiting.join()
        assert ours.send_some(b"y") == 1
        assert peer.recv() == b"y"
        ours.close()

    run(main)


def test_send_all_returns_when_the_last_byte_is_out() -> None:
    def main() -> None:
        ours, peer = websocket_pair(1000)
        sending = zio.spawn(ours.send_all, b"x" * 2000)
        wait_all_parked()
        assert not sending.done
        assert peer.recv_exactly(2000) == b"x" * 2000
        sending.join()
        ours.close()

    run(main)


def test_two_readers_or_two_writers_are_one_too_many() -> None:
    def main() -> None:
        ours, _peer = websocket_pair(1000)
        reading = zio.spawn(ours.recv, 1)
        writing = zio.spawn(ours.send_all, b"x" * (2 * WRITE_SIZE))
        wait_all_parked()
        with pytest.raises(zio.Busy, match="reading from <WebSocketStream"):
            ours.recv(1)
        for call in (lambda: ours.send_all(b"x"), ours.wait_writable):
            with pytest.raises(zio.Busy, match="writing to <WebSocketStream"):
                call()
        ours.close()
        for task in (reading, writing):
            with pytest.raises(zio.Closed):
                task.join()

    run(main)


def test_plain_threads_and_tasks_send_frames_that_do_not_mix() -> None:
    """While a task answers pings. Each sender's bytes come in its order."""

    def main() -> None:
        ours, peer = websocket_pair(5000)

        def send_from_thread() -> None:
            left = 300
            while left:
                left -= ours.send_some(b"t")

        def keep_reading() -> None:
            with contextlib.suppress(zio.Closed):
                while ours.recv(10):
                    pass

        thread = threading.Thread(target=send_from_thread)
        reading = zio.spawn(keep_reading)
        thread.start()
        for _ in range(300):
            ours.send_all(b"m")
            peer.stream.send_all(frame(b"p", PING))
            peer.recv()
        zio.to_thread(thread.join)
        ours.shutdown_write()
        peer.recv_all()
        reading.cancel()
        assert peer.messages.count(1) == 600
        assert set(peer.pongs) == {b"p"}
        ours.close()

    run(main)


def test_a_thread_waits_while_a_frame_is_being_made() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        raw: Any = ours.raw
        send_some = raw.send_some
        waiting: list[bool] = []
        thread = threading.Thread(target=ours.send_some, args=(b"two",))

        def interrupted(data: bytes) -> int:
            raw.send_some = send_some
            thread.start()
            thread.join(0.3)  # in vain
            waiting.append(thread.is_alive())
            return send_some(data)  # type: ignore[no-any-return]

        raw.send_some = interrupted
        ours.send_all(b"one")
        thread.join()
        assert waiting == [True]
        assert peer.recv_exactly(6) == b"onetwo"
        ours.close()

    run(main)


# The end.


def test_close_says_so_and_nothing_more_goes_out() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        ours.send_all(b"last words")
        peer.send(b"not read any more")
        assert ours.recv(3) == b"not"
        ours.close()
        ours.close()
        assert peer.recv_all() == b"last words"
        assert peer.close == CloseConnection(code=1000, reason="")
        assert peer.stream.recv(1) == b""
        for call in (
            lambda: ours.recv(1),
            lambda: ours.send_all(b"x"),
            lambda: ours.send_some(b"x"),
            ours.wait_writable,
        ):
            with pytest.raises(zio.Closed):
                call()

    run(main)


def test_close_in_the_middle_of_a_frame_sends_nothing_more() -> None:
    def main() -> None:
        ours, peer = websocket_pair(1000)
        assert ours.send_some(b"x" * 2000) == 2000
        ours.close()
        wait_all_parked()
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while more := peer.stream.recv(100):
                received += more
        assert len(received) <= 1000

    run(main)


def test_shutdown_write_ends_our_side_and_receiving_goes_on() -> None:
    def main() -> None:
        ours, peer = websocket_pair(1000)
        assert ours.send_some(b"x" * 2000) == 2000
        ending = zio.spawn(ours.shutdown_write)
        wait_all_parked()
        assert not ending.done
        assert peer.recv_all() == b"x" * 2000
        ending.join()
        ours.shutdown_write()
        with pytest.raises(BrokenPipeError):
            ours.send_some(b"x")
        peer.stream.send_all(frame(b"still here") + frame(b"ping", PING) + frame(b"\x03\xe8", CLOSE))
        assert everything(ours) == b"still here"
        ours.close()

    run(main)


def test_an_error_of_the_connection_comes_out_of_send_and_recv() -> None:
    def main() -> None:
        ours, peer = websocket_pair(1000)
        assert ours.send_some(b"x" * 2000) == 2000
        waiting = zio.spawn(ours.wait_writable)
        wait_all_parked()
        peer.stream.connection.reset()  # type: ignore[attr-defined]
        for call in (waiting.join, lambda: ours.send_all(b"x"), lambda: ours.recv(1)):
            with pytest.raises(ConnectionResetError):
                call()
        ours.close()

    run(main)


def test_an_error_after_a_part_has_gone_out_is_raised_by_the_next_call() -> None:
    """The caller must not take for unsent what the server may have."""

    def main() -> None:
        ours, _peer = websocket_pair(1 << 20)
        raw: Any = ours.raw
        send_some, calls = raw.send_some, iter(range(1))

        def send_once(data: bytes) -> int:
            if next(calls, None) is None:
                raise ConnectionResetError("gone")
            return send_some(data)  # type: ignore[no-any-return]

        raw.send_some = send_once
        assert ours.send_some(bytes(3 * WRITE_SIZE)) == WRITE_SIZE
        raw.send_some = send_some
        with pytest.raises(ConnectionResetError, match="gone"):
            ours.send_some(b"x")
        ours.close()

    run(main)


def test_in_a_forked_child_it_closes_without_a_word() -> None:
    def main() -> None:
        with zio.net.listen("127.0.0.1", 0) as listener:
            opening = zio.spawn(lambda: client_end(zio.net.connect("127.0.0.1", listener.port)))
            peer = WebSocketPeer(listener.accept())
            peer.accept()
            ours = opening.join()
            pid = os.fork()
            if pid == 0:
                ours.close()
                os._exit(0)
            os.waitpid(pid, 0)
            ours.send_all(b"mine")
            assert peer.recv() == b"mine"
            ours.close()
            peer.stream.close()

    run(main)


def test_it_is_for_tasks_of_its_own_runtime() -> None:
    def main() -> None:
        ours, _peer = websocket_pair()
        with pytest.raises(zio.WrongLoop):
            zio.to_thread(zio.run, ours.recv, 1)
        with pytest.raises(RuntimeError):
            zio.to_thread(ours.close)
        ours.close()

    run(main)


@pytest.fixture(autouse=True)
def no_unhandled(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task of a stream ends in an error that only the log sees."""
    yield
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
