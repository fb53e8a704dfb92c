"""Limits of pending messages: what is dropped, how it is counted and told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import nats_zio
import zio
from nats_zio import ClosedReason
from nats_zio.events import SlowConsumer
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, eventually, next_event

Run = Callable[..., object]


def _publish(nc: nats_zio.Client, subject: str, *payloads: bytes) -> None:
    """Publish, and wait until all has come back."""
    for payload in payloads:
        nc.publish(subject, payload)
    nc.flush()


def _pending(sub: nats_zio.Subscription) -> list[bytes]:
    taken = []
    while (message := sub.try_next()) is not None:
        taken.append(message.data)
    return taken


def test_drop_new_keeps_the_oldest(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject, pending_msgs=2) as sub:
            _publish(nc, subject, b"1", b"22", b"333", b"4444")
            assert (sub.dropped, sub.dropped_bytes) == (2, 7)
            assert _pending(sub) == [b"1", b"22"]

    run(main)


def test_drop_old_keeps_the_newest(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with (
            nats_zio.connect(nats_server.url) as nc,
            nc.subscribe(subject, pending_msgs=2, overflow="drop_old") as sub,
        ):
            _publish(nc, subject, b"1", b"22")
            _publish(nc, subject, b"333", b"4444")
            assert (sub.dropped, sub.dropped_bytes) == (2, 3)
            assert _pending(sub) == [b"333", b"4444"]

    run(main)


def test_error_ends_the_subscription_after_what_was_pending(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, pending_msgs=2, overflow="error")
            _publish(nc, subject, b"1", b"2", b"3")
            assert sub.closed_reason is ClosedReason.SLOW_CONSUMER
            assert [message.data for message in sub.next_batch(10)] == [b"1", b"2"]
            with pytest.raises(nats_zio.SlowConsumerError) as caught:
                list(sub)
            assert caught.value.dropped == 1
            with pytest.raises(nats_zio.SlowConsumerError):
                sub.next()
            _publish(nc, subject, b"4")
            assert sub.dropped == 1

    run(main)


@pytest.mark.parametrize("overflow", ["drop_new", "drop_old"])
def test_the_limit_of_bytes_counts_payload_and_headers(
    run: Run, nats_server: NatsServer, subject: str, overflow: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            header = len(nats_zio.protocol.encode_headers({"a": "b"}))
            size = 10 + header
            sub = nc.subscribe(subject, pending_bytes=2 * size, overflow=overflow)
            for digit in b"123":
                nc.publish(subject, bytes([digit]) * 10, headers={"a": "b"})
            nc.flush()
            assert sub.pending_bytes == 2 * size
            assert (sub.dropped, sub.dropped_bytes) == (1, size)
            expected = [b"1" * 10, b"2" * 10] if overflow == "drop_new" else [b"2" * 10, b"3" * 10]
            assert _pending(sub) == expected

    run(main)


@pytest.mark.parametrize("overflow", ["drop_new", "drop_old"])
def test_a_message_larger_than_the_limit_is_dropped_and_the_next_is_not(
    run: Run, nats_server: NatsServer, subject: str, overflow: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, pending_bytes=10, overflow=overflow)
            _publish(nc, subject, b"x" * 11)
            _publish(nc, subject, b"small")
            assert _pending(sub) == [b"small"]
            assert sub.dropped == 1

    run(main)


def test_a_message_that_could_never_fit_throws_nothing_else_out(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, pending_bytes=10, overflow="drop_old")
            _publish(nc, subject, b"one", b"two")
            _publish(nc, subject, b"x" * 11)
            assert _pending(sub) == [b"one", b"two"]
            assert (sub.dropped, sub.dropped_bytes) == (1, 11)

    run(main)


def test_the_limits_are_exact_however_the_messages_come(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, pending_msgs=10, pending_bytes=1000)
            for _ in range(3):
                _publish(nc, subject, *[b"x" * 100] * 4)
            assert (sub.pending_msgs, sub.dropped) == (10, 2)
            sub.next_batch(7)
            _publish(nc, subject, *[b"y" * 100] * 7)
            assert (sub.pending_msgs, sub.pending_bytes, sub.dropped) == (10, 1000, 2)

    run(main)


def test_slow_consumer_is_told_once_per_episode(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            events = nc.events()
            sub = nc.subscribe(subject, pending_msgs=2)
            _publish(nc, subject, *[b"x"] * 5)
            _publish(nc, subject, *[b"x"] * 5)
            event = next_event(events, SlowConsumer)
            assert event.sub is sub
            assert event.dropped >= 1
            assert len(events) == 0
            _pending(sub)
            _publish(nc, subject, b"x")
            assert len(events) == 0
            _publish(nc, subject, b"x", b"x")
            assert next_event(events, SlowConsumer).dropped == sub.dropped == 9
            assert len(events) == 0

    run(main)


def test_an_episode_is_over_when_what_is_pending_has_fallen_to_half_the_limits(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            seen = nc.events()
            sub = nc.subscribe(subject, pending_bytes=10)
            _publish(nc, subject, b"12345678", b"too much for it")
            assert next_event(seen, SlowConsumer).dropped == 1
            _publish(nc, subject, b"x", b"too much for it")  # one fits, near the limit: still the same episode
            assert (sub.dropped, len(seen)) == (2, 0)
            assert [sub.next().data, sub.next().data] == [b"12345678", b"x"]
            _publish(nc, subject, b"fits", b"too much for it")
            assert next_event(seen, SlowConsumer).dropped == 3
            assert len(seen) == 0

    run(main)


def test_overload_at_the_limit_is_one_episode(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            seen = nc.events()
            sub = nc.subscribe(subject, pending_msgs=8)
            for _ in range(20):
                _publish(nc, subject, b"x", b"x")
                if len(sub) == 8:
                    sub.next()
            assert sub.dropped > 5
            assert next_event(seen, SlowConsumer).dropped == 1
            assert len(seen) == 0

    run(main)


def test_a_consumer_that_waits_is_not_slow(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, pending_msgs=1)
            tasks = [zio.spawn(sub.next) for _ in range(4)]
            zio.testing.wait_all_parked()
            _publish(nc, subject, *[b"x"] * 5)
            assert [task.join().data for task in tasks] == [b"x"] * 4
            assert (sub.dropped, sub.pending_msgs) == (0, 1)

    zio.run(main)


def test_a_slow_handler_has_the_same_limits(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        taken: list[bytes] = []
        started, go = zio.Event(), zio.Event()

        def handle(message: nats_zio.Message) -> None:
            taken.append(message.data)
            started.set()
            assert go.wait(timeout=LIMIT)

        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=handle, pending_msgs=2)
            _publish(nc, subject, b"1")
            assert started.wait(timeout=LIMIT)
            _publish(nc, subject, b"2", b"3", b"4")
            assert (sub.pending_msgs, sub.dropped) == (2, 1)
            go.set()
        assert taken == [b"1", b"2", b"3"]

    run(main)


def test_set_pending_limits_holds_from_then_on(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            sub.set_pending_limits(1, None)
            _publish(nc, subject, b"1", b"2")
            assert (sub.pending_msgs, sub.dropped) == (1, 1)
            sub.set_pending_limits(None, None)
            _publish(nc, subject, b"3", b"4")
            assert (sub.pending_msgs, sub.dropped) == (3, 1)
            sub.set_pending_limits(None, 3)
            _publish(nc, subject, b"5")
            assert (sub.pending_msgs, sub.dropped) == (3, 2)
            for bad in (0, -1, 2.5):
                with pytest.raises(nats_zio.OptionError):
                    sub.set_pending_limits(bad, None)  # type: ignore[arg-type]
                with pytest.raises(nats_zio.OptionError):
                    sub.set_pending_limits(None, bad)  # type: ignore[arg-type]

    run(main)


def test_the_limits_of_the_client_hold_where_the_subscription_names_none(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, pending_msgs=2, overflow="drop_old") as nc:
            ours, own = nc.subscribe(subject), nc.subscribe(subject, pending_msgs=None, overflow="drop_new")
            _publish(nc, subject, b"1", b"2", b"3")
            assert _pending(ours) == [b"2", b"3"]
            assert _pending(own) == [b"1", b"2", b"3"]

    run(main)


def test_dropped_messages_count_towards_max_msgs(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, max_msgs=4, pending_msgs=2)
            _publish(nc, subject, *[b"x"] * 6)
            assert sub.closed_reason is ClosedReason.LIMIT_REACHED
            assert (sub.pending_msgs, sub.dropped) == (2, 2)

    run(main)


def test_a_slow_consumer_costs_the_others_nothing(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        taken: list[bytes] = []
        payloads = [b"%d" % number for number in range(2000)]
        with nats_zio.connect(nats_server.url) as nc:
            slow = nc.subscribe(subject, pending_msgs=1)
            quick, handled = nc.subscribe(subject), nc.subscribe(subject, cb=lambda message: taken.append(message.data))
            _publish(nc, subject, *payloads)
            assert [message.data for message in quick.next_batch(3000)] == payloads
            assert (slow.pending_msgs, slow.dropped) == (1, 1999)
            handled.drain()
        assert taken == payloads

    run(main)


def test_a_slow_handler_is_drained_of_what_was_kept(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        taken: list[bytes] = []
        go = zio.Event()

        def handle(message: nats_zio.Message) -> None:
            assert go.wait(timeout=LIMIT)
            taken.append(message.data)

        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=handle, pending_msgs=3, overflow="drop_old")
            _publish(nc, subject, b"first")
            eventually(lambda: sub.pending_msgs == 0)
            _publish(nc, subject, *[b"%d" % number for number in range(100)])
            go.set()
            sub.drain()
            assert taken == [b"first", b"97", b"98", b"99"]
            assert (sub.delivered, sub.dropped, sub.closed_reason) == (4, 97, ClosedReason.DRAINED)

    run(main)
