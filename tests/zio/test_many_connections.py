"""Thousands of connections, and much data to a slow peer: descriptors, tasks and memory return to where they were."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zio
from zio.lowlevel import Fiber, here

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

MIB = 1 << 20


def resident() -> int:
    """Bytes of memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def known_to_the_poller() -> int:
    return len(here().loop.poller._table)  # type: ignore[attr-defined]


def tasks() -> int:
    loop = here().loop
    return len(loop.root.kids or ()) + len(loop.system.kids or ())


def state() -> tuple[int, int, int]:
    return descriptors(), known_to_the_poller(), tasks()


def twice(work: Callable[[], object]) -> None:
    """What the first time leaves (fibers, caches of the allocator) the second one uses: it adds next to nothing."""
    before = state()
    work()
    assert state() == before
    gc.collect()
    memory, objects = resident(), len(gc.get_objects())
    work()
    assert state() == before
    gc.collect()
    assert len(gc.get_objects()) - objects < 200
    assert resident() - memory < 4 * MIB


def test_ten_thousand_connections_opened_and_closed_leave_nothing() -> None:
    """One after the other, some of them cut off in the middle of a wait."""

    def five_thousand() -> None:
        with zio.net.listen("127.0.0.1", 0) as listener, zio.TaskGroup() as group:
            group.spawn(listener.serve, lambda stream: stream.send_all(stream.recv(10)))
            for number in range(5000):
                with zio.net.connect("127.0.0.1", listener.port) as stream:
                    stream.send_all(b"hello")
                    if number % 10 == 0:
                        stream.close()
                    else:
                        assert stream.recv(10) == b"hello"
            listener.close()

    zio.run(twice, five_thousand)


def test_a_thousand_connections_accepted_at_once_leave_nothing() -> None:
    count = 1000

    def all_at_once() -> None:
        most = now = 0
        everybody = zio.Event()

        def handler(stream: Any) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            if now == count:
                everybody.set()
            everybody.wait()
            assert stream.recv(1) == b"x"
            stream.send_all(b"y")
            now -= 1

        def client(port: int) -> None:
            with zio.net.connect("127.0.0.1", port) as stream:
                stream.send_all(b"x")
                assert stream.recv(1) == b"y"

        with zio.net.listen("127.0.0.1", 0, backlog=count) as listener, zio.TaskGroup() as group:
            group.spawn(listener.serve, handler)
            with zio.TaskGroup() as clients:
                for _ in range(count):
                    clients.spawn(client, listener.port)
            listener.close()
        assert most == count

    zio.run(twice, all_at_once)


def test_ten_megabytes_to_a_slow_peer_hold_up_nobody_and_leave_nothing() -> None:
    """Others go on meanwhile: a task that works by turns has many of them."""
    data = b"x" * 10_000_000

    def send_to_a_slow_peer() -> None:
        turns = 0

        def slow(stream: Any) -> None:
            left = len(data)
            while left:
                left -= len(stream.recv(50_000))
                zio.sleep(0.001)

        def others() -> None:
            nonlocal turns
            while True:
                zio.sleep(0.001)
                turns += 1

        with zio.net.listen("127.0.0.1", 0) as listener, zio.TaskGroup() as group:
            group.spawn(listener.serve, slow)
            bystander = group.spawn(others)
            with zio.net.connect("127.0.0.1", listener.port) as stream:
                stream.send_all(data)
                stream.shutdown_write()
                assert stream.recv(1) == b""
            bystander.cancel()
            listener.close()
        assert turns > 50

    zio.run(twice, send_to_a_slow_peer)


def test_the_fibers_of_many_connections_are_given_up_with_the_run() -> None:
    def main() -> None:
        with zio.net.listen("127.0.0.1", 0, backlog=500) as listener, zio.TaskGroup() as group:
            group.spawn(listener.serve, lambda stream: stream.recv(1))
            streams = [zio.net.connect("127.0.0.1", listener.port) for _ in range(500)]
            for stream in streams:
                stream.close()
            listener.close()

    zio.run(main)
    gc.collect()
    before = sum(type(thing) is Fiber for thing in gc.get_objects())
    zio.run(main)
    gc.collect()
    assert sum(type(thing) is Fiber for thing in gc.get_objects()) <= before
