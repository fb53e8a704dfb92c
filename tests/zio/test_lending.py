"""A stream lent to a plain thread while a task waits in recv: the thread takes its own, the task has the rest."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import zio
from zio.net.sockets import SocketStream

LIMIT = 10.0


@pytest.fixture(autouse=True)
def _epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIO_POLLER", "epoll")


def pair() -> tuple[SocketStream, socket.socket]:
    """A stream, and the other end as a plain blocking socket."""
    listener = zio.net.listen("127.0.0.1", 0)
    other = socket.create_connection(("127.0.0.1", listener.port))
    stream = listener.accept()
    listener.close()
    return stream, other


def reader(stream: SocketStream) -> tuple[zio.Task[None], list[bytes]]:
    """A task that waits in recv, and what it gets."""
    got: list[bytes] = []

    def read() -> None:
        while data := stream.recv(4096):
            got.append(data)

    task = zio.spawn(read)
    zio.testing.wait_all_parked()
    return task, got


def in_thread(fn: Callable[[], Any]) -> Any:
    return zio.to_thread(fn)


def test_the_thread_takes_its_own_and_the_task_gets_the_rest_in_order() -> None:
    def main() -> None:
        stream, other = pair()
        task, got = reader(stream)

        def borrow() -> bytes:
            loan = stream.lend()
            assert loan is not None
            other.sendall(b"mine;theirs;")
            assert loan.wait(LIMIT)
            seen = loan.peek(100)
            loan.skip(len(b"mine;"))
            other.sendall(b"more")
            stream.end_loan()
            return seen

        assert in_thread(borrow) == b"mine;theirs;"
        other.close()
        task.join(LIMIT)
        assert b"".join(got) == b"theirs;more"
        stream.close()

    zio.run(main)


def test_the_task_does_not_read_while_the_stream_is_lent_whatever_wakes_it() -> None:
    def main() -> None:
        stream, other = pair()
        _task, got = reader(stream)

        def borrow() -> None:
            assert stream.lend() is not None

        def end() -> None:
            stream.end_loan()

        # The pool's thread and the one that ends the loan must be the same one: so it is not the pool's.
        begun, finish = threading.Event(), threading.Event()

        def all_of_it() -> None:
            borrow()
            begun.set()
            assert finish.wait(LIMIT)
            end()

        thread = threading.Thread(target=all_of_it)
        thread.start()
        in_thread(begun.wait)
        other.sendall(b"data")
        loop = zio.lowlevel.here().loop
        stream._io.now_readable(loop.ready)  # an event that was on its way when the loan began
        for _ in range(3):
            zio.sleep(0.01)
        assert got == []
        finish.set()
        in_thread(thread.join)
        with zio.timeout(LIMIT):
            while not got:
                zio.sleep(0.001)
        assert got == [b"data"]
        other.close()
        stream.close()

    zio.run(main)


def test_it_is_lent_only_while_a_task_waits_and_to_one_thread_at_a_time() -> None:
    def main() -> None:
        stream, other = pair()
        assert in_thread(stream.lend) is None  # nobody waits
        task, _got = reader(stream)
        assert stream.lend() is None  # here the loop itself would stand still

        def borrow_twice() -> None:
            assert stream.lend() is not None
            assert stream.lend() is None
            stream.end_loan()
            stream.end_loan()
            assert stream.lend() is not None
            stream.end_loan()

        in_thread(borrow_twice)
        task.cancel()
        zio.testing.wait_all_parked()
        assert in_thread(stream.lend) is None
        other.close()
        stream.close()
        assert in_thread(stream.lend) is None

    zio.run(main)


def test_a_loan_of_another_thread_is_not_ended() -> None:
    def main() -> None:
        stream, other = pair()
        _task, got = reader(stream)
        stream._io.lent_to = -1
        in_thread(stream.end_loan)
        assert stream._io.lent_to == -1
        stream._io.lent_to = None
        other.sendall(b"x")
        with zio.timeout(LIMIT):
            while not got:
                zio.sleep(0.001)
        other.close()
        stream.close()

    zio.run(main)


def test_closing_the_stream_wakes_the_thread() -> None:
    def main() -> None:
        stream, other = pair()
        task, _got = reader(stream)
        begun = threading.Event()

        def borrow() -> tuple[bool, bytes]:
            loan = stream.lend()
            assert loan is not None
            begun.set()
            woken = loan.wait(LIMIT)
            seen = loan.peek(100)
            stream.end_loan()
            return woken, seen

        borrower = zio.spawn(zio.to_thread, borrow)
        in_thread(begun.wait)
        stream.close()
        assert borrower.join(LIMIT) == (True, b"")
        with pytest.raises(zio.Closed):
            task.join(LIMIT)
        other.close()

    zio.run(main)


def test_after_a_loan_a_task_that_waits_for_room_is_woken() -> None:
    def main() -> None:
        stream, other = pair()
        _task, _got = reader(stream)

        def borrow() -> None:
            assert stream.lend() is not None
            stream.end_loan()

        in_thread(borrow)
        data = bytes(16 << 20)
        sender = zio.spawn(stream.send_all, data)
        zio.testing.wait_all_parked()
        assert in_thread(stream.lend) is None  # nor while a task waits for room

        def drain() -> int:
            left = len(data)
            while left:
                left -= len(other.recv(1 << 20))
            return left

        assert in_thread(drain) == 0
        sender.join(LIMIT)
        other.close()
        stream.close()

    zio.run(main)


def test_the_end_of_the_stream_is_told_to_both() -> None:
    def main() -> None:
        stream, other = pair()
        task, _got = reader(stream)

        def borrow() -> tuple[bool, bytes]:
            loan = stream.lend()
            assert loan is not None
            other.close()
            woken = loan.wait(LIMIT)
            seen = loan.peek(100)
            stream.end_loan()
            return woken, seen

        assert in_thread(borrow) == (True, b"")
        task.join(LIMIT)
        stream.close()

    zio.run(main)


def test_where_the_poller_cannot_nothing_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIO_POLLER", "select")

    def main() -> None:
        stream, other = pair()
        task, _got = reader(stream)
        assert in_thread(stream.lend) is None
        other.close()
        task.join(LIMIT)
        stream.close()

    zio.run(main)
