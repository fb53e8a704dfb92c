"""subscribe(confirm=True): made when it returns, or not made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import events
from nats_zio.testing import NatsServer, ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.helpers import LIMIT, away, eventually, next_event
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual, wait_all_parked

Run = Callable[..., object]

PASSWORD = secret()

CONFIG = f"""
max_subscriptions: 2
authorization {{ users = [
    {{ user: ann, password: {PASSWORD}, permissions: {{ subscribe: {{ deny: ["no.>"] }} }} }}
] }}
"""


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    with NatsServer(config=CONFIG) as server:
        yield server.url.replace("nats://", f"nats://ann:{PASSWORD}@")


def simulated(test: Callable[[ScriptedServer, nats_zio.Client], None], **options: Any) -> None:
    def main() -> None:
        with ScriptedServer("s1", 4222) as server, nats_zio.connect(server.url, **options) as nc:
            test(server, nc)

    run_virtual(main, network=SimNetwork(1), seed=1)


def test_it_is_in_force_when_subscribe_returns() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a", confirm=True)
        assert [entry.subject for entry in server.clients[0].subscriptions.values()] == ["a"]
        nc.publish("a", b"x")
        assert sub.next().data == b"x"

    simulated(test)


def test_without_it_subscribe_does_not_wait() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        before = zio.now()
        nc.subscribe("a")
        assert zio.now() == before
        assert not server.clients[0].subscriptions

    simulated(test)


@pytest.mark.parametrize("options", [{}, {"queue": "q"}, {"cb": print}, {"max_msgs": 3}])
def test_a_denied_one_raises_and_leaves_nothing(run: Run, strict: str, options: dict[str, Any]) -> None:
    def main() -> None:
        with nats_zio.connect(strict) as nc:
            with pytest.raises(nats_zio.PermissionDeniedError) as caught:
                nc.subscribe("no.entry", confirm=True, **options)
            assert caught.value.subject == "no.entry"
            assert not nc._core.subscriptions
            with nc.subscribe("a", confirm=True) as sub:
                nc.publish("a", b"x")
                assert sub.next().data == b"x"

    run(main)


def test_one_beyond_the_servers_limit_raises_and_the_others_stay(run: Run, strict: str) -> None:
    def main() -> None:
        with nats_zio.connect(strict) as nc:
            subs = [nc.subscribe("a", confirm=True) for _ in range(2)]
            for _ in range(3):
                with pytest.raises(nats_zio.ServerError, match="maximum subscriptions exceeded"):
                    nc.subscribe("a", confirm=True)
            nc.publish("a", b"x")
            assert [sub.next().data for sub in subs] == [b"x"] * 2
            assert list(nc._core.subscriptions.values()) == subs

    run(main)


def test_several_at_once_each_get_their_own_answer() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        def refuse_some(client: ServedClient, command: Command) -> bool:
            if command.verb == "SUB" and command.args[0].startswith("bad"):
                client.error("maximum subscriptions exceeded")
                return True
            return False

        def subscribe(name: str) -> str:
            try:
                return nc.subscribe(name, confirm=True).subject
            except nats_zio.ServerError:
                return "refused"

        server.on_command = refuse_some
        names = ["bad.1", "good.1", "good.2", "bad.2", "bad.3", "good.3"]
        with zio.TaskGroup() as group:
            tasks = [group.spawn(subscribe, name) for name in names]
        assert [task.join() for task in tasks] == [name if name.startswith("good") else "refused" for name in names]

    simulated(test)


def test_with_a_silent_server_it_times_out_and_leaves_nothing(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, request_timeout=0.1) as nc:
            server.pause()
            with pytest.raises(nats_zio.TimeoutError, match=r"not confirmed .*'gone'"):
                nc.subscribe("gone", confirm=True)
            assert not nc._core.subscriptions
            server.resume()
            nc.flush(timeout=LIMIT)
            names = {entry["subject"] for entry in _subscriptions(server)}
            assert "gone" not in names

    run(main)


def _subscriptions(server: NatsServer) -> list[dict[str, Any]]:
    return away(server.monitor, "/subsz?subs=1").get("subscriptions_list") or []


def test_a_cancelled_one_leaves_nothing(server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            server.pause()
            task = zio.spawn(lambda: nc.subscribe("gone", confirm=True))
            eventually(lambda: nc._core.subscriptions)
            task.cancel()
            with pytest.raises(zio.Cancelled):
                task.join()
            assert not nc._core.subscriptions
            server.resume()
            nc.flush(timeout=LIMIT)
            assert "gone" not in {entry["subject"] for entry in _subscriptions(server)}

    zio.run(main)


def test_one_in_a_cancelled_scope_is_not_even_sent() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        with zio.CancelScope() as scope:
            scope.cancel()
            nc.subscribe("a", confirm=True)
        nc.flush()
        assert not any(command.verb == "SUB" for command in server.clients[0].commands)

    simulated(test)


def test_a_timeout_around_it_in_a_thread_leaves_nothing(server: NatsServer, background_runtime: object) -> None:
    with nats_zio.connect(server.url) as nc:
        server.pause()
        with pytest.raises(TimeoutError), zio.timeout(0.1):
            nc.subscribe("gone", confirm=True)
        assert not nc._core.subscriptions
        server.resume()
        nc.flush(timeout=LIMIT)
        assert "gone" not in {entry["subject"] for entry in _subscriptions(server)}


def test_over_a_lost_connection_it_waits_for_the_next_one() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()

        def cut_off(client: ServedClient, command: Command) -> bool:
            if command.verb == "SUB" and client.id == 1:
                client.abort()
                return True
            return False

        server.on_command = cut_off
        sub = nc.subscribe("a", confirm=True)
        next_event(seen, events.Reconnected)
        assert [entry.subject for entry in server.clients[0].subscriptions.values()] == ["a"]
        nc.publish("a", b"x")
        assert sub.next().data == b"x"

    simulated(test)


def test_made_while_disconnected_it_waits_for_the_connection() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        server.stop()
        zio.sleep(1)
        task = zio.spawn(lambda: nc.subscribe("a", confirm=True))
        wait_all_parked()
        assert not task.done
        server.start()
        assert task.join().closed_reason is None
        assert [entry.subject for entry in server.clients[0].subscriptions.values()] == ["a"]

    simulated(test, request_timeout=60)


def test_closing_ends_the_wait() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        server.pong = "drop"
        task = zio.spawn(lambda: nc.subscribe("a", confirm=True))
        wait_all_parked()
        nc.close()
        with pytest.raises(nats_zio.ConnectionClosedError):
            task.join()

    simulated(test)
