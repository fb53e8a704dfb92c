"""The outbound queue by itself, over a stream that takes what the test lets it."""

from __future__ import annotations

import errno
import threading
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.session.outbound import ROOM, Outbound
from zio.lowlevel import here

KIB = bytes(1024)


class Socket:
    """Takes `room` bytes; then it is full until the test gives it more."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.got = b""
        self._writable = zio.Event()

    def send_some(self, data: bytes | memoryview) -> int:
        taken = bytes(data[: self.room])
        self.got += taken
        self.room -= len(taken)
        return len(taken)

    def wait_writable(self) -> None:
        self._writable.wait()
        self._writable = zio.Event()

    def give(self, room: int) -> None:
        self.room += room
        self._writable.set()


def connected(socket: Any) -> Outbound:
    def failed(error: BaseException) -> None:
        raise error

    outbound = Outbound(here().loop, 8 << 20, failed)
    outbound.connected(socket, 1 << 20, [])
    return outbound


def publish(outbound: Outbound, payload: bytes) -> None:
    outbound.admit(len(payload))
    outbound.lines.extend((b"PUB a %d" % len(payload), payload))
    outbound.accepted += len(payload)


def test_who_waits_for_room_goes_on_when_half_of_it_is_free_although_the_socket_is_full_again() -> None:
    def main() -> None:
        socket = Socket()
        outbound = connected(socket)
        published = 0

        def publisher() -> None:
            nonlocal published
            while True:
                publish(outbound, KIB)
                published += 1

        zio.spawn(publisher)
        zio.testing.wait_all_parked()
        before = published
        assert ROOM - 4096 < outbound.pending <= ROOM + 4096
        socket.give(ROOM // 4)
        zio.testing.wait_all_parked()
        assert published == before
        socket.give(ROOM // 2)
        zio.testing.wait_all_parked()
        assert published > before + 500
        assert ROOM - 4096 < outbound.pending <= ROOM + 4096

    zio.run(main)


def test_large_messages_that_all_wait_for_room_do_not_keep_each_other_awake() -> None:
    def main() -> None:
        socket = Socket(ROOM * 3 // 4)
        outbound = connected(socket)
        publish(outbound, bytes(900_000))
        for _ in range(3):
            zio.spawn(publish, outbound, bytes(900_000))
        zio.testing.wait_all_parked()
        assert outbound.accepted == 2 * 900_000
        socket.give(ROOM * 5 // 8)  # more than half of the room is free now: not enough for another of that size
        zio.testing.wait_all_parked()
        assert outbound.pending < ROOM // 2
        assert outbound.accepted == 2 * 900_000
        socket.give(8 << 20)
        zio.testing.wait_all_parked()
        assert outbound.accepted == 4 * 900_000

    zio.run(main)


def test_a_message_counts_as_written_when_its_last_crlf_is() -> None:
    def main() -> None:
        for short in range(4):
            socket = Socket(2 * len(b"PUB a 3\r\nabc\r\n") - short)
            outbound = connected(socket)
            for payload in (b"abc", b"def", b"ghi"):
                publish(outbound, payload)
            outbound.flush()
            written = 2 if not short else 1
            assert outbound.disconnected() == (written, 3 * written)
            assert outbound.lines[1::2] == [b"abc", b"def", b"ghi"][written:]
            assert outbound.accepted_msgs == 3

    zio.run(main)


def test_a_message_is_written_at_once_only_if_nothing_gathers_and_there_is_room() -> None:
    def main() -> None:
        socket = Socket(1000)
        outbound = connected(socket)
        assert not outbound.write_alone(b"PUB a 1", b"0")  # the connection has just begun: its flush is on the way
        zio.sleep(0.001)
        assert outbound.write_alone(b"PUB a 1", b"1")
        assert socket.got == b"PUB a 1\r\n1\r\n"
        publish(outbound, b"2")
        assert not outbound.write_alone(b"PUB a 1", b"3")  # it would overtake
        zio.sleep(0.001)
        assert not outbound.write_alone(b"PUB a 2000000", bytes(2_000_000))  # larger than the server takes
        assert outbound.write_alone(b"PUB a 2000", bytes(2000))  # more than the socket takes: the rest will follow
        assert not outbound.write_alone(b"PUB a 1", b"4")
        assert (outbound.accepted_msgs, outbound.accepted_bytes) == (3, 2002)
        socket.give(8 << 20)
        zio.testing.wait_all_parked()
        assert socket.got.endswith(b"PUB a 1\r\n2\r\nPUB a 2000\r\n" + bytes(2000) + b"\r\n")
        outbound.disconnected()
        assert not outbound.write_alone(b"PUB a 1", b"5")
        outbound.fail(RuntimeError)
        assert not outbound.write_alone(b"PUB a 1", b"6")

    zio.run(main)


def test_empty_messages_wait_for_room_too() -> None:
    def main() -> None:
        socket = Socket()
        outbound = connected(socket)

        def publisher() -> None:
            while True:
                publish(outbound, b"")
                if outbound.accepted_msgs % 100 == 0:
                    zio.pause()

        zio.spawn(publisher)
        zio.testing.wait_all_parked()
        assert outbound.accepted_msgs < ROOM
        assert outbound.pending > ROOM // 2

    zio.run(main)


class Interrupted(Socket):
    """Takes what it has room for, and then a signal handler raises."""

    def __init__(self, room: int, error: BaseException) -> None:
        super().__init__(room)
        self.error: BaseException | None = error

    def send_some(self, data: bytes | memoryview) -> int:
        sent = super().send_some(data)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return sent


INTERRUPTIONS = pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), RuntimeError("a limit"), TimeoutError("an alarm")],
    ids=lambda error: type(error).__name__,
)


LATER = (b"PUB a 4", b"next")


def left_behind(outbound: Outbound, errors: zio.Channel[BaseException], error: BaseException, lost_msgs: int) -> None:
    """The connection ends, and what was being written is in doubt and not sent again."""
    lost = errors.recv(timeout=30)
    assert type(lost) is nats_zio.DisconnectedError
    assert type(error).__name__ in str(lost)
    if not (isinstance(outbound.lines, InterruptedLines) and not outbound.lines.first):
        outbound.lines.extend(LATER)  # by somebody who has not heard of it yet
    outbound.accepted += 4
    assert outbound.disconnected() == (lost_msgs, 3 * lost_msgs)
    socket = Socket(100)
    outbound.connected(socket, 1 << 20, [b"SUB a 1\r\n"])  # type: ignore[arg-type]
    outbound.flush()
    assert socket.got == b"SUB a 1\r\nPUB a 4\r\nnext\r\n"
    assert outbound.accepted_msgs == lost_msgs + 1
    assert outbound.pending == 0


@INTERRUPTIONS
@pytest.mark.parametrize("room", [0, 5, 100], ids=["before", "in a frame", "after"])
def test_what_a_signal_handler_raises_in_a_write_is_raised_and_ends_the_connection(
    error: BaseException, room: int, background_runtime: zio.Runtime
) -> None:
    errors = zio.Channel[BaseException](1)
    outbound = Outbound(background_runtime.loop, 8 << 20, errors.try_send)
    background_runtime.call(outbound.connected, Interrupted(room, error), 1 << 20, [])
    with pytest.raises(type(error)):
        outbound.append_from_thread(b"PUB a 3", b"one", at_once=True)
    background_runtime.call(left_behind, outbound, errors, error, 1)


def test_what_was_left_of_a_frame_is_not_sent_again_if_writing_it_is_interrupted() -> None:
    def main() -> None:
        errors = zio.Channel[BaseException](1)
        outbound = Outbound(here().loop, 8 << 20, errors.try_send)
        socket = Interrupted(5, KeyboardInterrupt())
        error, socket.error = socket.error, None
        outbound.connected(socket, 1 << 20, [])  # type: ignore[arg-type]
        outbound._draining = True  # nobody but this test writes what is left
        outbound.lines.extend((b"PUB a 3", b"one", b"PUB a 3", b"two"))
        outbound.accepted += 6
        outbound.flush()
        socket.error, outbound._draining = error, False
        with pytest.raises(KeyboardInterrupt):
            outbound.flush()
        left_behind(outbound, errors, KeyboardInterrupt(), 2)

    zio.run(main)


class InterruptedLines(list[bytes]):
    """A signal handler raises before a batch is taken from it, or when the loop has added something afterwards."""

    def __init__(self, error: BaseException, *, first: bool) -> None:
        super().__init__()
        self.error: BaseException | None = error
        self.first = first

    def __delitem__(self, which: Any) -> None:
        error, self.error = self.error, None
        if error is not None and self.first:
            raise error
        super().__delitem__(which)
        if error is not None:
            self.extend(LATER)
            raise error


@INTERRUPTIONS
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_an_interruption_while_a_batch_is_taken_from_the_queue_counts_it_once(
    error: BaseException, first: bool, background_runtime: zio.Runtime
) -> None:
    errors = zio.Channel[BaseException](1)
    outbound = Outbound(background_runtime.loop, 8 << 20, errors.try_send)
    outbound.lines = outbound._kept._lines = InterruptedLines(error, first=first)
    background_runtime.call(outbound.connected, Socket(100), 1 << 20, [])
    with pytest.raises(type(error)):
        outbound.append_from_thread(b"PUB a 3", b"one", at_once=True)
    background_runtime.call(left_behind, outbound, errors, error, 1)


def test_an_error_of_the_socket_keeps_what_was_not_written() -> None:
    def main() -> None:
        errors = zio.Channel[BaseException](1)
        error = ConnectionResetError(errno.ECONNRESET, "reset")
        outbound = Outbound(here().loop, 8 << 20, errors.try_send)
        outbound.connected(Interrupted(0, error), 1 << 20, [])  # type: ignore[arg-type]
        outbound.append_from_thread(b"PUB a 3", b"one", at_once=True)
        assert errors.recv(timeout=30) is error
        assert outbound.disconnected() == (0, 0)
        assert outbound.lines == [b"PUB a 3", b"one"]

    zio.run(main)


def test_an_odd_error_of_a_stream_in_the_home_loop_ends_the_connection_and_not_the_run() -> None:
    """Nobody called who could be given it; and it may have come after the bytes had gone out."""

    def main() -> None:
        errors = zio.Channel[BaseException](1)
        error = RuntimeError("a codec")
        outbound = Outbound(here().loop, 8 << 20, errors.try_send)
        outbound.connected(Interrupted(100, error), 1 << 20, [])  # type: ignore[arg-type]
        publish(outbound, b"one")
        outbound.flush()
        assert errors.recv(timeout=30) is error
        assert outbound.disconnected() == (1, 3)

    zio.run(main)


def test_an_odd_error_of_a_stream_in_another_thread_is_the_connections() -> None:
    """Signal handlers run in the main thread only."""

    def main() -> None:
        errors = zio.Channel[BaseException](1)
        error = RuntimeError("a codec")
        outbound = Outbound(here().loop, 8 << 20, errors.try_send)
        outbound.connected(Interrupted(0, error), 1 << 20, [])  # type: ignore[arg-type]
        thread = threading.Thread(target=outbound.append_from_thread, args=(b"PUB a 3", b"one", True))
        thread.start()
        thread.join()
        assert errors.recv(timeout=30) is error
        assert outbound.disconnected() == (0, 0)
        assert outbound.lines == [b"PUB a 3", b"one"]

    zio.run(main)


def test_an_interruption_where_the_socket_is_full_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        loop = here().loop
        errors = zio.Channel[BaseException](1)
        outbound = Outbound(loop, 8 << 20, errors.try_send)
        outbound.connected(Socket(5), 1 << 20, [])  # type: ignore[arg-type]
        post = type(loop).post

        def interrupted(self: Any, fn: Any, *args: Any, **options: Any) -> None:
            if fn == outbound._start_draining:
                monkeypatch.undo()
                raise KeyboardInterrupt
            post(self, fn, *args, **options)

        monkeypatch.setattr(type(loop), "post", interrupted)
        with pytest.raises(KeyboardInterrupt):
            outbound.append_from_thread(b"PUB a 3", b"one", at_once=True)
        errors.recv(timeout=30)
        outbound.disconnected()
        socket = Socket(5)
        outbound.connected(socket, 1 << 20, [])  # type: ignore[arg-type]
        publish(outbound, b"two")
        outbound.flush()
        socket.give(100)
        zio.testing.wait_all_parked()
        assert socket.got == b"PUB a 3\r\ntwo\r\n"

    zio.run(main)
