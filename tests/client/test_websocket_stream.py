"""The stream over a WebSocket: its frames on the wire, in memory, against the server's side of wsproto."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import CloseConnection

import zio
from nats_zio.errors import WebSocketError
from nats_zio.transport.leftover import Leftover
from nats_zio.transport.websocket import WRITE_SIZE
from tests.client.websockets import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocketPeer,
    client_end,
    compressing_pair,
    everything,
    frame,
    in_time,
    websocket_pair,
)
from zio.lowlevel import here
from zio.testing import memory_stream_pair, wait_all_parked

T = TypeVar("T")


# Frames.


def test_bytes_travel_both_ways() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        ours.send_all(b"question")
        assert peer.recv() == b"question"
        peer.send(b"answer")
        assert ours.recv(100) == b"answer"
        ours.close()

    in_time(main)


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

    in_time(main)


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

    in_time(main)


def test_many_megabytes_go_both_ways_at_once() -> None:
    data = os.urandom(5 << 20)

    def main() -> None:
        ours, peer = websocket_pair()
        with zio.TaskGroup() as group:
            echoing = group.spawn(peer.echo)
            sending = group.spawn(ours.send_all, data)
            assert ours.recv_exactly(len(data)) == data
            sending.join()  # it may have its turn only after all has come back
            ours.shutdown_write()
            echoing.join()
        ours.close()

    in_time(main)


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

    in_time(main)


def test_empty_messages_are_no_end() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame() + frame() + frame(b"x"))
        assert ours.recv(100) == b"x"
        ours.close()

    in_time(main)


def test_recv_gives_at_most_what_was_asked_for() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"abc") + frame(b"defgh"))
        assert [ours.recv(2), ours.recv(4), ours.recv(100)] == [b"ab", b"cdef", b"gh"]
        ours.close()

    in_time(main)


def test_a_burst_of_many_frames_comes_in_one_piece() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(b"".join(frame(b"%03d" % number) for number in range(1000)))
        assert ours.recv(65536) == b"".join(b"%03d" % number for number in range(1000))
        ours.close()

    in_time(main)


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

    in_time(main)


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

    in_time(main)


# Control frames.


def test_a_ping_is_answered_with_its_payload() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"are you there?", PING) + frame(b"x"))
        assert ours.recv(10) == b"x"
        ours.close()
        assert peer.recv_all() == b""
        assert peer.pongs == [b"are you there?"]

    in_time(main)


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

    in_time(main)


def test_a_pong_nobody_asked_for_is_ignored() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"here I am", PONG) + frame(b"x"))
        assert ours.recv(10) == b"x"
        ours.close()

    in_time(main)


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

    in_time(main)


def test_a_close_frame_with_another_reason_is_an_error_with_that_reason() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"last words") + frame(b"\x03\xf0quota exceeded", CLOSE))
        assert ours.recv(100) == b"last words"
        for _ in range(2):
            with pytest.raises(ConnectionResetError, match="the server closed the WebSocket: 1008 quota exceeded"):
                ours.recv(1)
        ours.close()

    in_time(main)


def test_the_end_of_the_connection_is_the_end() -> None:
    def main() -> None:
        ours, peer = websocket_pair()
        peer.stream.send_all(frame(b"last words") + frame(b"half a frame")[:5])
        peer.stream.shutdown_write()
        assert everything(ours) == b"last wordshal"
        ours.close()

    in_time(main)


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

    in_time(main)


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

    in_time(main)


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

    in_time(main)


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

    in_time(main)


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

    in_time(main)


def test_send_all_returns_when_the_last_byte_is_out() -> None:
    def main() -> None:
        ours, peer = websocket_pair(1000)
        sending = zio.spawn(ours.send_all, b"x" * 2000)
        wait_all_parked()
        assert not sending.done
        assert peer.recv_exactly(2000) == b"x" * 2000
        sending.join()
        ours.close()

    in_time(main)


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

    in_time(main)


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

    in_time(main)


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

    in_time(main)


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

    in_time(main)


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

    in_time(main)


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

    in_time(main)


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

    in_time(main)


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

    in_time(main)


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

    in_time(main)


def test_it_is_for_tasks_of_its_own_runtime() -> None:
    def main() -> None:
        ours, _peer = websocket_pair()
        with pytest.raises(zio.WrongLoop):
            zio.to_thread(zio.run, ours.recv, 1)
        with pytest.raises(RuntimeError):
            zio.to_thread(ours.close)
        ours.close()

    in_time(main)


@pytest.fixture(autouse=True)
def no_unhandled(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task of a stream ends in an error that only the log sees."""
    yield
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("an alarm")], ids=["Control-C", "alarm"])
def test_what_a_signal_handler_raises_amid_a_frame_is_raised_and_nothing_follows(error: BaseException) -> None:
    class Raw:
        def send_some(self, data: bytes) -> int:
            raise error

    def main() -> None:
        out = Leftover(Raw(), here().loop, threading.Lock(), bytes)  # type: ignore[arg-type]
        with pytest.raises(type(error)):
            out.send(b"a frame")
        assert isinstance(out.error, ConnectionAbortedError)

    zio.run(main)


def test_what_a_signal_handler_raises_amid_the_second_frame_of_a_message_is_raised_too() -> None:
    def main() -> None:
        stream, _peer = websocket_pair(4 * WRITE_SIZE)
        send, calls = stream._raw.send_some, []

        def interrupted(data: bytes) -> int:
            calls.append(data)
            if len(calls) == 2:
                raise RuntimeError("an alarm")
            return send(data)

        stream._raw.send_some = interrupted  # type: ignore[method-assign, assignment]
        with pytest.raises(RuntimeError, match="an alarm"):
            stream.send_some(bytes(2 * WRITE_SIZE))

    zio.run(main)
