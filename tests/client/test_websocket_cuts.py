"""Connections over WebSocket that break at any byte: nothing torn, nothing twice, and what may be lost is reported."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import events
from nats_zio.testing import ScriptedServer
from nats_zio.testing.scripted import ServedClient
from tests.client.scripted import connected, until
from zio.testing import SimNetwork, run_virtual
from zio.testing.sim import Connection

pytestmark = pytest.mark.simulated

QUICK = {"ping_interval": 1.0, "connect_timeout": 1.0}
COUNT = 6


def simulated(ways: list[str]) -> list[dict[str, Any]]:
    return [{**QUICK, "ws_compression": way == "compressed"} for way in ways]


PLAIN_AND_COMPRESSED = pytest.mark.parametrize(
    "options", simulated(["plain", "compressed"]), ids=["plain", "compressed"]
)


def published(client: ServedClient) -> list[bytes]:
    """The payloads that have come whole, in order."""
    return [command.data for command in client.commands if command.verb in ("PUB", "HPUB")]


def say_all(nc: nats_zio.Client) -> None:
    for number in range(COUNT):
        nc.publish("a", b"%d" % number * 30, headers={"Key": "value"} if number % 2 else None)


ALL = [b"%d" % number * 30 for number in range(COUNT)]


def length_of_everything(options: dict[str, Any]) -> int:
    """The bytes of `say_all` on the wire."""

    def measure(server: ScriptedServer, nc: nats_zio.Client) -> int:
        up = server.clients[0].raw.connection.up  # type: ignore[attr-defined]
        before = up.sent
        say_all(nc)
        zio.sleep(0.1)
        return int(up.sent - before)

    return int(connected(measure, options=options, websocket=True))


@pytest.mark.slow
@PLAIN_AND_COMPRESSED
def test_a_write_that_breaks_off_is_never_resumed_and_nothing_is_sent_twice(options: dict[str, Any]) -> None:
    """What is in a frame that had begun may be lost and is reported; the rest is sent on the next connection."""

    def test(server: ScriptedServer, nc: nats_zio.Client, count: int) -> None:
        seen = nc.events()
        first = server.clients[0]
        first.raw.connection.up.allow(count)  # type: ignore[attr-defined]
        say_all(nc)
        nc.publish("b", b"behind the frame")
        zio.sleep(0.5)
        nc.publish("b", b"much later")
        first.raw.connection.reset()  # type: ignore[attr-defined]
        lost, _ = until(seen, events.Reconnected)
        nc.flush()
        second = server.clients[-1]
        assert second is not first
        came, again = published(first), published(second)
        everything = [*ALL, b"behind the frame", b"much later"]
        assert came == everything[: len(came)]
        assert again == everything[len(everything) - len(again) :]
        assert len(came) + len(again) <= len(everything)
        assert isinstance(lost, events.Disconnected)
        assert lost.unflushed_msgs == len(everything) - len(again)
        assert first.violation is None
        assert second.violation is None

    for count in range(length_of_everything(options) + 1):
        connected(test, count, options=options, websocket=True)


@PLAIN_AND_COMPRESSED
def test_a_message_whose_end_did_not_come_is_not_delivered(options: dict[str, Any]) -> None:
    stream = b"".join(b"MSG a 1 %d\r\n%b\r\n" % (len(data), data) for data in ALL)

    def test(server: ScriptedServer, nc: nats_zio.Client, count: int) -> int:
        sub = nc.subscribe("a")
        nc.flush()
        seen = nc.events()
        client = server.clients[0]
        down = client.raw.connection.down  # type: ignore[attr-defined]
        down.reset_at(down.delivered + count)
        client.send(stream)
        until(seen, events.Reconnected)
        got = [sub.next().data for _ in range(sub.pending_msgs)]
        assert got == ALL[: len(got)]
        return len(got)

    def measure(server: ScriptedServer, nc: nats_zio.Client) -> int:
        nc.subscribe("a")
        nc.flush()
        down = server.clients[0].raw.connection.down  # type: ignore[attr-defined]
        before = down.delivered
        server.clients[0].send(stream)
        zio.sleep(0.1)
        return int(down.delivered - before)

    length = connected(measure, options=options, websocket=True)
    received = [connected(test, count, options=options, websocket=True) for count in range(1, length + 1)]
    assert max(received) == COUNT
    assert min(received) == 0


@pytest.mark.slow
def test_a_handshake_that_breaks_off_at_any_byte_is_followed_by_another() -> None:
    """HTTP, INFO and CONNECT, either way, reset or stuck."""

    def lengths() -> tuple[int, int]:
        def measure(server: ScriptedServer, nc: nats_zio.Client) -> tuple[int, int]:
            connection = server.clients[0].raw.connection  # type: ignore[attr-defined]
            return connection.up.sent, connection.down.delivered

        return connected(measure, options=QUICK, websocket=True)  # type: ignore[no-any-return]

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        sub = nc.subscribe("a")
        nc.flush()
        server.clients[0].raw.connection.reset()  # type: ignore[attr-defined]
        nc.publish("a", b"x")
        told = until(seen, events.Reconnected)
        assert [type(event) for event in told[:2]] == [events.Disconnected, events.ReconnectFailed]
        assert sub.next().data == b"x"
        nc.flush()
        assert sub.pending_msgs == 0
        assert len(server.clients) == 1

    def broken(way: str, count: int, stuck: bool) -> SimNetwork:
        network = SimNetwork(1)

        def prepare(connection: Connection) -> None:
            if connection.number == 2:
                flow = getattr(connection, way)
                if stuck:
                    flow.allow(count)
                else:
                    flow.reset_at(count)

        network.on_connect = prepare
        return network

    up, down = lengths()
    for count in range(1, up, 3):
        for stuck in (False, True):
            connected(test, network=broken("up", count, stuck), options=QUICK, websocket=True)
    for count in range(1, down, 3):
        connected(test, network=broken("down", count, False), options=QUICK, websocket=True)


@pytest.mark.parametrize("seed", range(12))
def test_under_faults_of_every_kind_nothing_comes_twice_and_losses_are_reported(seed: int) -> None:
    """Pieces of any size, delays, resets after some kilobytes, pings of both layers."""
    total = 400
    network = SimNetwork(
        seed, latency=0.005, jitter=0.02, buffer=3000, split_reads=0.5, split_writes=0.5, reset_every=20_000
    )
    options: dict[str, Any] = {"ping_interval": 1.0, "ws_compression": seed % 2 == 1, "retry_on_failed_connect": True}

    def data(number: int) -> bytes:
        return b"%d " % number + network.random.randbytes(number * 7 % 500)

    def main() -> None:
        received: list[int] = []
        answered = 0
        with ScriptedServer("s1", 4222, websocket=True, ping_interval=1.0) as server:
            with nats_zio.connect(server.url, **options) as nc:
                seen = nc.events()
                nc.subscribe("a", cb=lambda message: received.append(int(message.data.split()[0])))
                nc.subscribe("q", cb=lambda message: message.respond(message.data))
                for number in range(total):
                    nc.publish("a", data(number))
                    if number % 20 == 0:
                        with contextlib.suppress(nats_zio.DisconnectedError, nats_zio.NoRespondersError):
                            assert nc.request("q", b"%d" % number, timeout=30).data == b"%d" % number
                            answered += 1
                    zio.sleep(0.01)
                network.change_links(reset_every=None)
                nc.force_reconnect()
                zio.sleep(10)  # connections that were made before may still be reset
                nc.flush(timeout=60)
                reports = [seen.recv() for _ in range(len(seen))]
            came = [
                int(command.data.split()[0])
                for client in server.all_clients
                for command in client.commands
                if command.verb == "PUB" and command.args[0] == "a"
            ]
            assert [client.violation for client in server.all_clients if client.violation] == []
        lost = sum(event.unflushed_msgs for event in reports if isinstance(event, events.Disconnected))
        assert sum(isinstance(event, events.Reconnected) for event in reports) >= 2
        assert came == sorted(set(came))
        assert total - len(came) <= lost
        assert received == sorted(set(received))
        assert len(received) >= total // 2
        assert answered >= 5

    run_virtual(main, network=network, seed=seed)
