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

    lends_sending = True

    def send_noted(self, data: bytes | memoryview, noted: list[int], allowed: list[Any]) -> Exception | None:
        if allowed:
            noted.append(self.send_some(data))
        return None

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


class Struck(Socket):
    """Takes what it has room for, and notes it; and then a signal handler raises."""

    def __init__(self, room: int, error: BaseException) -> None:
        super().__init__(room)
        self.error: BaseException | None = error

    def send_noted(self, data: bytes | memoryview, noted: list[int], allowed: list[Any]) -> Exception | None:
        super().send_noted(data, noted, allowed)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return None


class Layered(Socket):
    """A stream in Python, TLS say: a signal handler raises in the middle of it, and what went out is not known."""

    lends_sending = False

    def __init__(self, room: int, error: BaseException) -> None:
        super().__init__(room)
        self.error: BaseException | None = error

    def send_noted(self, data: bytes | memoryview, noted: list[int], allowed: list[Any]) -> Exception | None:
        sent = self.send_some(data)
        error, self.error = self.error, None
        if isinstance(error, OSError):
            return error
        if error is not None:
            raise error
        noted.append(sent)
        return None


INTERRUPTIONS = pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), RuntimeError("a limit"), TimeoutError("an alarm")],
    ids=lambda error: type(error).__name__,
)


@INTERRUPTIONS
@pytest.mark.parametrize("room", [0, 5, 100], ids=["before", "in a frame", "after"])
def test_what_a_signal_handler_raises_in_a_write_is_raised_and_the_message_goes_out_once(
    error: BaseException, room: int, background_runtime: zio.Runtime
) -> None:
    errors = zio.Channel[BaseException](1)
    outbound = Outbound(background_runtime.loop, 8 << 20, errors.try_send)
    socket = Struck(room, error)
    background_runtime.call(outbound.connected, socket, 1 << 20, [])
    with pytest.raises(type(error)):
        outbound.append_from_thread(b"PUB a 3", b"one", at_once=True)
    background_runtime.call(socket.give, 100)
    background_runtime.call(zio.testing.wait_all_parked)
    outbound.append_from_thread(b"PUB a 3", b"two", at_once=True)
    background_runtime.call(zio.testing.wait_all_parked)
    assert socket.got == b"PUB a 3\r\none\r\nPUB a 3\r\ntwo\r\n"
    assert len(errors) == 0
    assert (outbound.accepted_msgs, outbound.pending) == (2, 0)


def test_a_stream_in_python_that_is_struck_ends_and_what_it_was_given_is_in_doubt() -> None:
    """None of it is sent again."""

    def main() -> None:
        errors = zio.Channel[BaseException](1)
        outbound = Outbound(here().loop, 8 << 20, errors.try_send)
        outbound.connected(Layered(100, KeyboardInterrupt()), 1 << 20, [])  # type: ignore[arg-type]
        publish(outbound, b"one")
        with pytest.raises(KeyboardInterrupt):
            outbound.flush()
        lost = errors.recv(timeout=30)
        assert type(lost) is nats_zio.DisconnectedError
        assert "KeyboardInterrupt" in str(lost)
        publish(outbound, b"two")  # by somebody who has not heard of it yet
        assert outbound.disconnected() == (1, 3)
        socket = Socket(100)
        outbound.connected(socket, 1 << 20, [b"SUB a 1\r\n"])  # type: ignore[arg-type]
        outbound.flush()
        assert socket.got == b"SUB a 1\r\nPUB a 3\r\ntwo\r\n"
        assert (outbound.accepted_msgs, outbound.pending) == (2, 0)

    zio.run(main)


def test_a_plain_thread_leaves_writing_to_the_loop_where_the_stream_is_no_socket() -> None:
    """A layer in Python may be in the middle of something, in the loop's thread."""

    def main() -> None:
        errors = zio.Channel[BaseException](1)
        outbound = Outbound(here().loop, 8 << 20, errors.try_send)
        socket = Layered(100, ValueError())
        socket.error = None
        outbound.connected(socket, 1 << 20, [])  # type: ignore[arg-type]
        thread = threading.Thread(target=outbound.append_from_thread, args=(b"PUB a 3", b"one", True))
        thread.start()
        thread.join()
        assert len(socket.got) == 0
        zio.testing.wait_all_parked()
        assert socket.got == b"PUB a 3\r\none\r\n"

    zio.run(main)


def test_an_error_of_the_socket_keeps_what_was_not_written() -> None:
    def main() -> None:
        errors = zio.Channel[BaseException](1)
        error = ConnectionResetError(errno.ECONNRESET, "reset")
        outbound = Outbound(here().loop, 8 << 20, errors.try_send)
        outbound.connected(Layered(0, error), 1 << 20, [])  # type: ignore[arg-type]
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
        outbound.connected(Layered(100, error), 1 << 20, [])  # type: ignore[arg-type]
        publish(outbound, b"one")
        outbound.flush()
        assert "RuntimeError" in str(errors.recv(timeout=30))
        assert outbound.disconnected() == (1, 3)

    zio.run(main)


def test_an_interruption_where_the_socket_is_full_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        loop = here().loop
        errors = zio.Channel[BaseException](1)
        outbound = Outbound(loop, 8 << 20, errors.try_send)
        socket = Socket(5)
        outbound.connected(socket, 1 << 20, [])  # type: ignore[arg-type]
        post = type(loop).post

        def interrupted(self: Any, fn: Any, *args: Any, **options: Any) -> None:
            if fn == outbound._start_draining:
                monkeypatch.undo()
                raise KeyboardInterrupt
            post(self, fn, *args, **options)

        monkeypatch.setattr(type(loop), "post", interrupted)
        with pytest.raises(KeyboardInterrupt):
            outbound.append_from_thread(b"PUB a 3", b"one", at_once=True)
        publish(outbound, b"two")
        outbound.flush()
        socket.give(100)
        zio.testing.wait_all_parked()
        assert socket.got == b"PUB a 3\r\none\r\nPUB a 3\r\ntwo\r\n"
        assert len(errors) == 0

    zio.run(main)
