"""The client asks for proof of what it sends, so that little is in doubt when a connection breaks, at little cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.events import Disconnected
from nats_zio.session.proof import Proof
from nats_zio.testing import NatsServer, ScriptedServer
from tests.client.helpers import eventually
from tests.client.scripted import connected, until
from zio.testing import SimNetwork

Run = Callable[..., Any]


def pings(server: ScriptedServer) -> int:
    """That have come after the handshake's."""
    return sum(command.verb == "PING" for command in server.clients[0].commands) - 1


@pytest.mark.parametrize("pause", [0.001, 0.01, 0.3])
def test_no_more_is_in_doubt_than_what_was_published_in_the_last_moment(pause: float) -> None:
    latency = 0.02

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        times: list[float] = []
        while zio.now() < 5:
            nc.publish("a", b"12345")
            times.append(zio.now())
            zio.sleep(pause)
        now = zio.now()
        server.kill()
        lost: Any = until(seen, Disconnected)[-1]
        recent = sum(time > now - 0.1 - 4 * latency for time in times)
        assert lost.unflushed_msgs <= recent
        assert lost.unflushed_bytes == 5 * lost.unflushed_msgs

    connected(test, network=SimNetwork(1, latency=latency))


def test_it_is_asked_for_ten_times_a_second_at_most() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        for _ in range(1000):
            nc.publish("a")
            zio.sleep(0.01)
        assert 90 <= pings(server) <= 101

    connected(test)


def test_once_all_is_proved_it_is_not_asked_for_again() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        nc.publish("a")
        zio.sleep(1)
        assert pings(server) == 1
        zio.sleep(20)
        assert pings(server) == 1
        nc.publish("a")
        nc.flush()
        zio.sleep(20)
        assert pings(server) == 2

    connected(test, options={"ping_interval": 1000.0})


def test_who_publishes_nothing_asks_for_nothing() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        nc.subscribe("a").unsubscribe()
        zio.sleep(20)
        assert pings(server) == 0

    connected(test, options={"ping_interval": 1000.0})


def test_where_only_the_protocol_speaks_there_is_no_timer_for_it() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        zio.sleep(1)
        nc.subscribe("a")
        nc.flush()
        assert timers() == 0
        nc.publish("a")
        nc.flush()
        assert timers() == 1

    def timers() -> int:
        return sum(isinstance(item, Proof) for _, _, item in zio.lowlevel.here().loop.timers.heap)

    connected(test, options={"ping_interval": 1000.0})


def test_a_server_that_does_not_answer_is_asked_once() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        server.pong = "drop"
        for _ in range(100):
            nc.publish("a")
            zio.sleep(0.1)
        assert pings(server) == 1

    connected(test, options={"ping_interval": 1000.0})


def test_it_is_asked_for_on_the_next_connection_too() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        for _ in range(3):
            nc.publish("a")
            server.clients[0].close()
            until(seen, nats_zio.events.Reconnected)
            nc.publish("a")
            zio.sleep(1)
            assert pings(server) == 1

    connected(test, options={"ping_interval": 1000.0})


@pytest.mark.slow
def test_what_is_published_from_tasks_and_threads_is_proved_by_itself(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            for _ in range(3):
                zio.sleep(0.3)  # with nothing to prove
                nc.publish("a", b"x")
                eventually(lambda: nc._core.outbound.unproved() == (0, 0), "the server has it")

    run(main)
