"""The handshake with servers of all manners: what is glued, late, odd or missing in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import Status, events
from nats_zio.testing import ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.certificates import Authority
from tests.client.scripted import SOON, connected, kinds, rest, scripted, until
from zio.testing import SimNetwork, run_virtual
from zio.testing.sim import Connection

pytestmark = pytest.mark.simulated


def works(nc: nats_zio.Client) -> None:
    with nc.subscribe("a") as sub:
        nc.publish("a", b"x")
        nc.flush()
        assert [message.data for message in sub.next_batch(10)] == [b"x"]


# INFO.


@pytest.mark.parametrize(
    "greeting",
    [
        b"INFO {}\r\n",
        b"info {}\n",
        b"INFO\t{ }\r\n",
        b'INFO {"future":{"of":["all","kinds"]}}\r\n',
        b'INFO {"server_id":5,"version":null,"proto":"1","port":{},"headers":"yes","max_payload":"big","ldm":0}\r\n',
        b'INFO {"connect_urls":"s2:4222","tls_required":"no","nonce":[],"client_id":1.5,"auth_required":[]}\r\n',
        b'INFO {"max_payload":-1,"connect_urls":[1,null,"","x y",":::"]}\r\n',
    ],
)
def test_what_info_does_not_say_or_says_wrong_has_its_default(greeting: bytes) -> None:
    def test(server: ScriptedServer) -> None:
        server.greeting = greeting
        server.second_info = False
        with nats_zio.connect(server.url) as nc:
            assert nc.max_payload == 1 << 20
            assert not nc.server_info.headers
            assert nc.server_info.server_id == ""
            assert not nc.server_info.ldm
            assert nc.servers == [server.url]
            works(nc)

    scripted(test)


BAD_GREETINGS = [
    b"INFO\r\n",
    b"INFO \r\n",
    b"INFO {\r\n",
    b"INFO []\r\n",
    b"INFO null\r\n",
    b'INFO "text"\r\n',
    b'INFO {"max_payload":}\r\n',
    b"INFO {'single':'quotes'}\r\n",
    b'INFO {"a":"\xff"}\r\n',
    b"INFO " + b"[" * 100_000 + b"\r\n",
    b'INFO {"long":"' + b"x" * (2 << 20),
    b"PONG\r\n",
    b"+OK\r\n",
    b"MSG a 1 1\r\nx\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"\r\n",
    b"\n" * 1000,
]


@pytest.mark.parametrize("greeting", BAD_GREETINGS, ids=lambda greeting: repr(greeting[:20]))
def test_a_greeting_that_is_no_info_is_a_protocol_error_at_once(greeting: bytes) -> None:
    def test(server: ScriptedServer) -> None:
        server.greeting = greeting
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect(server.url)
        assert isinstance(caught.value.errors[server.url], nats_zio.ProtocolError)
        assert zio.now() < 1
        assert len(str(caught.value)) < 500

    scripted(test)


@pytest.mark.parametrize("greeting", BAD_GREETINGS, ids=lambda greeting: repr(greeting[:20]))
def test_at_a_reconnect_it_is_told_and_tried_again(greeting: bytes) -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        server.greeting = greeting
        server.clients[0].close()
        told = until(seen, events.ReconnectFailed)
        assert kinds(told) == [events.Disconnected, events.ReconnectFailed]
        assert isinstance(told[1].error, nats_zio.ProtocolError)  # type: ignore[attr-defined]
        server.greeting = None
        until(seen, events.Reconnected)
        works(nc)

    connected(test)


# What comes between CONNECT and PONG, and behind it.

SECOND = b'INFO {"max_payload":2000,"client_id":77}\r\n'
PONG = b"PONG\r\n"


@pytest.mark.parametrize(
    "answers",
    [
        [PONG + SECOND],
        [PONG, SECOND],
        [PONG[:3], PONG[3:] + SECOND],
        [PONG + SECOND[:10], SECOND[10:]],
        [SECOND + PONG],
        [SECOND, PONG],
        [b"+OK\r\n" + SECOND + PONG],
        [b"+OK\r\n+OK\r\n" + PONG + b"+OK\r\n" + SECOND + b"+OK\r\n"],
        [b"PING\r\n" + SECOND + b"PING\r\n", PONG + b"PING\r\n"],
        [b"INFO {}\r\n" * 100 + SECOND + PONG],
        [PONG + b'INFO {"max_payload":1}\r\n' * 100 + SECOND],
        [PONG + b"PONG\r\nPONG\r\n" + SECOND],
        [PONG + b"MSG nobody.asked 99 2\r\nhi\r\n" + SECOND],
        [b"pong \n" + SECOND.replace(b"\r", b"")],
    ],
    ids=lambda answers: repr(b"|".join(answers)[:40]),
)
def test_info_may_come_anywhere_around_the_pong(answers: list[bytes]) -> None:
    def answer(client: ServedClient, command: Command) -> bool:
        if command.verb != "PING" or client.greeted:
            return False
        client.greeted = True
        for number, data in enumerate(answers):
            client.server.later(number * 0.1, lambda data=data: client.send(data))  # type: ignore[misc]
        return True

    def test(server: ScriptedServer) -> None:
        server.on_command = answer
        with nats_zio.connect(server.url) as nc:
            zio.sleep(1)
            assert nc.max_payload == 2000
            assert nc.server_info.client_id == 77
            assert nc.server_info.headers  # of the first one
            with pytest.raises(nats_zio.MaxPayloadError):
                nc.publish("a", b"x" * 2001)
            works(nc)
            commands = [command.verb for command in server.clients[0].commands]
            assert commands.count("PONG") == b"".join(answers).count(b"PING")

    scripted(test)


def test_a_server_that_refuses_in_its_greeting_is_told_nothing() -> None:
    """Not even our name, and no credentials; and its reason is not lost to an error of writing."""

    def test(server: ScriptedServer, asked: list[object]) -> None:
        server.max_connections = 0
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect(server.url, auth=asked.append)
        (error,) = caught.value.errors.values()
        assert isinstance(error, nats_zio.ServerError)
        assert error.text == "maximum connections exceeded"
        assert asked == []
        assert server.all_clients[0].received == b""

    scripted(lambda server: test(server, []), users={})


def test_a_ping_during_the_handshake_is_answered_before_the_server_goes_on() -> None:
    def answer(client: ServedClient, command: Command) -> bool:
        if command.verb == "CONNECT":
            client.send(b"PING\r\n")
        return command.verb == "PING" and client.commands[-1].verb != "PONG" and not client.greeted

    def answer_late(client: ServedClient, command: Command) -> bool:
        if command.verb == "PONG" and not client.greeted:
            client.greeted = True
            client.send(PONG)
        return answer(client, command)

    def test(server: ScriptedServer) -> None:
        server.on_command = answer_late
        with nats_zio.connect(server.url) as nc:
            works(nc)

    scripted(test)


def test_a_message_before_there_are_subscriptions_is_dropped_like_any_that_was_not_asked_for() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        sub = nc.subscribe("a")  # has the number 1
        seen = nc.events()
        server.on_command = lambda client, command: (
            client.send(b"MSG a 1 5\r\nearly\r\n") if command.verb == "CONNECT" else None
        )
        server.clients[0].close()
        assert kinds(until(seen, events.Reconnected)) == [events.Disconnected, events.Reconnected]
        nc.flush()
        assert sub.pending_msgs == 0
        works(nc)

    connected(test)


# Servers that are slow or silent.


@pytest.mark.parametrize("where", ["connecting", "INFO", "PONG"])
def test_a_slow_handshake_is_waited_for_up_to_connect_timeout(where: str) -> None:
    def test(server: ScriptedServer) -> None:
        network = zio.lowlevel.here().loop.runtime.network
        if where == "connecting":
            network.host("s1").connect_delay = 3.0
        elif where == "PONG":
            server.pong = 3.0
        else:
            network.link("s1", "local").latency = 1.5  # the answer to the connect, then INFO
        start = zio.now()
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect(server.url, connect_timeout=2.5)
        assert isinstance(caught.value.errors[server.url], nats_zio.TimeoutError)
        assert zio.now() - start == pytest.approx(2.5)
        with nats_zio.connect(server.url, connect_timeout=10.0) as nc:
            works(nc)

    scripted(test)


SILENT: list[Callable[[ScriptedServer], object]] = []


def silent(act: Callable[[ScriptedServer], object]) -> Callable[[ScriptedServer], object]:
    SILENT.append(act)
    return act


@silent
def says_nothing(server: ScriptedServer) -> None:
    server.greeting = b""


@silent
def stops_within_info(server: ScriptedServer) -> None:
    server.greeting = b'INFO {"server_id":'


@silent
def never_pongs(server: ScriptedServer) -> None:
    server.pong = "drop"


@silent
def never_reads(server: ScriptedServer) -> None:
    server.on_client = lambda client: client.reading.clear()


@silent
def never_accepts(server: ScriptedServer) -> None:
    zio.lowlevel.here().loop.runtime.network.host(server.host).connects = "drop"


@pytest.mark.parametrize("act", SILENT, ids=lambda act: act.__name__)
def test_a_silent_server_is_given_up_for_a_healthy_one_of_the_pool(act: Callable[[ScriptedServer], object]) -> None:
    """At the first connect and at a later one; nothing is left of the attempt."""

    def main() -> None:
        with ScriptedServer("s1", 4222, ping_interval=5) as bad, ScriptedServer("s2", 4222) as good:
            act(bad)
            start = zio.now()
            nc = nats_zio.connect([bad.url, good.url], no_randomize=True, connect_timeout=2.0)
            assert zio.now() - start == pytest.approx(2.0, abs=0.1)
            assert nc.connected_url == good.url
            works(nc)
            seen = nc.events()
            good.clients[0].close()
            told = until(seen, events.Reconnected)
            assert kinds(told) == [events.Disconnected, events.ReconnectFailed, events.Reconnected]
            assert isinstance(told[1].error, TimeoutError)  # type: ignore[attr-defined]
            assert nc.connected_url == good.url
            works(nc)
            nc.close()
            zio.sleep(SOON)
            assert not good.clients
            assert not bad.clients

    run_virtual(main, network=SimNetwork(1), seed=1)


def test_a_server_that_takes_seconds_for_everything_is_no_reason_to_leave_it() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        zio.lowlevel.here().loop.runtime.network.change_links(latency=1.5, jitter=0.5)
        seen = nc.events()
        for _ in range(20):
            works(nc)
            zio.sleep(7)
        assert rest(seen) == []
        assert nc.status is Status.CONNECTED

    connected(test, options={"ping_interval": 2.0, "max_outstanding_pings": 2})


@pytest.mark.parametrize("breaks", ["greeting", "CONNECT", "PING"])
def test_a_handshake_that_fails_counts_as_an_attempt(breaks: str) -> None:
    """Though there was a connection: when all are used up the client closes."""

    def test(server: ScriptedServer) -> None:
        nc = nats_zio.connect(server.url, max_reconnect_attempts=3)
        zio.sleep(SOON)
        seen = nc.events()
        if breaks == "greeting":
            server.on_client = lambda client: client.close()
        else:
            server.on_command = lambda client, command: client.close() if command.verb == breaks else None
        server.clients[0].close()
        told = until(seen, events.Closed)
        assert kinds(told) == [events.Disconnected, *[events.ReconnectFailed] * 3, events.Closed]
        assert isinstance(told[-1].error, nats_zio.NoServersError)  # type: ignore[attr-defined]
        assert len(server.all_clients) == 4
        assert nc.is_closed

    scripted(test)


@pytest.mark.parametrize("stalls", ["up", "down"])
@pytest.mark.parametrize("first", [False, True])
def test_a_tls_handshake_that_stalls_is_given_up_after_connect_timeout(
    tmp_path: Path, stalls: str, first: bool
) -> None:
    authority = Authority(tmp_path)

    def test(server: ScriptedServer) -> None:
        network = zio.lowlevel.here().loop.runtime.network
        stall = True

        def prepare(connection: Connection) -> None:
            if stall:
                getattr(connection, stalls).allow(400 if stalls == "down" else 100)  # INFO goes through

        network.on_connect = prepare
        options: dict[str, Any] = {"tls": nats_zio.TLS(ca=authority.file, handshake_first=first)}
        start = zio.now()
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect(server.url, connect_timeout=2.0, **options)
        assert isinstance(caught.value.errors[server.url], nats_zio.TimeoutError)
        assert zio.now() - start == pytest.approx(2.0)
        stall = False
        with nats_zio.connect(server.url, **options) as nc:
            works(nc)

    scripted(test, tls=authority.server_context("s1"), tls_first=first, ping_interval=5)


# Kinds of servers.


def test_a_server_without_headers_is_told_nothing_of_them_and_refused_before_anything_is_sent() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        options = server.clients[0].options
        assert (options["headers"], options["no_responders"]) == (False, False)
        with pytest.raises(nats_zio.HeadersNotSupportedError):
            nc.publish("a", b"x", headers={"a": "b"})
        with pytest.raises(nats_zio.HeadersNotSupportedError):
            nc.request("a", b"x", headers={"a": "b"})
        works(nc)
        assert not any(command.verb == "HPUB" for command in server.clients[0].commands)
        with pytest.raises(nats_zio.TimeoutError):  # no responders is a matter of headers
            nc.request("nobody", timeout=1)

    connected(test, headers=False)


def test_whether_there_are_headers_is_for_the_present_server_to_say() -> None:
    def main() -> None:
        with (
            ScriptedServer("s1", 4222, headers=False) as old,
            ScriptedServer("s2", 4222) as modern,
            nats_zio.connect([old.url, modern.url], no_randomize=True) as nc,
        ):
            with pytest.raises(nats_zio.HeadersNotSupportedError):
                nc.publish("a", headers={"a": "b"})
            seen = nc.events()
            nc.force_reconnect()
            until(seen, events.Reconnected)
            assert nc.connected_url == modern.url
            nc.publish("a", headers={"a": "b"})
            nc.flush()
            assert modern.clients[0].commands[-2].verb == "HPUB"

    run_virtual(main, network=SimNetwork(1), seed=1)


def test_the_oks_of_a_verbose_server_change_nothing() -> None:
    """Through handshake, messages, requests and reconnect; split at every byte too."""

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        nc.subscribe("echo", cb=lambda message: message.respond(message.data))
        seen = nc.events()
        for split in (None, 1, 3):
            server.split = split
            works(nc)
            assert nc.request("echo", b"hello").data == b"hello"
            server.clients[0].close()
            assert kinds(until(seen, events.Reconnected)) == [events.Disconnected, events.Reconnected]
            works(nc)
        assert rest(seen) == []

    connected(test, options={"verbose": True})


def test_the_server_knows_what_was_asked_for() -> None:
    def options(**asked: Any) -> dict[str, Any]:
        def test(server: ScriptedServer, nc: nats_zio.Client) -> dict[str, Any]:
            return server.clients[0].options

        return dict(connected(test, options=asked))

    plain = options()
    assert plain["verbose"] is plain["pedantic"] is plain["tls_required"] is False
    assert plain["echo"] is plain["headers"] is plain["no_responders"] is True
    assert (plain["protocol"], plain["lang"], plain["version"]) == (1, "python-zio", nats_zio.__version__)
    assert options(verbose=True)["verbose"] is True
    assert options(pedantic=True)["pedantic"] is True
    assert options(no_echo=True)["echo"] is False
    assert options(name="me")["name"] == "me"
