"""What a client keeps, and what it tells, when its server goes away and comes back."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import ClosedReason, Status
from nats_zio.events import Closed, Disconnected, Reconnected, ReconnectFailed
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, Peer, away, eventually, next_event

Run = Callable[..., Any]

FAST: dict[str, Any] = {"reconnect_wait": 0.01, "reconnect_max_wait": 0.02}


def _lose(server: NatsServer, events: Any) -> Disconnected:
    away(server.kill)
    return next_event(events, Disconnected)  # type: ignore[no-any-return]


def _regain(server: NatsServer, events: Any) -> None:
    away(server.start)
    next_event(events, Reconnected)


def _status(nc: nats_zio.Client) -> Status:
    return nc.status  # a call, since type checkers take an attribute for unchanged


def test_subscriptions_go_on_and_deliver_once(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, **FAST) as nc:
            events = nc.events()
            sub, wild, member = nc.subscribe("a"), nc.subscribe("*"), nc.subscribe("a", queue="q")
            _lose(server, events)
            _regain(server, events)
            with Peer(server.url) as peer:
                peer.publish("a", b"1", b"2")
                nc.flush()
                for each in (sub, wild, member):
                    assert [message.data for message in each.next_batch(10)] == [b"1", b"2"]
                    assert each.pending_msgs == 0

    run(main)


@pytest.mark.slow
def test_ten_thousand_subscriptions_and_their_groups_go_on(run: Run, server: NatsServer) -> None:
    count = 10_000

    def main() -> None:
        with nats_zio.connect(server.url, **FAST) as nc:
            subs = [nc.subscribe(f"a.{number}", queue="team" if number % 2 else None) for number in range(count)]
            nc.flush(timeout=LIMIT)
            events = nc.events()
            _lose(server, events)
            _regain(server, events)
            nc.flush(timeout=LIMIT)
            assert server.monitor("/subsz")["num_subscriptions"] >= count
            for number in range(count):
                nc.publish(f"a.{number}", b"%d" % number)
            nc.flush(timeout=LIMIT)
            assert [[int(message.data) for message in sub.next_batch(10)] for sub in subs] == [
                [number] for number in range(count)
            ]

    run(main)


def test_unsubscribed_and_subscribed_while_disconnected_is_what_counts_afterwards(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, **FAST) as nc:
            events = nc.events()
            gone, kept = nc.subscribe("gone"), nc.subscribe("kept")
            _lose(server, events)
            gone.unsubscribe()
            new = nc.subscribe("new")
            _regain(server, events)
            for subject in ("gone", "kept", "new"):
                nc.publish(subject, subject)
            nc.flush()
            assert kept.next().data == b"kept"
            assert new.next().data == b"new"
            assert nc.stats.in_msgs == 2

    run(main)


def test_a_limit_counts_what_came_before_the_reconnect(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, **FAST) as nc:
            events = nc.events()
            sub = nc.subscribe("a", max_msgs=5)
            for number in range(3):
                nc.publish("a", b"%d" % number)
            nc.flush()
            _lose(server, events)
            _regain(server, events)
            for number in range(3, 10):
                nc.publish("a", b"%d" % number)
            nc.flush()
            assert [int(message.data) for message in sub] == [0, 1, 2, 3, 4]
            assert sub.closed_reason is ClosedReason.LIMIT_REACHED
            assert nc.stats.in_msgs == 5

    run(main)


def test_a_limit_set_after_the_reconnect_counts_what_came_before(run: Run, server: NatsServer) -> None:
    """Else the server would go on handing messages of the queue group to a member that has left."""

    def main() -> None:
        with nats_zio.connect(server.url, **FAST) as nc:
            events = nc.events()
            leaving = nc.subscribe("a", queue="q")
            for _ in range(3):
                nc.publish("a")
            nc.flush()
            _lose(server, events)
            _regain(server, events)
            leaving.unsubscribe(after=5)
            nc.flush()
            staying = nc.subscribe("a", queue="q")
            nc.flush()
            for _ in range(100):
                nc.publish("a")
            nc.flush()
            assert len(list(leaving)) + staying.pending_msgs == 103

    run(main)


def test_publishes_while_disconnected_arrive_in_order_exactly_once(run: Run, server: NatsServer) -> None:
    count = 1000

    def main() -> None:
        with nats_zio.connect(server.url, **FAST) as nc:
            events = nc.events()
            sub = nc.subscribe("a")
            _lose(server, events)
            for number in range(count):
                nc.publish("a", b"%d" % number)
            nc.publish("a", b"h", headers={"k": "v"})
            _regain(server, events)
            nc.flush()
            taken = [message.data for message in sub.next_batch(2 * count)]
            assert taken == [b"%d" % number for number in range(count)] + [b"h"]
            assert nc.stats.out_msgs == count + 1

    run(main)


def test_a_client_in_use_loses_no_order_and_repeats_nothing(server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, **FAST) as nc:
            events = nc.events()
            taken: list[int] = []
            answers: Counter[str] = Counter()
            stop = zio.Event()

            def publish() -> None:
                number = 0
                while not stop.wait(0):
                    nc.publish("stream", b"%d" % number)
                    number += 1
                    if number % 10 == 0:
                        zio.sleep(0.0005)

            def take() -> None:
                taken.extend(int(message.data) for message in sub)

            def ask() -> None:
                while not stop.wait(0):
                    try:
                        assert nc.request("echo", b"?", timeout=LIMIT).data == b"?"
                        answers["answered"] += 1
                    except nats_zio.DisconnectedError:
                        answers["disconnected"] += 1

            def go_on(requests: int) -> None:
                """Wait until there are so many more answers, and messages."""
                answered, received = answers["answered"], len(taken)
                eventually(lambda: answers["answered"] >= answered + requests and len(taken) > received)

            sub = nc.subscribe("stream")
            nc.subscribe("echo", cb=lambda message: message.respond(message.data))
            with zio.TaskGroup() as group:
                group.spawn(take)
                group.spawn(publish)
                for _ in range(5):
                    group.spawn(ask)
                for _ in range(3):
                    go_on(20)
                    _lose(server, events)
                    _regain(server, events)
                    go_on(1)
                stop.set()
                nc.flush()
                sub.drain()
            assert taken == sorted(set(taken))
            assert nc.stats.reconnects == 3
            assert len(nc._core.requests) == 0

    zio.run(main)


def test_a_full_reconnect_buffer_raises_and_keeps_what_it_has(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, reconnect_buffer_size=1000, **FAST) as nc:
            events = nc.events()
            sub = nc.subscribe("a")
            _lose(server, events)
            for number in range(8):  # 113 bytes each, with "PUB a 100" around them
                nc.publish("a", b"%d" % number * 100)
            with pytest.raises(nats_zio.ReconnectBufferFullError, match=r"100 bytes .* the 904 of 1000"):
                nc.publish("a", b"8" * 100)
            nc.publish("a", b"9" * 96)
            assert nc.stats.out_msgs == 9
            _regain(server, events)
            nc.flush()
            assert [message.data[:1] for message in sub.next_batch(100)] == [b"%d" % n for n in (*range(8), 9)]
            nc.publish("a", b"y" * 2000)
            assert sub.next().data == b"y" * 2000

    run(main)


def test_empty_messages_fill_the_reconnect_buffer_too(run: Run, server: NatsServer) -> None:
    def publish_without_end(nc: nats_zio.Client) -> None:
        for _ in range(1000):
            nc.publish("a")

    def main() -> None:
        with nats_zio.connect(server.url, reconnect_buffer_size=1000, **FAST) as nc:
            events = nc.events()
            for outage in range(1, 3):
                _lose(server, events)
                with pytest.raises(nats_zio.ReconnectBufferFullError):
                    publish_without_end(nc)
                assert nc.stats.out_msgs == outage * 91  # of 11 bytes; the last one begins before 1000
                _regain(server, events)
                nc.flush()

    run(main)


def test_a_reconnect_buffer_of_nothing_refuses_every_message(run: Run, server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url, reconnect_buffer_size=0, **FAST)
        events = nc.events()
        _lose(server, events)
        for data in (b"x", b""):
            with pytest.raises(nats_zio.ReconnectBufferFullError):
                nc.publish("a", data)
        nc.close()

    run(main)


def test_without_reconnecting_the_client_closes_when_the_link_breaks(run: Run, server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url, allow_reconnect=False)
        events = nc.events()
        sub = nc.subscribe("a")
        away(server.kill)
        kinds: list[type] = []
        with pytest.raises(nats_zio.ConnectionClosedError):
            kinds.extend(type(event) for event in events)
        assert kinds == [Disconnected, Closed]
        assert nc.status is Status.CLOSED
        assert sub.closed_reason is ClosedReason.CONNECTION_LOST
        with pytest.raises(nats_zio.ConnectionClosedError):
            list(sub)
        for call in (lambda: nc.publish("a"), lambda: nc.request("a"), lambda: nc.subscribe("a"), nc.flush):
            with pytest.raises(nats_zio.ConnectionClosedError):
                call()
        nc.close()

    run(main)


def test_when_the_attempts_are_used_up_the_client_closes_with_no_servers_error(run: Run, server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url, max_reconnect_attempts=3, **FAST)
        events = nc.events()
        sub = nc.subscribe("a")
        away(server.kill)
        seen: list[Any] = []
        with pytest.raises(nats_zio.ConnectionClosedError):
            seen.extend(events)
        assert [type(event) for event in seen] == [Disconnected, *[ReconnectFailed] * 3, Closed]
        assert {event.url for event in seen if isinstance(event, ReconnectFailed)} == {server.url}
        assert isinstance(seen[-1], Closed)
        error = seen[-1].error
        assert isinstance(error, nats_zio.NoServersError)
        assert isinstance(error.errors[server.url], ConnectionRefusedError)
        with pytest.raises(nats_zio.SubscriptionClosedError) as caught:
            sub.next()
        assert caught.value.reason is ClosedReason.CONNECTION_LOST

    run(main)


def test_attempts_count_from_the_last_success(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, max_reconnect_attempts=1000, **FAST) as nc:
            events = nc.events()
            for _ in range(2):
                _lose(server, events)
                next_event(events, ReconnectFailed)
                _regain(server, events)
            assert nc.is_connected

    run(main)


def test_another_server_takes_over(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with (
            NatsServer() as other,
            nats_zio.connect([server.url, other.url], no_randomize=True, **FAST) as nc,
        ):
            events = nc.events()
            sub = nc.subscribe("a")
            assert nc.connected_url == server.url
            away(server.kill)
            assert next_event(events, Reconnected).url == other.url
            assert nc.connected_url == other.url
            assert nc.server_info.server_id == other.info["server_id"]
            nc.publish("a", b"x")
            assert sub.next().data == b"x"

    run(main)


def test_the_events_tell_the_story_in_order(run: Run, server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url, **FAST)
        events = nc.events()
        assert _status(nc) is Status.CONNECTED
        away(server.kill)
        first = events.recv(timeout=LIMIT)
        assert isinstance(first, Disconnected)
        assert _status(nc) is Status.RECONNECTING
        assert not nc.is_connected
        assert nc.connected_url is None
        assert isinstance(events.recv(timeout=LIMIT), ReconnectFailed)
        away(server.start)
        assert next_event(events, Reconnected).url == server.url
        assert _status(nc) is Status.CONNECTED
        assert nc.stats.reconnects == 1
        nc.close()
        assert list(events) == [Closed(None)]

    run(main)


def test_every_receiver_of_events_gets_all_of_them(run: Run, server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url, **FAST)
        receivers = [nc.events(), nc.events()]
        _lose(server, nc.events())
        nc.close()
        stories = [
            [type(event) for event in receiver if not isinstance(event, ReconnectFailed)] for receiver in receivers
        ]
        assert stories == [[Disconnected, Closed]] * 2
        assert list(nc.events()) == []

    run(main)


def test_disconnected_counts_what_was_accepted_since_the_last_proof(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, **FAST) as nc:
            events = nc.events()
            for _ in range(5):
                nc.publish("a", b"12345")
            nc.flush()
            away(server.pause)
            for _ in range(3):
                nc.publish("a", b"123")
            nc.publish("a", b"12", headers={"k": "v"})
            header = len(nats_zio.protocol.encode_headers({"k": "v"}))
            outcome = zio.select(events, pause=zio.after(0.05))  # so that they are written
            assert outcome[0] == "pause"
            event = _lose(server, events)
            assert (event.unflushed_msgs, event.unflushed_bytes) == (4, 11 + header)
            assert event.error is not None
            nc.publish("a", b"1")
            _regain(server, events)
            nc.flush()
            event = _lose(server, events)
            assert (event.unflushed_msgs, event.unflushed_bytes) == (0, 0)
            away(server.start)

    run(main)


def test_force_reconnect_makes_a_new_connection_and_keeps_everything(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            events = nc.events()
            sub = nc.subscribe(subject)
            nc.flush()
            before = nc.server_info.client_id
            nc.force_reconnect()
            assert isinstance(events.recv(timeout=LIMIT), Disconnected)
            assert isinstance(events.recv(timeout=LIMIT), Reconnected)
            assert nc.server_info.client_id != before
            nc.publish(subject, b"x")
            assert sub.next().data == b"x"
            assert nc.stats.reconnects == 1

    run(main)


def test_force_reconnect_works_where_reconnecting_is_switched_off(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, allow_reconnect=False) as nc:
            events = nc.events()
            for _ in range(2):
                nc.force_reconnect()
                next_event(events, Reconnected)
            nc.flush()

    run(main)


def test_what_was_published_just_before_force_reconnect_is_sent(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nats_zio.connect(nats_server.url) as other:
            sub = other.subscribe(subject)
            other.flush()
            for number in range(100):
                nc.publish(subject, b"%d" % number)
            nc.force_reconnect()
            nc.publish(subject, b"last")
            # Two connections have no order between them.
            expected = {b"%d" % number for number in range(100)} | {b"last"}
            assert {sub.next(timeout=LIMIT).data for _ in range(101)} == expected
            assert sub.pending_msgs == 0

    run(main)


def test_flush_waits_for_the_reconnect_within_its_timeout(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, **FAST) as nc:
            events = nc.events()
            _lose(server, events)
            for call in (nc.flush, nc.rtt):
                with pytest.raises(nats_zio.TimeoutError):
                    call(timeout=0.02)
            sub = nc.subscribe("a")
            nc.publish("a", b"x")
            away(server.start)
            nc.flush(timeout=LIMIT)
            assert sub.pending_msgs == 1

    run(main)


def test_a_flush_under_way_when_the_link_breaks_raises_disconnected_error(server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url, **FAST)
        server.pause()

        def flush() -> BaseException | None:
            try:
                nc.flush(timeout=None)
            except nats_zio.Error as exc:
                return exc
            return None

        tasks = [zio.spawn(flush) for _ in range(3)]
        zio.testing.wait_all_parked()
        zio.to_thread(server.kill)
        assert [type(task.join()) for task in tasks] == [nats_zio.DisconnectedError] * 3
        nc.close()

    zio.run(main)


def test_close_while_reconnecting_ends_at_once_and_releases_who_waits(run: Run, server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url)
        events = nc.events()
        _lose(server, events)
        nc.close()
        assert nc.is_closed
        with pytest.raises(nats_zio.ConnectionClosedError):
            nc.flush()

    run(main)


def test_close_during_an_attempt_to_reconnect_leaves_no_socket(run: Run, server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url, **FAST)
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
        events = nc.events()
        _lose(server, events)
        # A listener in the server's place that never says anything.
        with socket.create_server(("127.0.0.1", server.port)) as silent:
            silent.settimeout(LIMIT)
            away(silent.accept)[0].close()
            away(silent.accept)[0].close()
            nc.close()
        if before:
            assert len(os.listdir("/proc/self/fd")) < before  # noqa: PTH208

    run(main)


def test_reconnect_waits_grow_and_are_bounded(server: NatsServer) -> None:
    class Refusing(zio.net.SystemNetwork):
        refuse = False

        def connect(self, host: str, port: int) -> zio.net.Stream:
            if self.refuse:
                moments.append(zio.now())
                raise ConnectionRefusedError("refused")
            return super().connect(host, port)

    moments: list[float] = []
    network = Refusing()

    def main() -> None:
        nc = nats_zio.connect(
            server.url, reconnect_wait=0.02, reconnect_max_wait=0.08, reconnect_jitter=0, max_reconnect_attempts=6
        )
        network.refuse = True
        events = nc.events()
        nc.force_reconnect()
        next_event(events, Closed)

    zio.Runtime(network=network).run(main)
    waits = [round(later - earlier, 3) for earlier, later in pairwise(moments)]
    for wait, least in zip(waits, [0.02, 0.04, 0.08, 0.08, 0.08], strict=True):
        assert least <= wait < least + LIMIT
