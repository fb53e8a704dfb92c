"""Several servers: which one is taken, what the cluster makes known, what the user may decide. In simulated time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import events
from nats_zio.testing import NatsCluster, ScriptedServer
from nats_zio.testing.scripted import User
from tests.client.helpers import away, eventually, next_event
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual

Servers = dict[str, ScriptedServer]

PASSWORD = secret()


def with_servers(main: Callable[[Servers], None], *names: str, seed: int = 1, **options: Any) -> None:
    """Run ``main`` with scripted servers on hosts of these names."""

    def start() -> None:
        with ExitStack() as stack:
            main({name: stack.enter_context(ScriptedServer(name, 4222, **options)) for name in names})

    run_virtual(start, seed=seed, network=SimNetwork(seed))


def url(*names: str) -> list[str]:
    return [f"nats://{name}:4222" for name in names]


def told(seen: Any) -> list[Any]:
    return [seen.recv() for _ in range(len(seen))]


# Order.


def test_after_a_loss_the_other_servers_are_tried_before_the_one_that_was_lost() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a", "b", "c"), no_randomize=True) as nc:
            order = []
            for _ in range(4):
                order.append(nc.connected_url)
                seen = nc.events()
                servers[nc.connected_url[7]].clients[0].close()  # type: ignore[index]
                next_event(seen, events.Reconnected)
            assert order == url("a", "b", "c", "a")

    with_servers(main, "a", "b", "c")


def test_clients_spread_over_the_servers_unless_told_not_to() -> None:
    def main(servers: Servers) -> None:
        def taken(**options: Any) -> Counter[str]:
            clients = [nats_zio.connect(url("a", "b", "c"), **options) for _ in range(60)]
            found = Counter(str(nc.connected_url) for nc in clients)
            for nc in clients:
                nc.close()
            return found

        assert min(taken().values()) >= 10
        assert taken(no_randomize=True) == {"nats://a:4222": 60}

    with_servers(main, "a", "b", "c")


def test_the_first_retry_is_at_once_and_the_next_rounds_wait_longer_each_time() -> None:
    def main(servers: Servers) -> None:
        nc = nats_zio.connect(url("a"), reconnect_wait=1.0, reconnect_max_wait=5.0, reconnect_jitter=0.0)
        zio.sleep(60)
        seen = nc.events()
        servers["a"].kill()
        lost = zio.now()
        tries: list[int] = []
        while len(tries) < 6:
            next_event(seen, events.ReconnectFailed)
            tries.append(round(zio.now() - lost))
        assert tries == [0, 1, 3, 7, 12, 17]
        nc.close()

    with_servers(main, "a")


def test_a_server_that_takes_clients_and_drops_them_is_not_stormed() -> None:
    def main(servers: Servers) -> None:
        nc = nats_zio.connect(url("a"), reconnect_wait=0.1, reconnect_max_wait=2.0, reconnect_jitter=0.0)
        zio.sleep(10)
        servers["a"].on_command = lambda client, command: client.close() if command.verb == "PONG" else None
        servers["a"].after_pong = b"PING\r\n"
        servers["a"].clients[0].close()
        zio.sleep(60)
        assert 25 < len(servers["a"].all_clients) < 45
        servers["a"].on_command = None
        zio.sleep(3)
        nc.flush()
        nc.close()

    with_servers(main, "a")


# What the cluster makes known.


def test_the_first_info_makes_servers_known_and_later_ones_more() -> None:
    def main(servers: Servers) -> None:
        said: list[Any] = []
        with nats_zio.connect(url("a"), on_event=said.append) as nc:
            assert nc.discovered_servers == url("b")
            assert nc.servers == url("a", "b")
            servers["a"].info(connect_urls=["a:4222", "b:4222", "c:4222"])
            nc.flush()
            assert nc.discovered_servers == url("b", "c")
        found = [event.servers for event in said if isinstance(event, events.ServersDiscovered)]
        assert found == [url("b"), url("c")]

    with_servers(main, "a", connect_urls=["a:4222", "b:4222"])


def test_the_client_goes_to_a_discovered_server_when_its_own_is_lost() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a")) as nc:
            seen = nc.events()
            servers["a"].kill()
            next_event(seen, events.Reconnected)
            assert nc.connected_url == "nats://b:4222"
            nc.flush()

    with_servers(main, "a", "b", connect_urls=["a:4222", "b:4222"])


def test_discovered_servers_are_ignored_if_so_chosen() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a"), ignore_discovered_servers=True) as nc:
            seen = nc.events()
            servers["a"].info(connect_urls=["b:4222", "c:4222"])
            nc.flush()
            assert (nc.servers, nc.discovered_servers) == (url("a"), [])
            assert not any(isinstance(event, events.ServersDiscovered) for event in told(seen))

    with_servers(main, "a", connect_urls=["a:4222", "b:4222"])


def test_a_discovered_server_that_the_cluster_no_longer_names_is_forgotten() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a")) as nc:
            servers["a"].info(connect_urls=["a:4222", "c:4222"])
            nc.flush()
            assert nc.discovered_servers == url("c")
            servers["a"].info(connect_urls=[])
            nc.flush()
            assert nc.discovered_servers == url("c")

    with_servers(main, "a", connect_urls=["a:4222", "b:4222"])


def test_the_credentials_of_the_url_are_shown_to_discovered_servers_too() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(f"nats://ann:{PASSWORD}@a:4222") as nc:
            seen = nc.events()
            servers["a"].kill()
            next_event(seen, events.Reconnected)
            assert nc.connected_url == "nats://b:4222"
            assert servers["b"].clients[0].options["user"] == "ann"

    with_servers(main, "a", "b", connect_urls=["a:4222", "b:4222"], users={"ann": User(PASSWORD)})


def test_a_real_cluster_makes_its_servers_known_and_is_survived(run: Any) -> None:
    with NatsCluster(3, jetstream=False) as cluster:

        def main() -> None:
            with nats_zio.connect(cluster.urls[0], reconnect_wait=0.02) as nc:
                eventually(lambda: sorted({*nc.servers}) == sorted(cluster.urls))
                seen = nc.events()
                away(cluster.servers[0].kill)
                next_event(seen, events.Reconnected)
                assert nc.connected_url in cluster.urls[1:]
                nc.flush()

        run(main)


# Decided by the user.


def test_set_servers_replaces_the_pool_and_keeps_the_connection() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a")) as nc:
            seen = nc.events()
            nc.set_servers(url("b", "c"))
            nc.flush()
            assert nc.connected_url == "nats://a:4222"
            assert nc.servers == url("b", "c")
            servers["a"].kill()
            next_event(seen, events.Reconnected)
            assert nc.connected_url in url("b", "c")

    with_servers(main, "a", "b", "c")


def test_set_servers_ends_the_wait_before_the_next_attempt() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a"), reconnect_wait=1000.0, reconnect_max_wait=1000.0) as nc:
            zio.sleep(2000)
            seen = nc.events()
            servers["a"].kill()
            next_event(seen, events.ReconnectFailed)
            zio.sleep(1)
            start = zio.now()
            nc.set_servers(url("b"))
            nc.flush(timeout=5)
            assert zio.now() - start < 1
            assert nc.connected_url == "nats://b:4222"

    with_servers(main, "a", "b")


@pytest.mark.parametrize("bad", [[], "", ["http://a"], [1], "nats://:4222"])
def test_set_servers_refuses_what_is_no_server(bad: Any) -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a")) as nc:
            with pytest.raises(nats_zio.OptionError):
                nc.set_servers(bad)
            assert nc.servers == url("a")

    with_servers(main, "a")


def test_next_server_chooses_the_server_and_the_wait() -> None:
    def main(servers: Servers) -> None:
        asked: list[tuple[list[str], str]] = []

        def choose(pool: list[str], info: nats_zio.ServerInfo) -> tuple[str, float]:
            asked.append((sorted(pool), info.server_name))
            return "nats://c:4222", 30.0

        with nats_zio.connect(url("a", "b", "c"), no_randomize=True, next_server=choose) as nc:
            zio.sleep(10)
            seen = nc.events()
            lost = zio.now()
            servers["a"].kill()
            next_event(seen, events.Reconnected, limit=100)
            assert nc.connected_url == "nats://c:4222"
            assert 30 <= zio.now() - lost < 31
            assert asked == [(url("a", "b", "c"), "scripted")]

    with_servers(main, "a", "b", "c")


def test_next_server_may_have_no_opinion() -> None:
    def main(servers: Servers) -> None:
        answers: list[Any] = [None, (None, None), "nats://a:4222"]
        with nats_zio.connect(
            url("a", "b", "c"), no_randomize=True, next_server=lambda pool, info: answers.pop(0)
        ) as nc:
            taken = []
            for _ in range(3):
                seen = nc.events()
                servers[nc.connected_url[7]].clients[0].close()  # type: ignore[index]
                next_event(seen, events.Reconnected)
                taken.append(nc.connected_url)
            assert taken == url("b", "c", "a")

    with_servers(main, "a", "b", "c")


def raises(pool: list[str], info: nats_zio.ServerInfo) -> str:
    raise RuntimeError("a mistake of the user's")


@pytest.mark.parametrize(
    "choose",
    [raises, lambda pool, info: "nats://elsewhere:4222", lambda pool, info: 7, lambda pool, info: (pool[0], "soon")],
)
def test_a_next_server_that_fails_is_told_and_does_not_end_the_client(choose: Any) -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a", "b"), no_randomize=True, next_server=choose, reconnect_wait=1.0) as nc:
            zio.sleep(10)
            seen = nc.events()
            servers["a"].kill()
            error = next_event(seen, events.CallbackError)
            assert (error.sub, error.message) == (None, None)
            next_event(seen, events.Reconnected)
            servers["b"].kill()
            zio.sleep(20)
            assert len([event for event in told(seen) if isinstance(event, events.ReconnectFailed)]) < 30
            servers["b"].start()
            nc.flush()

    with_servers(main, "a", "b")


def test_reconnect_delay_decides_how_long_to_wait() -> None:
    def main(servers: Servers) -> None:
        asked: list[int] = []

        def delay(rounds: int) -> float:
            asked.append(rounds)
            return 100.0 * rounds

        nc = nats_zio.connect(url("a"), reconnect_delay=delay, reconnect_jitter=0.0)
        zio.sleep(10)
        seen = nc.events()
        servers["a"].kill()
        lost = zio.now()
        tries: list[int] = []
        for _ in range(4):
            next_event(seen, events.ReconnectFailed, limit=1000)
            tries.append(round(zio.now() - lost))
        assert (tries, asked[:3]) == ([0, 100, 300, 600], [1, 2, 3])
        nc.close()

    with_servers(main, "a")


@pytest.mark.parametrize("answer", [-1.0, "1", float("nan")])
def test_a_reconnect_delay_that_is_no_time_is_told_and_the_usual_one_holds(answer: Any) -> None:
    def main(servers: Servers) -> None:
        nc = nats_zio.connect(url("a"), reconnect_delay=lambda rounds: answer, reconnect_wait=3.0, reconnect_jitter=0.0)
        zio.sleep(10)
        seen = nc.events()
        servers["a"].kill()
        lost = zio.now()
        assert "reconnect_delay" in str(next_event(seen, events.CallbackError).error)
        next_event(seen, events.ReconnectFailed)
        assert round(zio.now() - lost) == 3
        nc.close()

    with_servers(main, "a")


def test_force_reconnect_goes_to_another_server_and_waits_for_nothing() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a", "b"), no_randomize=True, reconnect_wait=1000.0, reconnect_max_wait=1000.0) as nc:
            for _ in range(10):
                seen = nc.events()
                start = zio.now()
                nc.force_reconnect()
                next_event(seen, events.Reconnected)
                assert zio.now() - start < 1
            assert nc.stats.reconnects == 10
            assert (len(servers["a"].all_clients), len(servers["b"].all_clients)) == (6, 5)

    with_servers(main, "a", "b")


def test_force_reconnect_ends_the_wait_before_the_next_attempt() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a"), reconnect_wait=1000.0, reconnect_max_wait=1000.0) as nc:
            zio.sleep(2000)
            seen = nc.events()
            servers["a"].kill()
            next_event(seen, events.ReconnectFailed)
            servers["a"].start()
            zio.sleep(1)
            assert not nc.is_connected
            nc.force_reconnect()
            next_event(seen, events.Reconnected)

    with_servers(main, "a")


# Attempts.


def test_the_client_closes_when_every_server_has_failed_so_often() -> None:
    def main(servers: Servers) -> None:
        nc = nats_zio.connect(url("a", "b"), max_reconnect_attempts=3)
        zio.sleep(60)
        seen = nc.events()
        for server in servers.values():
            server.kill()
        closed = next_event(seen, events.Closed)
        assert isinstance(closed.error, nats_zio.NoServersError)
        assert set(closed.error.errors) == set(url("a", "b"))
        with pytest.raises(nats_zio.ConnectionClosedError):
            nc.publish("x")

    with_servers(main, "a", "b")


def test_iterating_events_ends_quietly_after_close_and_raises_what_else_has_ended_the_client() -> None:
    def main(servers: Servers) -> None:
        def names(seen: Any, found: list[str]) -> None:
            found.extend(type(event).__name__ for event in seen)

        for ending in ("close", "drain"):
            nc = nats_zio.connect(url("a"))
            seen, found = nc.events(), list[str]()
            getattr(nc, ending)()
            names(seen, found)
            names(nc.events(), found)
            assert found == ["Closed"]

        nc = nats_zio.connect(url("a"), allow_reconnect=False)
        seen = nc.events()
        servers["a"].kill()
        for receiver, expected in ((seen, ["Disconnected", "Closed"]), (None, [])):
            found = []
            with pytest.raises(nats_zio.ConnectionClosedError) as caught:
                names(receiver or nc.events(), found)
            assert found == expected
            assert isinstance(caught.value.__cause__, OSError)
        servers["a"].start()

    with_servers(main, "a")


def test_a_server_used_up_is_left_out_while_others_go_on() -> None:
    def main(servers: Servers) -> None:
        with nats_zio.connect(url("a", "b"), no_randomize=True, max_reconnect_attempts=2) as nc:
            seen = nc.events()
            servers["b"].kill()
            for _ in range(2):
                servers["a"].clients[0].close()
                next_event(seen, events.Reconnected)
            assert nc.servers == url("a")

    with_servers(main, "a", "b")
