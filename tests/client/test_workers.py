"""subscribe(workers=, key=): handlers that run at the same time, and what stays in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.events import CallbackError
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, Peer, eventually, next_event

Run = Callable[..., Any]

A_HANDLER = "handler of"  # in a dump, which shows the lines of the test too


def _numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


class Room:
    """A handler that stays inside until it is let out; tells how many are inside, and what was handled."""

    def __init__(self) -> None:
        self.inside: list[bytes] = []
        self.most = 0
        self.handled: list[bytes] = []
        self.doors: dict[bytes, zio.Event] = {}
        self._lock = threading.Lock()

    def handle(self, message: nats_zio.Message) -> None:
        door = self.door(message.data)
        with self._lock:
            self.inside.append(message.data)
            self.most = max(self.most, len(self.inside))
        assert door.wait(timeout=LIMIT)
        with self._lock:
            self.inside.remove(message.data)
            self.handled.append(message.data)

    def door(self, data: bytes) -> zio.Event:
        with self._lock:
            return self.doors.setdefault(data, zio.Event())

    def await_inside(self, data: bytes) -> None:
        eventually(lambda: data in self.inside)

    def let_out(self, *payloads: bytes) -> None:
        for data in payloads:
            self.door(data).set()


def test_so_many_handlers_run_at_once_and_no_more(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        room = Room()
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=room.handle, workers=3)
            for data in _numbers(7):
                nc.publish(subject, data)
            nc.flush()
            eventually(lambda: len(room.inside) == 3)
            assert sub.pending_msgs == 4
            room.let_out(b"1")
            eventually(lambda: sorted(room.inside) == [b"0", b"2", b"3"])
            room.let_out(*_numbers(7))
        assert sorted(room.handled) == _numbers(7)
        assert room.most == 3

    run(main)


def test_a_message_that_comes_while_others_are_handled_finds_a_free_worker(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        room = Room()
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=room.handle, workers=2)
            for data in _numbers(2):
                nc.publish(subject, data)
                room.await_inside(data)
            room.let_out(*_numbers(2))
        assert sorted(room.handled) == _numbers(2)

    run(main)


def test_one_worker_is_the_default_and_keeps_the_order(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        room = Room()
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=room.handle)
            for data in _numbers(20):
                nc.publish(subject, data)
            room.let_out(*reversed(_numbers(20)))
        assert room.handled == _numbers(20)
        assert room.most == 1

    run(main)


def test_workers_end_when_nothing_is_pending(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            go_on = zio.Event()
            subs = [
                nc.subscribe(subject, cb=lambda message: go_on.wait(), workers=8),
                nc.subscribe(subject, cb=lambda message: go_on.wait(), workers=8, key=lambda message: message.data),
            ]
            nc.flush()
            idle = zio.debug.dump().count("\n")
            for data in _numbers(100):
                nc.publish(subject, data)
            nc.flush()
            eventually(lambda: A_HANDLER in zio.debug.dump())
            go_on.set()
            eventually(lambda: [sub.delivered for sub in subs] == [100, 100])
            eventually(lambda: A_HANDLER not in zio.debug.dump())
            assert zio.debug.dump().count("\n") == idle

    zio.run(main)


def test_an_error_in_one_worker_leaves_the_others_alone(
    run: Run, nats_server: NatsServer, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    def main() -> None:
        taken: list[bytes] = []

        def handle(message: nats_zio.Message) -> None:
            taken.append(message.data)
            if int(message.data) % 3 == 0:
                raise KeyError("broken")

        with nats_zio.connect(nats_server.url) as nc:
            seen = nc.events()
            nc.subscribe(subject, cb=handle, workers=4)
            for data in _numbers(30):
                nc.publish(subject, data)
            failed = {next_event(seen, CallbackError).message.data for _ in range(10)}
            assert failed == set(_numbers(30)[::3])
        assert sorted(taken, key=int) == _numbers(30)

    run(main)


# Keys.


def _shelf(message: nats_zio.Message) -> str:
    return message.subject.rpartition(".")[2]


def test_messages_of_one_key_are_handled_in_order_one_at_a_time(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    keys, count = 11, 40

    def main() -> None:
        taken: dict[str, list[int]] = {f"k{number}": [] for number in range(keys)}
        inside: set[str] = set()

        def handle(message: nats_zio.Message) -> None:
            key = _shelf(message)
            assert key not in inside
            inside.add(key)
            if int(message.data) % 4 == 0:
                nc.rtt()  # waits
            inside.discard(key)
            taken[key].append(int(message.data))

        with nats_zio.connect(nats_server.url) as nc:
            seen = nc.events()
            nc.subscribe(f"{subject}.*", cb=handle, workers=4, key=_shelf)
            nc.flush()
            for number in range(count):
                for key in taken:
                    nc.publish(f"{subject}.{key}", b"%d" % number)
            nc.drain()
            assert not any(isinstance(event, CallbackError) for event in seen)
        assert taken == {key: list(range(count)) for key in taken}

    run(main)


def test_other_keys_go_on_while_one_waits(run: Run, nats_server: NatsServer, subject: str) -> None:
    """Integers are their own hash: with two workers, even ones go to one and odd ones to the other."""

    def main() -> None:
        room = Room()
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=room.handle, workers=2, key=lambda message: int(message.data))
            for data in (b"0", b"2", b"4", b"1", b"3"):
                nc.publish(subject, data)
            room.let_out(b"1", b"3")
            eventually(lambda: room.handled == [b"1", b"3"])
            assert room.inside == [b"0"]
            assert sub.pending_msgs == 2
            room.let_out(b"4", b"2", b"0")
        assert room.handled == [b"1", b"3", b"0", b"2", b"4"]

    run(main)


@pytest.mark.parametrize("key", [lambda message: [], lambda message: 1 // 0])
def test_a_key_that_fails_is_an_event_and_the_next_message_is_handled(
    run: Run, nats_server: NatsServer, subject: str, key: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def main() -> None:
        taken: list[bytes] = []
        with nats_zio.connect(nats_server.url) as nc:
            seen = nc.events()
            sub = nc.subscribe(
                subject,
                cb=lambda message: taken.append(message.data),
                workers=2,
                key=lambda message: key(message) if message.data == b"1" else 0,
            )
            for data in _numbers(3):
                nc.publish(subject, data)
            event = next_event(seen, CallbackError)
            assert event.sub is sub
            assert event.message.data == b"1"
            assert isinstance(event.error, (TypeError, ZeroDivisionError))
        assert taken == [b"0", b"2"]
        assert (sub.delivered, sub.pending_msgs, sub.dropped) == (3, 0, 0)

    run(main)


def test_with_one_worker_there_is_nothing_for_a_key_to_choose(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        taken: list[bytes] = []
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=lambda message: taken.append(message.data), key=lambda message: 1 // 0)
            for data in _numbers(5):
                nc.publish(subject, data)
        assert taken == _numbers(5)

    run(main)


@pytest.mark.parametrize(("overflow", "kept"), [("drop_new", [b"2", b"4", b"3"]), ("drop_old", [b"4", b"3", b"6"])])
def test_the_limits_count_what_waits_for_all_workers_together(
    run: Run, nats_server: NatsServer, subject: str, overflow: str, kept: list[bytes]
) -> None:
    def main() -> None:
        room = Room()
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(
                subject,
                cb=room.handle,
                workers=2,
                key=lambda message: int(message.data),
                pending_msgs=3,
                overflow=overflow,
            )
            for data in (b"0", b"1"):
                nc.publish(subject, data)
                room.await_inside(data)
            for data in (b"2", b"4", b"3", b"6"):
                nc.publish(subject, data)
            nc.flush()
            assert (sub.pending_msgs, sub.pending_bytes, sub.dropped, sub.delivered) == (3, 3, 1, 2)
            room.let_out(*_numbers(7))
        assert sorted(room.handled) == sorted([b"0", b"1", *kept])

    run(main)


def test_unsubscribe_drops_what_waits_for_every_worker(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        room = Room()
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=room.handle, workers=2, key=lambda message: int(message.data))
            for data in _numbers(6):
                nc.publish(subject, data)
            eventually(lambda: len(room.inside) == 2)
            nc.flush()
            sub.unsubscribe()
            assert (sub.pending_msgs, sub.delivered) == (0, 2)
            room.let_out(*_numbers(6))
        assert sorted(room.handled) == _numbers(2)

    run(main)


# Draining.


@pytest.mark.parametrize("key", [None, lambda message: int(message.data)])
@pytest.mark.parametrize("which", ["client", "subscription"])
def test_a_drain_waits_for_all_workers(
    run: Run, nats_server: NatsServer, subject: str, which: str, key: Callable[..., Any] | None
) -> None:
    def main() -> None:
        room = Room()
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject, cb=room.handle, workers=3, key=key)
        for data in _numbers(9):
            nc.publish(subject, data)
        eventually(lambda: len(room.inside) == 3)
        order: list[str] = []

        def let_out() -> None:
            eventually(lambda: sub.closed)
            room.let_out(*_numbers(8))
            eventually(lambda: room.inside == [b"8"] and not sub.pending_msgs)
            zio.sleep(0.02)  # for a drain that would not wait
            order.append("the last one is let out")
            room.let_out(b"8")

        helper = zio.spawn(let_out)
        (nc if which == "client" else sub).drain()
        order.append("drained")
        helper.join()
        assert order == ["the last one is let out", "drained"]
        assert sorted(room.handled) == _numbers(9)
        nc.close()

    run(main)


def test_a_drain_waits_for_the_workers_of_a_subscription_that_has_reached_its_limit(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        room = Room()
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=room.handle, workers=2, max_msgs=2)
            for data in _numbers(2):
                nc.publish(subject, data)
            eventually(lambda: len(room.inside) == 2)
            room.let_out(b"0")
            eventually(lambda: room.inside == [b"1"])
            assert nc.drain(timeout=0.05).timed_out
            room.let_out(b"1")

    run(main)


def test_a_worker_that_drains_waits_for_the_others(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        room = Room()
        arrived, done = zio.Event(), zio.Event()
        seen: list[list[bytes]] = []

        def handle(message: nats_zio.Message) -> None:
            if message.data != b"drain":
                return room.handle(message)
            assert arrived.wait(timeout=LIMIT)
            sub.drain()
            seen.append(sorted(room.handled))
            done.set()
            return None

        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=handle, workers=2)
            for data in (b"0", b"drain", b"1", b"2"):
                nc.publish(subject, data)
            nc.flush()
            arrived.set()
            eventually(lambda: sub.closed)
            room.let_out(b"2", b"1", b"0")
            assert done.wait(timeout=LIMIT)
        assert seen == [[b"0", b"1", b"2"]]

    run(main)


def test_when_all_workers_drain_nobody_waits_for_what_is_left(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        drained: list[int] = []
        arrived, done = zio.Event(), zio.Event()

        def handle(message: nats_zio.Message) -> None:
            assert arrived.wait(timeout=LIMIT)
            sub.drain()
            drained.append(1)
            if len(drained) == 5:
                done.set()

        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=handle, workers=2)
            for data in _numbers(5):
                nc.publish(subject, data)
            nc.flush()
            arrived.set()
            assert done.wait(timeout=LIMIT)

    run(main)
