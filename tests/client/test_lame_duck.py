"""A server that announces its end: the client says so, and goes to another one in time, losing nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import events
from nats_zio.session import lame_duck
from nats_zio.testing import NatsCluster, ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.helpers import away, next_event
from zio.testing import SimNetwork, run_virtual

pytestmark = pytest.mark.simulated

Servers = dict[str, ScriptedServer]


def with_servers(main: Callable[[Servers], None], *names: str, seed: int = 1, **options: Any) -> None:
    def start() -> None:
        with ExitStack() as stack:
            main({name: stack.enter_context(ScriptedServer(name, 4222, **options)) for name in names})

    run_virtual(start, seed=seed, network=SimNetwork(seed))


URLS = ["nats://a:4222", "nats://b:4222"]


def test_it_is_told_once_and_left_at_a_random_moment() -> None:
    left: list[float] = []

    def main(servers: Servers) -> None:
        with nats_zio.connect(URLS, no_randomize=True) as nc:
            seen = nc.events()
            start = zio.now()
            servers["a"].lame_duck()
            servers["a"].info()
            assert next_event(seen, events.LameDuck).url == "nats://a:4222"
            lost = next_event(seen, events.Disconnected, limit=60)
            assert isinstance(lost.error, nats_zio.DisconnectedError)
            assert "lame duck" in str(lost.error)
            assert (lost.unflushed_msgs, lost.unflushed_bytes) == (0, 0)
            left.append(zio.now() - start)
            next_event(seen, events.Reconnected)
            assert nc.connected_url == "nats://b:4222"
            zio.sleep(60)
            assert not any(isinstance(seen.recv(), events.LameDuck) for _ in range(len(seen)))

    for seed in range(8):
        with_servers(main, "a", "b", seed=seed)
    assert max(left) <= lame_duck.GRACE + 1
    assert max(left) - min(left) > lame_duck.GRACE / 4


def test_with_no_other_server_the_client_stays_until_the_end() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect("nats://a:4222") as nc:
            seen = nc.events()
            servers["a"].lame_duck()
            next_event(seen, events.LameDuck)
            zio.sleep(120)
            nc.flush()
            assert nc.stats.reconnects == 0

    with_servers(main, "a")


def test_without_reconnecting_the_client_stays_too() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(URLS, no_randomize=True, allow_reconnect=False) as nc:
            servers["a"].lame_duck()
            zio.sleep(60)
            nc.flush()
            assert nc.connected_url == "nats://a:4222"

    with_servers(main, "a", "b")


@pytest.mark.slow
def test_nothing_that_is_published_meanwhile_is_lost_or_comes_twice() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(URLS, no_randomize=True) as nc:
            sent = 0
            servers["a"].lame_duck()
            seen = nc.events()
            while not any(isinstance(seen.recv(), events.Reconnected) for _ in range(len(seen))):
                for _ in range(50):
                    nc.publish("data", b"%d" % sent)
                    sent += 1
                zio.sleep(0.003)
            nc.flush()
            arrived = [
                int(command.data)
                for name in "ab"
                for client in servers[name].all_clients
                for command in client.commands
                if command.verb == "PUB"
            ]
            assert arrived == list(range(sent))
            assert sent > 1000

    with_servers(main, "a", "b")


def test_a_request_under_way_has_its_reply() -> None:
    def answer(message: nats_zio.Message) -> None:
        zio.sleep(1.5)
        message.respond(b"reply")

    def main(servers: Servers) -> None:
        services = [nats_zio.connect(url, ignore_discovered_servers=True) for url in URLS]
        for service in services:
            service.subscribe("slow", cb=answer)
            service.flush()
        with nats_zio.connect(URLS, no_randomize=True) as nc:
            seen = nc.events()
            servers["a"].clients[1].send(servers["a"].clients[1].info_line(ldm=True))
            while not any(isinstance(seen.recv(), events.Reconnected) for _ in range(len(seen))):
                assert nc.request("slow", timeout=5).data == b"reply"
        for service in services:
            service.close()

    for seed in range(5):
        with_servers(main, "a", "b", seed=seed)


def test_a_server_that_answers_nothing_any_more_is_left_all_the_same() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(URLS, no_randomize=True) as nc:
            seen = nc.events()
            nc.publish("x", b"in doubt")
            servers["a"].lame_duck()
            servers["a"].pong = "drop"
            lost = next_event(seen, events.Disconnected, limit=60)
            assert (lost.unflushed_msgs, lost.unflushed_bytes) == (1, 8)
            next_event(seen, events.Reconnected)

    with_servers(main, "a", "b")


def test_close_while_it_waits_to_leave_ends_at_once() -> None:
    def main(servers: Servers) -> None:
        nc = nats_zio.connect(URLS, no_randomize=True)
        servers["a"].lame_duck()
        nc.flush()
        start = zio.now()
        nc.close()
        assert zio.now() - start < 0.1

    with_servers(main, "a", "b")


@pytest.mark.slow
def test_in_a_real_cluster(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lame_duck, "GRACE", 0.5)
    with NatsCluster(2, jetstream=False) as cluster:

        def main() -> None:
            with nats_zio.connect(cluster.urls[0]) as nc:
                seen = nc.events()
                away(cluster.servers[0].lame_duck)
                next_event(seen, events.LameDuck)
                assert next_event(seen, events.Disconnected).unflushed_msgs == 0
                next_event(seen, events.Reconnected)
                assert nc.connected_url == cluster.urls[1]
                nc.flush()

        run(main)
        cluster.servers[0].kill()  # it would take its time


@pytest.mark.parametrize("moment", [0.0, 0.5, 3.0])
def test_a_drain_ends_in_its_order_though_its_server_announces_its_end(moment: float) -> None:
    """Before, in or after its first steps; the client goes nowhere else, and the handler finishes."""

    def main(servers: Servers) -> None:
        handled: list[bytes] = []

        def handle(message: nats_zio.Message) -> None:
            zio.sleep(1)
            handled.append(message.data)

        nc = nats_zio.connect(URLS, no_randomize=True)
        nc.subscribe("x", cb=handle)
        for number in range(5):
            nc.publish("x", b"%d" % number)
        nc.flush()
        seen = nc.events()
        draining = zio.spawn(nc.drain)
        zio.sleep(moment)
        servers["a"].lame_duck()
        report = draining.join(timeout=30)
        assert handled == [b"0", b"1", b"2", b"3", b"4"]
        assert (report.unread_msgs, report.timed_out) == (0, False)
        assert type(seen.recv(timeout=1)) is events.LameDuck
        assert [type(event) for event in seen][-1] is events.Closed
        zio.sleep(60)
        assert not servers["b"].clients

    for seed in range(6):
        with_servers(main, "a", "b", seed=seed)


def test_a_client_that_was_sent_away_before_it_had_left_stays_where_it_is_then() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(URLS, no_randomize=True) as nc:
            seen = nc.events()
            servers["a"].lame_duck()
            next_event(seen, events.LameDuck)
            servers["a"].stop()
            next_event(seen, events.Reconnected)
            zio.sleep(60)
            assert nc.connected_url == "nats://b:4222"
            assert nc.stats.reconnects == 1
            assert len(seen) == 0

    for seed in range(6):
        with_servers(main, "a", "b", seed=seed)


def test_a_server_whose_socket_takes_no_more_is_left_and_no_task_is_harmed() -> None:
    """What it had not taken goes to the next one."""

    def main(servers: Servers) -> None:
        network = zio.lowlevel.here().loop.runtime.network
        with nats_zio.connect(URLS, no_randomize=True) as nc:
            network.change_links(latency=0.5)  # so that there is time between the PING and its PONG
            seen = nc.events()
            servers["a"].lame_duck()

            def stop(client: ServedClient, command: Command) -> None:
                if command.verb == "PING":
                    network.connections[0].up.allow(0)
                    nc.publish("x", b"kept")

            servers["a"].on_command = stop
            lost = next_event(seen, events.Disconnected, limit=60)
            assert (lost.unflushed_msgs, lost.unflushed_bytes) == (0, 0)
            next_event(seen, events.Reconnected)
            assert [zio.spawn(lambda: "ran").join(timeout=1) for _ in range(20)] == ["ran"] * 20
            nc.flush()
            served = servers["b"].clients[0]
            assert [command.data for command in served.commands if command.verb == "PUB"] == [b"kept"]

    with_servers(main, "a", "b")
