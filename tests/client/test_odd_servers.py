"""What happens to a connection that stands: storms of INFO, PONGs nobody asked for, half-open links, odd frames."""

from __future__ import annotations

import json
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import Status, events
from nats_zio.testing import ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.scripted import SOON, connected, kinds, rest, until
from zio.testing.sim import Connection

pytestmark = pytest.mark.simulated


def the_connection(server: ScriptedServer) -> Connection:
    connection: Connection = server.clients[-1].stream.connection  # type: ignore[attr-defined]
    return connection


# INFO.


def test_a_storm_of_info_with_more_and_more_servers_holds_up_nothing() -> None:
    """Thousands of them, among messages: each message comes once, and in the end the last INFO counts."""
    count = 3000

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")
        nc.flush()
        urls: list[str] = []
        sent: list[bytes] = []
        for number in range(count):
            if number % 30 == 0:
                urls.append(f"s{number}:4222")
            info = {"connect_urls": urls, "max_payload": 1000 + number, "client_id": number}
            sent.append(b"INFO " + json.dumps(info).encode() + b"\r\n")
            if number % 10 == 0:
                sent.append(b"MSG a 1 4\r\n%04d\r\n" % number)
            if number % 500 == 0:
                sent.append(b"PING\r\n")
        client = server.clients[0]
        client.send(b"".join(sent))
        assert [int(sub.next(timeout=SOON).data) for _ in range(count // 10)] == list(range(0, count, 10))
        nc.flush(timeout=SOON)
        assert (nc.max_payload, nc.server_info.client_id) == (1000 + count - 1, count - 1)
        assert len(nc.servers) == 1 + len(urls)
        assert sum(command.verb == "PONG" for command in client.commands) == count // 500
        assert nc.stats.reconnects == 0

    connected(test)


def test_each_info_of_a_storm_may_change_the_servers_and_no_memory_is_kept_of_those_that_went() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        client = server.clients[0]
        for number in range(2000):
            client.send(client.info_line(connect_urls=[f"s{number}:4222", f"t{number}:4222"]))
        nc.flush(timeout=SOON)
        assert sorted(nc.servers) == sorted([server.url, "nats://s1999:4222", "nats://t1999:4222"])

    connected(test)


def test_a_limit_that_info_lowers_holds_from_the_next_publish_on() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        nc.publish("a", b"x" * 1000)
        nc.flush()
        server.max_payload = 500
        server.info()
        zio.sleep(1)
        with pytest.raises(nats_zio.MaxPayloadError, match="500"):
            nc.publish("a", b"x" * 501)
        nc.publish("a", b"x" * 500)
        nc.flush()
        assert [len(command.data) for command in server.clients[0].commands if command.verb == "PUB"] == [1000, 500]

    connected(test)


@pytest.mark.parametrize("line", [b"INFO\r\n", b"INFO {\r\n", b"INFO []\r\n", b"INFO x\r\n"])
def test_an_info_that_cannot_be_read_ends_the_connection_with_a_protocol_error(line: bytes) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")
        nc.flush()
        seen = nc.events()
        server.send(b"MSG a 1 1\r\nx\r\n" + line + b"MSG a 1 1\r\ny\r\n")
        lost, _ = until(seen, events.Reconnected)
        assert isinstance(lost, events.Disconnected)
        assert isinstance(lost.error, nats_zio.ProtocolError)
        nc.flush()
        assert [message.data for message in sub.next_batch(10)] == [b"x"]  # what came before it counts

    connected(test)


# PONGs.


def test_pongs_nobody_asked_for_prove_nothing() -> None:
    """Each flush has its own answer, though others came before it was asked."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        server.pong = 3.0
        for extra in (1, 5, 100):
            server.send(b"PONG\r\n" * extra)
            zio.sleep(0.1)
            nc.publish("a", b"x")
            assert 3.0 < nc.rtt() < 3.1
        assert nc.status is Status.CONNECTED

    connected(test)


def test_a_pong_that_comes_before_the_ping_was_written_is_not_its_answer() -> None:
    """The socket takes nothing, so the server cannot have seen what is to be proved."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        up = the_connection(server).up
        up.allow(0)
        nc.publish("a", b"x")
        flushing = zio.spawn(nc.flush)
        zio.sleep(0.1)
        server.send(b"PONG\r\n")
        zio.sleep(0.1)
        assert not flushing.done
        up.allow(None)
        flushing.join(timeout=1)
        assert [command.verb for command in server.clients[0].commands[-2:]] == ["PUB", "PING"]

    connected(test)


def test_pongs_that_come_late_and_together_answer_each_its_own_ping() -> None:
    """Those of flushes that were given up too, so that the next one is not taken for answered."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        held: list[int] = []
        server.on_command = lambda client, command: command.verb == "PING" and not held.append(1)  # type: ignore[func-returns-value]
        for _ in range(3):
            with pytest.raises(nats_zio.TimeoutError):
                nc.flush(timeout=0.1)
        waiting = [zio.spawn(nc.flush) for _ in range(3)]
        zio.sleep(0.1)
        assert len(held) == 6
        client = server.clients[0]
        for answered in range(6):
            assert sum(task.done for task in waiting) == max(answered - 3, 0)
            client.send(b"PONG\r\n")
            zio.sleep(0.1)
        assert all(task.done for task in waiting)

    connected(test)


def test_losses_are_reported_by_what_the_answered_pings_have_proved() -> None:
    """A PONG proves what was published before its PING, and no more."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        server.on_command = lambda client, command: command.verb == "PING"
        for count in (1, 2, 4):  # three flushes under way, with 1, 3 and 7 messages before them
            for _ in range(count):
                nc.publish("a", b"12345")
            zio.spawn(fails_with, nats_zio.DisconnectedError, nc.flush)
            zio.sleep(0.1)
        nc.publish("a", b"12345")
        zio.sleep(0.1)
        server.send(b"PONG\r\nPONG\r\n")
        zio.sleep(0.1)
        server.on_command = None
        server.clients[0].close()
        lost = seen.recv(timeout=SOON)
        assert isinstance(lost, events.Disconnected)
        assert (lost.unflushed_msgs, lost.unflushed_bytes) == (5, 25)
        until(seen, events.Reconnected)

    connected(test)


def fails_with(error: type[BaseException], call: Any) -> None:
    """For a task whose call may end well or in this way."""
    try:
        call()
    except error:
        return


# Links that are half-open: one way or both have vanished, and nobody is told.

INTERVAL = 1.0
PINGS = 2
FOUND_OUT = INTERVAL * (PINGS + 1)  # after the last byte that came
PATIENCE: dict[str, Any] = {"ping_interval": INTERVAL, "max_outstanding_pings": PINGS, "request_timeout": 0.5}


@pytest.mark.parametrize("way", ["both", "up", "down"])
def test_a_half_open_link_is_found_out_by_pings(way: str) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")
        nc.subscribe("echo", cb=lambda message: message.respond(message.data))
        nc.flush()
        seen = nc.events()
        connection = the_connection(server)
        start = zio.now()
        (connection if way == "both" else getattr(connection, way)).vanish()
        nc.publish("a", b"lost")
        for call in (nc.flush, lambda: nc.request("echo")):  # end in their own time
            before = zio.now()
            with pytest.raises(nats_zio.TimeoutError):
                call()
            assert zio.now() - before == pytest.approx(0.5)
        lost, _ = until(seen, events.Reconnected)
        assert isinstance(lost, events.Disconnected)
        assert isinstance(lost.error, nats_zio.StaleConnectionError)
        assert FOUND_OUT - INTERVAL <= zio.now() - start <= FOUND_OUT + INTERVAL + 0.1
        assert lost.unflushed_msgs == 2  # the message, and the request
        nc.publish("a", b"here")
        assert sub.next(timeout=1).data == b"here"
        assert nc.request("echo", b"hello").data == b"hello"

    connected(test, options=PATIENCE, ping_interval=5.0)


def test_where_only_what_the_client_sends_is_lost_the_server_finds_out() -> None:
    """Messages come in all the time, so the link lives as far as the client can see; the server misses its PONGs."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")
        nc.flush()
        seen = nc.events()
        client = server.clients[0]
        the_connection(server).up.vanish()
        start = zio.now()
        while not client.gone:
            client.send(b"MSG a 1 1\r\nx\r\n")
            zio.sleep(0.3)
        lost = until(seen, events.Reconnected)[-2]
        assert isinstance(lost, events.Disconnected)
        assert isinstance(lost.error, nats_zio.ServerError)
        assert lost.error.text == "Stale Connection"
        assert zio.now() - start < 25
        assert sub.pending_msgs > 40

    connected(test, options=PATIENCE, ping_interval=5.0)


def test_any_byte_that_comes_in_is_a_sign_of_life() -> None:
    """Even one of a message that takes long to come whole; then no PING is sent either."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")
        nc.flush()
        seen = nc.events()
        client = server.clients[0]
        before = len(client.commands)
        server.pong = "drop"
        message = b"MSG a 1 60\r\n" + b"x" * 60 + b"\r\n"
        for byte in message:
            client.send(bytes([byte]))
            zio.sleep(0.9 * INTERVAL)
        assert len(sub.next(timeout=1).data) == 60
        assert len(client.commands) == before
        assert rest(seen) == []
        server.pong = "send"

    connected(test, options=PATIENCE)


def test_a_partition_shorter_than_the_patience_costs_nothing() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        network = zio.lowlevel.here().loop.runtime.network
        sub = nc.subscribe("a")
        nc.flush()
        seen = nc.events()
        network.partition("s1")
        for number in range(10):
            nc.publish("a", b"%d" % number)
        zio.sleep(FOUND_OUT - INTERVAL - 0.1)
        network.heal()
        nc.flush(timeout=5)
        assert [int(message.data) for message in sub.next_batch(100)] == list(range(10))
        assert rest(seen) == []

    connected(test, options=PATIENCE)


def test_what_a_partition_held_back_does_not_come_twice() -> None:
    """The old connection's bytes arrive when the link is whole again, after the client has made another."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        network = zio.lowlevel.here().loop.runtime.network
        sub = nc.subscribe("a")
        nc.flush()
        seen = nc.events()
        network.partition("s1")
        for number in range(5):
            nc.publish("a", b"old %d" % number)
        lost = seen.recv(timeout=SOON)
        assert isinstance(lost, events.Disconnected)
        assert lost.unflushed_msgs == 5
        for number in range(5):
            nc.publish("a", b"new %d" % number)
        network.heal()
        until(seen, events.Reconnected)
        nc.flush()
        zio.sleep(SOON)
        got = [message.data for message in sub.next_batch(100)]
        assert sorted(set(got)) == sorted(got)
        assert [data for data in got if data.startswith(b"new")] == [b"new %d" % number for number in range(5)]
        assert nc.status is Status.CONNECTED

    connected(test, options=PATIENCE)


# The server's own end.


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_starts_again_as_another_one_is_taken(how: str) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")
        nc.flush()
        seen = nc.events()
        before = nc.server_info.server_id
        getattr(server, how)()
        zio.sleep(1)
        server.start()
        told = until(seen, events.Reconnected)
        assert kinds(told)[0] is events.Disconnected
        assert set(kinds(told)[1:-1]) <= {events.ReconnectFailed}
        assert nc.server_info.server_id != before
        nc.publish("a", b"x")
        assert sub.next(timeout=1).data == b"x"

    connected(test)


def test_a_slow_consumer_that_the_server_cuts_off_reconnects() -> None:
    """The end of the stream without a word: what was whole before it is delivered."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")
        nc.flush()
        seen = nc.events()
        client = server.clients[0]
        the_connection(server).down.allow(5000)
        for number in range(1000):
            client.send(b"MSG a 1 100\r\n%0100d\r\n" % number)
        lost, _ = until(seen, events.Reconnected)
        assert isinstance(lost, events.Disconnected)
        assert isinstance(lost.error, ConnectionResetError)
        got = [int(sub.next().data) for _ in range(sub.pending_msgs)]
        assert got == list(range(len(got)))
        assert len(got) < 1000
        nc.publish("a", b"1")
        assert sub.next(timeout=1).data == b"1"

    connected(test, max_pending=50_000)


def test_what_cannot_be_read_ends_the_connection_and_what_came_before_it_counts() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client, nonsense: bytes) -> None:
        sub = nc.subscribe("a")
        nc.flush()
        seen = nc.events()
        server.send(b"MSG a 1 1\r\nx\r\n" + nonsense)
        lost, _ = until(seen, events.Reconnected)
        assert isinstance(lost, events.Disconnected)
        assert isinstance(lost.error, nats_zio.ProtocolError)
        nc.publish("a", b"y")
        nc.flush()
        assert [message.data for message in sub.next_batch(10)] == [b"x", b"y"]

    for nonsense in (
        b"\x00\xff\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a 1 -1\r\n",
        b"MSG a 1 1\r\nxy\r\n",
        b"HMSG a 1 5 3\r\n",
        b"MSG a 1 99999999999\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"x" * 70_000,
        b"-ERR " + b"x" * 70_000,
    ):
        connected(test, nonsense)


def test_messages_nobody_asked_for_are_dropped() -> None:
    """For a subscription that has ended, or that never was."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub, ended = nc.subscribe("a"), nc.subscribe("b")
        ended.unsubscribe()
        nc.flush()
        seen = nc.events()
        server.send(b"MSG b 2 1\r\nx\r\nMSG c 77 1\r\nx\r\nMSG a 1 1\r\ny\r\nMSG a 999999999999999999 1\r\nx\r\n")
        assert sub.next(timeout=1).data == b"y"
        nc.flush()
        assert ended.pending_msgs == 0
        assert rest(seen) == []

    connected(test)


def test_hooks_of_a_server_may_delay_any_answer() -> None:
    """A request whose reply comes after its timeout is not answered by it, nor is the next one."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        nc.subscribe("slow", cb=lambda message: message.respond(message.data))

        def late(client: ServedClient, command: Command) -> bool:
            if command.verb == "PUB" and command.args[0].startswith("_INBOX") and command.data == b"1":
                server.later(1.0, lambda: client._publish(command.args[0], None, command))
                return True
            return False

        server.on_command = late
        with pytest.raises(nats_zio.TimeoutError):
            nc.request("slow", b"1", timeout=0.5)
        assert nc.request("slow", b"2", timeout=5).data == b"2"
        zio.sleep(2)
        assert nc.request("slow", b"3", timeout=5).data == b"3"
        assert len(nc._core.requests) == 0

    connected(test)
