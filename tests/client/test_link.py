"""flush, rtt, liveness, counts, and the options that change how the link behaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.events import Disconnected, LameDuck, Reconnected
from nats_zio.session.liveness import Liveness
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, Peer, away, eventually, next_event

Run = Callable[..., Any]


def test_flush_proves_that_the_server_has_everything(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    received = peer.subscribe(subject)

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            for _ in range(100):
                nc.publish(subject, b"x" * 1000)
            nc.flush()
            away(lambda: peer.do(peer.nc.flush(60)))
            assert received.qsize() == 100

    run(main)


def test_flush_and_rtt_raise_timeout_error_when_the_server_is_silent(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, request_timeout=0.02) as nc:
            away(server.pause)
            try:
                for call in (nc.flush, nc.rtt, lambda: nc.flush(timeout=0.01)):
                    with pytest.raises(nats_zio.TimeoutError) as caught:
                        call()
                    assert isinstance(caught.value, TimeoutError)
            finally:
                away(server.resume)
            nc.flush(timeout=LIMIT)

    run(main)


def test_a_cancelled_flush_does_not_disturb_the_next_one(server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc, nc.subscribe("a") as sub:
            server.pause()
            for _ in range(3):
                with zio.move_on_after(0.01):
                    nc.flush()
            server.resume()
            for number in range(5):
                nc.publish("a", b"%d" % number)
                nc.flush()
                assert sub.pending_msgs == number + 1

    zio.run(main)


def test_rtt_is_a_time_in_seconds(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            before = time.monotonic()
            rtt = nc.rtt()
            assert 0 < rtt <= time.monotonic() - before

    run(main)


def test_stats_count_messages_and_bytes_exactly(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            assert nc.stats == nats_zio.Stats(0, 0, 0, 0, 0)
            nc.subscribe(subject)
            nc.subscribe(subject, cb=lambda message: None)
            header = len(nats_zio.protocol.encode_headers({"a": "b"}))
            for _ in range(10):
                nc.publish(subject, b"12345")
            nc.publish(subject, b"123", headers={"a": "b"})
            with pytest.raises(nats_zio.NoRespondersError):
                nc.request(subject + ".nobody", b"1234567")
            nc.flush()
            stats = nc.stats
            assert (stats.out_msgs, stats.out_bytes) == (12, 50 + 3 + header + 7)
            no_responders = stats.in_bytes - 2 * (50 + 3 + header)
            assert stats.in_msgs == 2 * 11 + 1
            assert no_responders > len(b"NATS/1.0 503\r\n\r\n") - 1
        assert nc.stats == stats

    run(main)


def test_stats_go_on_over_a_reconnect(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject):
            for _ in range(3):
                events = nc.events()
                for _ in range(4):
                    nc.publish(subject, b"123")
                nc.flush()
                nc.force_reconnect()
                next_event(events, Reconnected)
            assert nc.stats == nats_zio.Stats(12, 12, 36, 36, 3)

    run(main)


def test_stats_count_what_threads_publish(background_runtime: object, nats_server: NatsServer, subject: str) -> None:
    with nats_zio.connect(nats_server.url) as nc:
        for _ in range(1000):
            nc.publish(subject, b"12")
        assert (nc.stats.out_msgs, nc.stats.out_bytes) == (1000, 2000)


def test_no_echo_keeps_own_messages_away(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, no_echo=True) as nc, nc.subscribe(subject) as sub:
            nc.publish(subject, b"own")
            nc.flush()
            away(peer.publish, subject, b"other")
            assert sub.next().data == b"other"
            assert sub.pending_msgs == 0

    run(main)


@pytest.mark.parametrize("options", [{"verbose": True}, {"pedantic": True}, {"verbose": True, "pedantic": True}])
def test_verbose_and_pedantic_change_nothing_for_the_user(
    run: Run, nats_server: NatsServer, subject: str, options: dict[str, bool]
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, **options) as nc:
            events = nc.events()
            nc.subscribe(subject + ".echo", cb=lambda message: message.respond(message.data))
            sub = nc.subscribe(subject, max_msgs=100)
            for number in range(100):
                nc.publish(subject, b"%d" % number, headers={"a": "b"} if number % 2 else None)
            assert [int(message.data) for message in sub] == list(range(100))
            assert nc.request(subject + ".echo", b"x").data == b"x"
            nc.flush()
            assert len(events) == 0

    run(main)


def test_a_server_that_freezes_is_given_up_and_taken_again(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(
            server.url, ping_interval=0.05, max_outstanding_pings=2, reconnect_wait=0.01, connect_timeout=0.3
        ) as nc:
            events = nc.events()
            sub = nc.subscribe("a")
            nc.flush()
            away(server.pause)
            try:
                event = events.recv(timeout=LIMIT)
            finally:
                away(server.resume)
            assert isinstance(event, Disconnected)
            assert isinstance(event.error, nats_zio.StaleConnectionError)
            next_event(events, Reconnected)
            nc.publish("a", b"x")
            assert sub.next().data == b"x"

    run(main)


@pytest.fixture
def intervals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A 1 for each interval after which the client has looked whether it heard something."""
    seen: list[int] = []
    expire = Liveness.expire

    def counted(self: Liveness) -> None:
        seen.append(1)
        expire(self)

    monkeypatch.setattr(Liveness, "expire", counted)
    return seen


@pytest.mark.slow
def test_a_quiet_link_is_kept_alive_by_pings(run: Run, server: NatsServer, intervals: list[int]) -> None:
    def main() -> None:
        # Patient enough for a busy machine: it is the PONGs that keep the link, not the speed at which they come.
        with nats_zio.connect(server.url, ping_interval=0.05, max_outstanding_pings=60) as nc:
            events = nc.events()
            connection = server.monitor("/connz?sort=cid")["connections"][0]
            eventually(lambda: sum(intervals) > 70)
            assert len(events) == 0
            assert server.monitor("/connz")["connections"][0]["cid"] == connection["cid"]
            assert nc.is_connected

    run(main)


@pytest.mark.slow
def test_a_frozen_server_that_wakes_in_time_is_kept(run: Run, server: NatsServer, intervals: list[int]) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, ping_interval=0.1, max_outstanding_pings=200) as nc:
            events = nc.events()
            away(server.pause)
            frozen = sum(intervals)
            eventually(lambda: sum(intervals) > frozen + 3)
            away(server.resume)
            nc.flush(timeout=LIMIT)
            awake = sum(intervals)
            eventually(lambda: sum(intervals) > awake + 3)
            assert len(events) == 0

    run(main)


@pytest.mark.slow
def test_pings_of_the_server_are_answered_while_the_program_computes(background_runtime: object) -> None:
    with NatsServer(config='ping_interval: "50ms"\nping_max: 50\n') as server, nats_zio.connect(server.url) as nc:
        events = nc.events()
        until = time.monotonic() + 3.5
        while time.monotonic() < until:
            sum(range(1000))
        assert len(events) == 0
        assert nc.is_connected


def test_a_server_in_lame_duck_mode_says_so(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            events = nc.events()
            server.lame_duck()
            assert next_event(events, LameDuck).url == server.url
            assert nc.is_connected
            assert nc.server_info.ldm
            server.kill()  # it would take its time
            nc.close()

    run(main)


def test_the_state_of_a_client_may_be_asked_from_any_thread(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, name="asked") as nc:

            def ask() -> None:
                assert nc.is_connected
                assert nc.status is nats_zio.Status.CONNECTED
                assert nc.connected_url == nats_server.url
                assert "asked" in repr(nc)
                nc.flush()
                assert nc.rtt() > 0
                with nc.subscribe(subject) as sub:
                    nc.publish(subject, b"x")
                    assert sub.next().data == b"x"

            zio.to_thread(ask)

    zio.run(main)


def test_an_idle_client_uses_no_message_of_its_own(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            nc.flush()
            assert nc.stats.out_msgs == nc.stats.in_msgs == 0
            eventually(lambda: nc.status is nats_zio.Status.CONNECTED)

    run(main)
