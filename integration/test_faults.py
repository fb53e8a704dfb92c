"""One server that is killed, restarted, shut down and frozen while clients work with it."""

from __future__ import annotations

import time
from typing import Any

import pytest

import nats_zio
import zio
from integration.containers import NatsContainer
from nats_zio.events import Connected, Disconnected, LameDuck, Reconnected, ReconnectFailed
from tests.client.helpers import away, eventually, next_event, read_all
from tests.client.load import Load

KILLS = 20


def survive(server: NatsContainer, load: Load) -> None:
    load.survive(KILLS, kill=server.kill, freeze=server.pause, start=server.start_again)
    load.finish()


@pytest.mark.timeout(200)
def test_killed_and_restarted_twenty_times_under_load(server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with Load([server.url], subject) as load:
            survive(server, load)

    zio.run(body)


@pytest.mark.timeout(200)
def test_killed_and_restarted_twenty_times_under_load_of_plain_threads(server: NatsContainer, subject: str) -> None:
    try:
        with Load([server.url], subject, threads=True) as load:
            survive(server, load)
    finally:
        zio.background().close()


@pytest.mark.timeout(120)
def test_shut_down_and_restart_under_traffic(server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with Load([server.url], subject) as load:
            for number in (1, 2):
                load.run_for(0.5)
                away(server.shut_down)
                load.run_for(0.2)
                away(server.start_again)
                load.await_reconnects(dict.fromkeys(load.clients, number))
            load.finish()

    zio.run(body)


@pytest.mark.timeout(120)
def test_frozen_under_traffic_until_stale(server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with Load([server.url], subject, ping_interval=0.5, max_outstanding_pings=2, connect_timeout=0.5) as load:
            load.run_for(0.5)
            away(server.pause)
            begin = time.monotonic()
            try:
                eventually(lambda: not any(client.is_connected for client in load.clients), "all find it stale")
                # One interval to notice the silence, two for pings, one until the last one counts as unanswered.
                assert time.monotonic() - begin < 4 * 0.5 + 3
                load.run_for(1.5)
            finally:
                away(server.unpause)
            load.await_reconnects(dict.fromkeys(load.clients, 1))
            for client in load.clients:
                (lost,) = load.books[client].of(Disconnected)
                assert isinstance(lost.error, nats_zio.StaleConnectionError)
            load.finish(late=True)

    zio.run(body)


def test_a_short_freeze_is_no_disconnect(run: Any, server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(server.url, ping_interval=1.0, max_outstanding_pings=3) as nc:
            events = nc.events()
            sub = nc.subscribe(subject)
            nc.flush()
            away(server.pause)
            try:
                for number in range(100):
                    nc.publish(subject, b"%d" % number)
                with pytest.raises(nats_zio.TimeoutError):
                    nc.flush(timeout=0.3)
                with pytest.raises(nats_zio.TimeoutError):
                    nc.request(subject, b"", timeout=0.2)
                zio.sleep(1.5)
            finally:
                away(server.unpause)
            assert [sub.next().data for _ in range(100)] == [b"%d" % number for number in range(100)]
            nc.flush()
            assert not [event for event in read_all(events) if isinstance(event, Disconnected)]
            sub.unsubscribe()

    run(body)


def test_a_frozen_server_holds_up_connect_no_longer_than_its_timeout(run: Any, server: NatsContainer) -> None:
    def body() -> None:
        away(server.pause)
        try:
            begin = time.monotonic()
            with pytest.raises(nats_zio.NoServersError) as caught:
                nats_zio.connect(server.url, connect_timeout=0.5)
            assert time.monotonic() - begin < 3
            assert isinstance(caught.value.errors[server.url], nats_zio.TimeoutError)
        finally:
            away(server.unpause)

    run(body)


def test_events_of_a_kill_and_what_was_buffered(run: Any, server: NatsContainer, subject: str) -> None:
    """What is published without a connection arrives after it, in order, by subscriptions made meanwhile too."""

    def body() -> None:
        with nats_zio.connect(server.url, reconnect_max_wait=0.5) as nc:
            events = nc.events()
            early = nc.subscribe(subject)
            nc.publish(subject, b"before")
            nc.flush()
            assert early.next().data == b"before"
            away(server.kill)
            lost = next_event(events, Disconnected)
            assert isinstance(lost.error, (OSError, nats_zio.Error))
            assert (lost.unflushed_msgs, lost.unflushed_bytes) == (0, 0), "all that was published had been confirmed"
            assert nc.status is nats_zio.Status.RECONNECTING
            late = nc.subscribe(subject)
            for number in range(100):
                nc.publish(subject, b"%d" % number)
            assert isinstance(next_event(events, ReconnectFailed).error, (OSError, EOFError, nats_zio.Error))
            away(server.start_again)
            assert next_event(events, Reconnected).url == server.url
            expected = [b"%d" % number for number in range(100)]
            assert [early.next().data for _ in range(100)] == expected
            assert [late.next().data for _ in range(100)] == expected
            assert nc.stats.reconnects == 1
            early.unsubscribe()
            late.unsubscribe()

    run(body)


def test_killed_while_the_socket_is_full(server: NatsContainer, subject: str) -> None:
    """The server reads nothing more, a message is cut off in the middle, the server dies: what was written before is
    lost and reported to the last message, and all the rest arrives."""
    count, size = 500, 64 << 10

    def body() -> None:
        with nats_zio.connect(server.url, reconnect_max_wait=0.5, reconnect_buffer_size=64 << 20) as nc:
            events = nc.events()
            sub = nc.subscribe(subject)
            nc.flush()
            away(server.pause)

            def publish() -> None:
                for number in range(count):
                    nc.publish(subject, b"%06d" % number * (size // 6))

            publishing = zio.spawn(publish)
            zio.sleep(0.5)
            assert not publishing.done, "the sockets on the way have taken all of it"
            away(server.kill)
            lost = next_event(events, Disconnected)
            away(server.start_again)
            next_event(events, Reconnected)
            publishing.join(20)
            assert 0 < lost.unflushed_msgs < count
            assert lost.unflushed_bytes == lost.unflushed_msgs * (size // 6 * 6)
            for number in range(lost.unflushed_msgs, count):
                assert sub.next().data == b"%06d" % number * (size // 6)
            nc.flush()
            assert sub.pending_msgs == 0
            assert nc.stats.reconnects == 1

    zio.run(body)


def test_remaining_count_survives_a_restart(run: Any, server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(server.url, reconnect_max_wait=0.5) as nc:
            events = nc.events()
            sub = nc.subscribe(subject, max_msgs=10)
            for number in range(4):
                nc.publish(subject, b"%d" % number)
            nc.flush()
            away(server.kill)
            away(server.start_again)
            next_event(events, Reconnected)
            for number in range(4, 20):
                nc.publish(subject, b"%d" % number)
            nc.flush()
            assert [message.data for message in sub] == [b"%d" % number for number in range(10)]

    run(body)


def test_a_request_waits_for_the_reconnect(run: Any, server: NatsContainer, subject: str) -> None:
    def body() -> None:
        options = {"reconnect_max_wait": 0.2}
        with nats_zio.connect(server.url, **options) as service, nats_zio.connect(server.url, **options) as nc:
            service.subscribe(subject, cb=lambda message: message.respond(b"here"))
            service.flush()
            assert nc.request(subject).data == b"here"
            away(server.kill)
            eventually(lambda: not nc.is_connected and not service.is_connected)
            with pytest.raises(nats_zio.TimeoutError):
                nc.request(subject, timeout=0.2)
            away(server.start_again)
            eventually(lambda: service.is_connected)
            service.flush()
            assert nc.request(subject, timeout=10).data == b"here"

    run(body)


def test_attempts_that_are_used_up_close_the_client(run: Any, server: NatsContainer, subject: str) -> None:
    def body() -> None:
        nc = nats_zio.connect(server.url, max_reconnect_attempts=3, reconnect_wait=0.05)
        sub = nc.subscribe(subject)
        nc.flush()
        away(server.kill)
        with pytest.raises(nats_zio.ConnectionClosedError):
            sub.next(timeout=20)
        eventually(lambda: nc.is_closed)
        with pytest.raises(nats_zio.ConnectionClosedError):
            nc.publish(subject, b"")
        nc.close()

    run(body)


def test_lame_duck_is_noticed(run: Any, server: NatsContainer, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(server.url, reconnect_max_wait=0.5) as nc:
            events = nc.events()
            sub = nc.subscribe(subject)
            nc.flush()
            away(server.lame_duck)
            next_event(events, LameDuck)
            next_event(events, Disconnected, limit=40)
            away(server.await_exit)
            away(server.start_again)
            assert not isinstance(next_event(events, Reconnected), Connected)
            nc.publish(subject, b"back")
            assert sub.next().data == b"back"
            sub.unsubscribe()

    run(body)
