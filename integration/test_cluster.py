"""Three servers with JetStream, of which one is killed or all are replaced in turn while clients work with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

import nats_zio
import zio
from integration.containers import ClusterContainers, NatsContainer
from nats_zio.events import Disconnected, LameDuck, Reconnected
from tests.client.helpers import away, eventually, next_event
from tests.client.load import Load

pytestmark = pytest.mark.timeout(200)


def test_a_node_is_killed_under_traffic(cluster: ClusterContainers, subject: str) -> None:
    def body() -> None:
        with Load(cluster.urls, subject) as load:
            expected = dict.fromkeys(load.clients, 0)
            for victim in cluster.servers[:2]:
                load.run_for(0.5)
                on_it = load.on(victim.url)
                assert on_it, "nobody is connected to the victim"
                away(victim.kill)
                for client in on_it:
                    expected[client] += 1
                load.await_reconnects(expected)
                assert not load.on(victim.url)
                load.run_for(0.5)
                away(victim.start_again)
                away(cluster.await_whole)
            assert load.disconnects() == expected, "clients of the other nodes were not disturbed"
            load.finish()

    zio.run(body)


def test_rolling_restart_under_traffic(cluster: ClusterContainers, subject: str) -> None:
    """As an upgrade does it: each server sends its clients away, ends, is started again, the cluster becomes whole.

    No queue groups here: a member that leaves may have been chosen for a message on its way, and then the servers pass
    that on to another one, and to the plain subscriptions beside that one once more.
    """

    def body() -> None:
        with Load(cluster.urls, subject, group=False) as load:
            expected = dict.fromkeys(load.clients, 0)
            for server in cluster.servers:
                load.run_for(0.3)
                on_it = load.on(server.url)
                assert on_it, "nobody is connected to the next one"
                ducks = {client: len(load.books[client].of(LameDuck)) for client in load.clients}
                away(server.lame_duck)
                for client in on_it:
                    expected[client] += 1
                load.await_reconnects(expected, limit=40)
                away(server.await_exit)
                assert not load.on(server.url)
                for client in load.clients:
                    told = len(load.books[client].of(LameDuck)) - ducks[client]
                    assert told == (client in on_it), f"{client.options.name} was told {told} times"
                away(server.start_again)
                away(cluster.await_whole)
            load.run_for(0.3)
            assert load.disconnects() == expected
            load.finish()

    zio.run(body)


def test_restart_of_all_at_once_under_traffic(cluster: ClusterContainers, subject: str) -> None:
    def body() -> None:
        with Load(cluster.urls, subject) as load:
            load.run_for(0.3)
            for server in cluster.servers:
                away(server.kill)
            # Those of the first ones may have found another server before that went as well.
            eventually(lambda: not any(client.is_connected for client in load.clients), "nobody is connected")
            for server in cluster.servers:
                away(server.start_again, False)
            away(cluster.await_whole)
            eventually(lambda: all(client.is_connected for client in load.clients), "everybody is connected")
            load.run_for(0.3)
            load.finish()

    zio.run(body)


def test_a_frozen_node_is_left(cluster: ClusterContainers, subject: str) -> None:
    """No queue groups here: what a server meant for a member at the frozen one is passed on when that goes on, to a
    member elsewhere, and the server there gives it to its plain subscriptions once more."""

    def body() -> None:
        options: dict[str, Any] = {"ping_interval": 0.5, "max_outstanding_pings": 2, "connect_timeout": 0.5}
        with Load(cluster.urls, subject, group=False, **options) as load:
            load.run_for(0.3)
            victim = cluster.servers[0]
            on_it = load.on(victim.url)
            expected = {client: int(client in on_it) for client in load.clients}
            away(victim.pause)
            try:
                load.await_reconnects(expected)
                load.run_for(0.5)
            finally:
                away(victim.unpause)
            away(cluster.await_whole)
            load.run_for(0.3)
            assert load.disconnects() == expected
            load.finish(late=True)

    zio.run(body)


def test_servers_are_discovered_from_one(cluster: ClusterContainers, subject: str) -> None:
    """A client that was told of one server knows the others from it, and goes there when that one is lost."""

    def body() -> None:
        first = cluster.servers[0]
        with nats_zio.connect(first.url, reconnect_max_wait=0.5) as nc:
            assert {url.rpartition("//")[2] for url in nc.discovered_servers} >= {
                server.address for server in cluster.servers[1:]
            }
            events = nc.events()
            sub = nc.subscribe(subject)
            nc.flush()
            away(first.kill)
            next_event(events, Disconnected)
            next_event(events, Reconnected)
            assert nc.connected_url in {server.url for server in cluster.servers[1:]}
            nc.publish(subject, b"found")
            assert sub.next().data == b"found"
            sub.unsubscribe()
            away(first.start_again)
            away(cluster.await_whole)
        with nats_zio.connect(first.url, ignore_discovered_servers=True) as nc:
            assert [url.rpartition("//")[2] for url in nc.servers] == [first.address]

    zio.run(body)


def ask_jetstream(nc: Any, what: str, **request: Any) -> dict[str, Any]:
    answer = json.loads(nc.request(f"$JS.API.{what}", json.dumps(request), timeout=10).data)
    assert isinstance(answer, dict)
    return answer


def leader_of(nc: Any, stream: str) -> str:
    return str(ask_jetstream(nc, f"STREAM.INFO.{stream}").get("cluster", {}).get("leader") or "")


def test_what_jetstream_acknowledged_survives_its_leader(cluster: ClusterContainers, subject: str) -> None:
    """Publishing as requests: each acknowledged message is stored once, whatever happened to the others."""

    def body() -> None:
        stream = "KEPT"
        options: dict[str, Any] = {"reconnect_max_wait": 0.5}
        with nats_zio.connect(cluster.urls, **options) as nc, nats_zio.connect(cluster.urls, **options) as control:
            made = ask_jetstream(
                control,
                f"STREAM.CREATE.{stream}",
                name=stream,
                subjects=[f"{subject}.>"],
                num_replicas=3,
                storage="file",
            )
            assert "error" not in made, made
            acknowledged: list[int] = []
            working = True

            def publish() -> None:
                number = 0
                while working:
                    number += 1
                    headers = {"Nats-Msg-Id": f"id-{number}"}
                    while True:  # the same message again until it is acknowledged: the id keeps it single
                        try:
                            reply = nc.request(f"{subject}.x", b"%d" % number, timeout=1, headers=headers)
                        except (nats_zio.TimeoutError, nats_zio.NoRespondersError, nats_zio.DisconnectedError):
                            zio.sleep(0.05)
                            continue
                        if "error" not in json.loads(reply.data):
                            acknowledged.append(number)
                            break
                        zio.sleep(0.05)
                    zio.sleep(0.002)

            task = zio.spawn(publish)
            eventually(lambda: len(acknowledged) > 100, "messages are stored")
            victim = cluster.server(leader_of(control, stream))
            away(victim.kill)
            so_far = len(acknowledged)
            eventually(lambda: len(acknowledged) > so_far + 100, "messages are stored under a new leader", 40)
            away(victim.start_again)
            away(cluster.await_whole)
            working = False
            task.join(20)
            assert acknowledged == list(range(1, len(acknowledged) + 1))
            state = ask_jetstream(control, f"STREAM.INFO.{stream}")["state"]
            assert state["messages"] == len(acknowledged)

    zio.run(body)


def test_messages_and_replies_cross_the_cluster(cluster: ClusterContainers, subject: str) -> None:
    def body(servers: list[NatsContainer]) -> None:
        with (
            nats_zio.connect(servers[0].url) as a,
            nats_zio.connect(servers[1].url) as b,
            nats_zio.connect(servers[2].url) as c,
        ):
            everywhere = [nc.subscribe(subject) for nc in (a, b, c)]
            service = f"{subject}.service"
            b.subscribe(service, queue="q", cb=lambda message: message.respond(b"b" + message.data))
            c.subscribe(service, queue="q", cb=lambda message: message.respond(b"c" + message.data))
            for nc in (a, b, c):
                nc.flush()
            eventually(lambda: _subscriptions_known(servers[0], subject) >= 3, "interest has spread")
            eventually(lambda: _subscriptions_known(servers[0], service) >= 2, "interest has spread")
            for number in range(200):
                a.publish(subject, b"%d" % number)
            for sub in everywhere:
                assert [sub.next().data for _ in range(200)] == [b"%d" % number for number in range(200)]
            answers = [a.request(service, b"%d" % number).data for number in range(100)]
            assert [answer[1:] for answer in answers] == [b"%d" % number for number in range(100)]
            assert {answer[:1] for answer in answers} == {b"b", b"c"}
            for sub in everywhere:
                sub.unsubscribe()

    zio.run(body, cluster.servers)


def _subscriptions_known(server: NatsContainer, subject: str) -> int:
    """Its own clients', and one for each other server that has any."""
    own = sum(
        subject in (each.get("subscriptions_list") or ()) for each in server.monitor("/connz?subs=1")["connections"]
    )
    # Several connections make up a route.
    routes = server.monitor("/routez?subs=1")["routes"]
    away_from_here = {each["remote_name"] for each in routes if subject in _subjects(each)}
    return own + len(away_from_here)


def _subjects(route: dict[str, Any]) -> set[str]:
    return {text.split()[0] for text in route.get("subscriptions_list") or ()}
