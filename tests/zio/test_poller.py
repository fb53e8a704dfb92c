"""The two pollers: chosen by the environment, woken from any thread, with no registration left."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

import zio
from zio._core.poller import READ, WRITE, EpollPoller, Pollable, Poller, SelectPoller, make_poller
from zio._core.waiter import CANCELLED, WOKEN

linux = pytest.mark.skipif(not hasattr(select, "epoll"), reason="about epoll")


class _Fiber:
    """Stands for the fiber of a waiter; the poller only puts it into the ready queue."""


@pytest.fixture(params=[pytest.param("epoll", marks=linux), "select"])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Poller]:
    monkeypatch.setenv("ZIO_POLLER", request.param)
    poller = make_poller()
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    left.setblocking(False)
    with left, right:
        yield left, right


def wait_for(poller: Poller, pollable: Pollable, direction: int = READ) -> zio.lowlevel.Waiter:
    waiter = zio.lowlevel.Waiter(_Fiber(), "test")  # type: ignore[arg-type]
    if direction == READ:
        pollable.reader = waiter
    else:
        pollable.writer = waiter
    if poller.must_arm:
        poller.arm(pollable, direction)
    return waiter


@linux
def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, kind in (("", EpollPoller), ("epoll", EpollPoller), ("select", SelectPoller)):
        monkeypatch.setenv("ZIO_POLLER", value)
        poller = make_poller()
        assert type(poller) is kind
        poller.close()


def test_data_wakes_the_reader_once(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    ready: deque[Any] = deque()
    pollable = poller.add(left.fileno())
    poller.poll(0, ready)
    pollable.readable = False
    waiter = wait_for(poller, pollable)
    right.send(b"x")
    poller.poll(1, ready)
    assert list(ready) == [waiter.fiber]
    assert waiter.state == WOKEN
    assert pollable.readable
    poller.poll(0, ready)
    assert len(ready) == 1


def test_a_claimed_waiter_is_left_alone_and_the_edge_is_kept(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    """T41"""
    left, right = pair
    ready: deque[Any] = deque()
    pollable = poller.add(left.fileno())
    poller.poll(0, ready)
    pollable.readable = False
    wait_for(poller, pollable).state = CANCELLED
    right.send(b"x")
    poller.poll(1, ready)
    assert not ready
    assert pollable.readable


def test_reader_and_writer_are_woken_apart(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    """T44"""
    left, right = pair
    ready: deque[Any] = deque()
    while True:
        try:
            left.send(b"x" * 65536)
        except BlockingIOError:
            break
    pollable = poller.add(left.fileno())
    poller.poll(0, ready)
    reader, writer = wait_for(poller, pollable, READ), wait_for(poller, pollable, WRITE)
    right.send(b"x")
    poller.poll(1, ready)
    assert (reader.state, writer.state) == (WOKEN, 0)
    right.setblocking(False)
    try:
        while right.recv(1 << 20):
            pass
    except BlockingIOError:
        pass
    poller.poll(1, ready)
    assert writer.state == WOKEN


@linux
def test_the_end_of_the_stream_marks_the_descriptor_for_good(pair: tuple[socket.socket, socket.socket]) -> None:
    """T42"""
    left, right = pair
    poller = EpollPoller()
    pollable = poller.add(left.fileno())
    ready: deque[Any] = deque()
    right.send(b"x")
    poller.poll(0, ready)
    assert not pollable.hangup
    right.shutdown(socket.SHUT_WR)
    poller.poll(1, ready)
    assert pollable.hangup
    poller.close()


def test_removed_means_forgotten(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    """T43"""
    left, right = pair
    ready: deque[Any] = deque()
    pollable = poller.add(left.fileno())
    waiter = wait_for(poller, pollable)
    poller.remove(pollable)
    poller.remove(pollable)
    right.send(b"x")
    poller.poll(0, ready)
    assert not ready
    assert not waiter.state


def test_remove_by_the_old_owner_leaves_the_new_owner_of_the_number_alone(poller: Poller) -> None:
    """T43: the old one was closed behind our back, armed and all."""
    ready: deque[Any] = deque()
    old_left, old_right = socket.socketpair()
    old = poller.add(old_left.fileno())
    wait_for(poller, old)
    old_left.close()
    left, right = socket.socketpair()
    with left, right, old_right:
        assert left.fileno() == old.fd
        pollable = poller.add(left.fileno())
        poller.remove(old)
        poller.poll(0, ready)
        ready.clear()
        waiter = wait_for(poller, pollable)
        right.send(b"x")
        poller.poll(1, ready)
        assert waiter.state == WOKEN
        poller.remove(pollable)


def test_a_descriptor_that_is_added_again_gets_a_state_of_its_own(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    """T43: its first owner went away without a word."""
    left, right = pair
    ready: deque[Any] = deque()
    poller.add(left.fileno())
    pollable = poller.add(left.fileno())
    poller.poll(0, ready)
    waiter = wait_for(poller, pollable)
    right.send(b"x")
    poller.poll(1, ready)
    assert waiter.state == WOKEN


@linux
def test_an_event_of_a_registration_that_a_child_keeps_alive_does_no_harm() -> None:
    """T43: another process holds a copy of a closed descriptor, so the kernel keeps reporting its number."""
    poller = EpollPoller()
    ready: deque[Any] = deque()
    left, right = socket.socketpair()
    number = left.fileno()
    poller.add(number)
    copy = os.dup(number)  # what a child would hold
    left.close()
    poller._table.clear()
    right.send(b"x")
    poller.poll(1, ready)
    assert not ready
    os.close(copy)
    right.close()
    poller.close()


def test_another_thread_wakes_a_sleeping_poll(poller: Poller) -> None:
    """T53"""
    ready: deque[Any] = deque()
    for _ in range(100):
        thread = threading.Thread(target=poller.wake)
        thread.start()
        poller.poll(10, ready)
        thread.join()
    assert not ready


def test_wakes_that_nobody_collects_never_block(poller: Poller) -> None:
    """T53: as many as fit into no socket buffer."""
    for _ in range(20_000):
        poller.wake()
    ready: deque[Any] = deque()
    poller.poll(10, ready)
    poller.poll(0, ready)
    assert not ready


def test_one_write_to_the_signal_descriptor_wakes_a_poll(poller: Poller) -> None:
    """T54"""
    ready: deque[Any] = deque()
    for _ in range(10):
        os.write(poller.signal_fd(), b"\x02")
        poller.poll(10, ready)
    assert not ready


@linux
def test_a_short_wait_is_no_whole_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is below a millisecond is for a call that takes microseconds; long waits have no call more than before."""
    asked: list[float] = []
    real = select.select

    def recording(*args: Any) -> Any:
        asked.append(args[3])
        return real(*args)

    monkeypatch.setattr(select, "select", recording)
    poller, ready = EpollPoller(), deque[Any]()
    try:
        poller.poll(0.0001, ready)
        poller.poll(0.0025, ready)
        assert asked == pytest.approx([0.0001, 0.0005])
        poller.poll(0, ready)
        poller.wake()
        poller.poll(1, ready)
        poller.wake()
        poller.poll(None, ready)
        assert len(asked) == 2
    finally:
        poller.close()


@linux
def test_a_short_wait_sees_what_comes(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    poller, ready = EpollPoller(), deque[Any]()
    try:
        pollable = poller.add(left.fileno())
        poller.poll(0, ready)
        pollable.readable = False
        right.send(b"x")
        poller.poll(0.0005, ready)
        assert pollable.readable
    finally:
        poller.close()
