"""Connections that break in the middle of a frame, at every byte of it: what is cut off is never taken for whole."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import events
from nats_zio.testing import ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.scripted import connected, kinds, rest, scripted, until
from zio.testing import SimNetwork
from zio.testing.sim import Connection

pytestmark = pytest.mark.simulated

# What the client sends.


def say_all(nc: nats_zio.Client) -> None:
    """One of each kind of frame, in one tick."""
    one = nc.subscribe("n.one")
    nc.publish("a.plain", b"12345")
    nc.subscribe("n.two", queue="team")
    nc.publish("a.reply", b"", reply="r.1")
    nc.publish("a.headers", b"abc", headers={"Key": "value"})
    one.unsubscribe()
    nc.subscribe("n.three", max_msgs=5)
    nc.publish("a.both", b"\r\nPUB x 0\r\n\r\n", reply="r.2", headers={"Key": ["v", "w"]})
    nc.publish("a.last", b"x" * 20)


class Frame:
    """A frame of `say_all`; `size` is what it counts for if its loss is reported, None if it is no message."""

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self.data = data
        self.size = size


FRAMES = [
    Frame(b"SUB n.one 1\r\n"),
    Frame(b"PUB a.plain 5\r\n12345\r\n", 5),
    Frame(b"SUB n.two team 2\r\n"),
    Frame(b"PUB a.reply r.1 0\r\n\r\n", 0),
    Frame(b"HPUB a.headers 24 27\r\nNATS/1.0\r\nKey: value\r\n\r\nabc\r\n", 27),
    Frame(b"UNSUB 1\r\n"),
    Frame(b"SUB n.three 3\r\n"),
    Frame(b"UNSUB 3 5\r\n"),
    Frame(b"HPUB a.both r.2 28 41\r\nNATS/1.0\r\nKey: v\r\nKey: w\r\n\r\n\r\nPUB x 0\r\n\r\n\r\n", 41),
    Frame(b"PUB a.last 20\r\n" + b"x" * 20 + b"\r\n", 20),
]
ALL = b"".join(frame.data for frame in FRAMES)
ENDS = list(accumulate(len(frame.data) for frame in FRAMES))
REPLAY = b"SUB n.two team 2\r\nSUB n.three 3\r\nUNSUB 3 5\r\n"


def messages_within(count: int) -> list[Frame]:
    """Those of the messages that are whole in the first `count` bytes."""
    return [frame for frame, end in zip(FRAMES, ENDS, strict=True) if end <= count and frame.size is not None]


def kept_after(count: int) -> bytes:
    whole = messages_within(count)
    return b"".join(frame.data for frame in FRAMES if frame.size is not None and frame not in whole)


def reset(server: ScriptedServer) -> None:
    server.clients[0].stream.connection.reset()  # type: ignore[attr-defined]


def end(server: ScriptedServer) -> None:
    server.clients[0].close()


def half_open(server: ScriptedServer) -> None:
    server.clients[0].stream.connection.vanish()  # type: ignore[attr-defined]


def conversation(client: ServedClient) -> bytes:
    """What a client has said behind its handshake."""
    return bytes(client.received).partition(b"PING\r\n")[2]


@pytest.mark.slow
@pytest.mark.parametrize("breaks", [reset, end, half_open], ids=lambda breaks: breaks.__name__)
def test_a_write_that_breaks_off_is_never_resumed_and_nothing_is_sent_twice(
    breaks: Callable[[ScriptedServer], None],
) -> None:
    """At every byte: what was not written to its end is sent whole on the next connection, the rest is reported."""
    for count in range(len(ALL) + 1):
        connected(broken_write, count, breaks, options=QUICK, ping_interval=5.0)


QUICK = {"ping_interval": 1.0, "connect_timeout": 1.0}


def broken_write(
    server: ScriptedServer, nc: nats_zio.Client, count: int, breaks: Callable[[ScriptedServer], None]
) -> None:
    seen = nc.events()
    first = server.clients[0]
    first.stream.connection.up.allow(count)  # type: ignore[attr-defined]
    say_all(nc)
    zio.sleep(0.5)
    assert conversation(first) == ALL[:count]
    breaks(server)
    lost, _ = until(seen, events.Reconnected)
    written = messages_within(count)
    assert isinstance(lost, events.Disconnected)
    assert (lost.unflushed_msgs, lost.unflushed_bytes) == (len(written), sum(frame.size or 0 for frame in written))
    nc.flush()
    second = server.clients[-1]
    assert second is not first
    assert conversation(second) == REPLAY + kept_after(count) + b"PING\r\n"
    assert first.violation is None
    assert second.violation is None
    assert nc.stats.out_msgs == 5


@pytest.mark.slow
def test_a_replay_that_breaks_off_begins_anew_on_the_next_connection() -> None:
    """Nothing of the first connection was written; the second one breaks at every byte of what it has to send."""
    everything = REPLAY + kept_after(0)
    for count in range(len(everything) + 1):
        connected(broken_replay, count, everything)


def broken_replay(server: ScriptedServer, nc: nats_zio.Client, count: int, everything: bytes) -> None:
    seen = nc.events()

    def stall(client: ServedClient, command: Command) -> None:
        if command.verb == "PING" and client.id == 2:  # the end of its handshake
            client.stream.connection.up.allow(count)  # type: ignore[attr-defined]

    server.on_command = stall
    server.clients[0].stream.connection.up.allow(0)  # type: ignore[attr-defined]
    say_all(nc)
    zio.sleep(0.1)
    reset(server)
    until(seen, events.Reconnected)
    zio.sleep(0.1)
    assert conversation(server.clients[0]) == everything[:count]
    reset(server)
    lost, _ = until(seen, events.Reconnected)
    nc.flush()
    written = max(count - len(REPLAY), 0)
    whole, sent = [], 0
    for frame in FRAMES:
        if frame.size is not None and sent + len(frame.data) <= written:
            sent += len(frame.data)
            whole.append(frame)
        elif frame.size is not None:
            break
    assert isinstance(lost, events.Disconnected)
    assert (lost.unflushed_msgs, lost.unflushed_bytes) == (len(whole), sum(frame.size or 0 for frame in whole))
    assert conversation(server.clients[0]) == REPLAY + kept_after(0)[sent:] + b"PING\r\n"
    assert all(client.violation is None for client in server.all_clients)


def cut(way: str, count: int, number: int, *, stall: bool = False) -> SimNetwork:
    """A network whose connection of this number breaks after so many bytes on that way, or takes no more."""
    network = SimNetwork(1)

    def prepare(connection: Connection) -> None:
        if connection.number == number:
            flow = getattr(connection, way)
            if stall:
                flow.allow(count)
            else:
                flow.reset_at(count)

    network.on_connect = prepare
    return network


def handshake_length() -> int:
    """The bytes that a client sends up to the end of its handshake."""
    return int(connected(lambda server, nc: len(server.clients[0].received)))


def greeting_length() -> int:
    """The bytes that it is sent up to there: INFO and PONG."""
    said = bytearray()
    network = SimNetwork(1)
    network.on_connect = lambda connection: setattr(connection.down, "tap", said.extend)
    connected(lambda server, nc: None, network=network)
    return said.index(b"PONG\r\n") + len(b"PONG\r\n")


@pytest.mark.slow
def test_a_handshake_that_breaks_off_is_followed_by_another() -> None:
    """At every byte that the client sends in it."""
    for count in range(handshake_length()):
        for stall in (False, True):
            connected(one_attempt_in_vain, network=cut("up", count, 2, stall=stall), options=QUICK)


@pytest.mark.slow
def test_a_greeting_that_breaks_off_is_followed_by_another_attempt() -> None:
    """At every byte of what the server sends up to its PONG."""
    for count in range(greeting_length()):
        connected(one_attempt_in_vain, network=cut("down", count, 2), options=QUICK)


def one_attempt_in_vain(server: ScriptedServer, nc: nats_zio.Client) -> None:
    sub = nc.subscribe("a")
    nc.flush()
    seen = nc.events()
    reset(server)
    nc.publish("a", b"x")
    told = until(seen, events.Reconnected)
    assert kinds(told) == [events.Disconnected, events.ReconnectFailed, events.Reconnected]
    assert sub.next().data == b"x"
    nc.flush()
    assert sub.pending_msgs == 0
    assert len(server.clients) == 1


def test_a_first_connect_that_breaks_off_is_an_error_and_leaves_nothing() -> None:
    """At every byte, either way."""

    def test(server: ScriptedServer) -> None:
        with pytest.raises(nats_zio.NoServersError):
            nats_zio.connect(server.url, connect_timeout=1.0)

    for way, length in (("up", handshake_length()), ("down", greeting_length())):
        for count in range(length):
            scripted(test, network=cut(way, count, 1))


# What the server sends.

INCOMING = [
    (b"MSG a.b 1 5\r\nhello\r\n", (1, "a.b", None, b"hello", None)),
    (b"PING\r\n", None),
    (b"MSG a.b 2 r.1 0\r\n\r\n", (2, "a.b", "r.1", b"", None)),
    (b"+OK\r\n", None),
    (
        b"HMSG a.c 1 24 28\r\nNATS/1.0\r\nKey: value\r\n\r\nbody\r\n",
        (1, "a.c", None, b"body", b"NATS/1.0\r\nKey: value\r\n\r\n"),
    ),
    (b"-ERR 'Invalid Publish Subject'\r\n", None),
    (b"MSG a.d 1 18\r\n\r\nMSG a.d 1 0\r\n\r\n\r\r\n", (1, "a.d", None, b"\r\nMSG a.d 1 0\r\n\r\n\r", None)),
    (b'INFO {"max_payload":1000}\r\n', None),
    (b"PONG\r\n", None),
    (b"HMSG a.d 2 r.2 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", (2, "a.d", "r.2", b"", b"NATS/1.0 503\r\n\r\n")),
    (b"MSG a.d 1 3\r\nend\r\n", (1, "a.d", None, b"end", None)),
]
STREAM = b"".join(data for data, _ in INCOMING)


def whole_within(count: int) -> list[Any]:
    ends = accumulate(len(data) for data, _ in INCOMING)
    return [message for (_, message), end in zip(INCOMING, ends, strict=True) if end <= count and message is not None]


def receive(server: ScriptedServer, nc: nats_zio.Client, send: Callable[[ServedClient], None]) -> list[Any]:
    """What the two subscriptions of a client get when the server sends it."""
    subs = [nc.subscribe("a.*"), nc.subscribe("a.>")]
    nc.flush()
    send(server.clients[0])
    zio.sleep(1)
    return [
        (number, message.subject, message.reply, message.data, message.raw_headers)
        for number, sub in enumerate(subs, 1)
        for message in (sub.next() for _ in range(sub.pending_msgs))
    ]


def in_order(messages: list[Any]) -> list[Any]:
    """As `receive` gives them: by subscription."""
    return sorted(messages, key=lambda message: message[0])


def test_a_message_whose_end_did_not_come_is_not_delivered() -> None:
    """The stream ends at every byte: all that was whole is delivered, nothing of the rest."""

    def test(server: ScriptedServer, nc: nats_zio.Client, count: int) -> None:
        seen = nc.events()

        def send(client: ServedClient) -> None:
            client.close_after(count)
            client.send(STREAM)

        assert receive(server, nc, send) == in_order(whole_within(count))
        until(seen, events.Reconnected)
        assert nc.max_payload == 1 << 20  # as the new connection says
        assert nc.stats.in_msgs == len(whole_within(count))

    for count in range(len(STREAM) + 1):
        connected(test, count)


def test_after_a_reset_within_a_message_nothing_of_it_is_delivered() -> None:
    """At every byte. What had come before may be lost with it, as systems do, but from the end only."""

    def test(server: ScriptedServer, nc: nats_zio.Client, count: int) -> int:
        seen = nc.events()

        def send(client: ServedClient) -> None:
            way = client.stream.connection.down  # type: ignore[attr-defined]
            way.reset_at(way.delivered + count)
            client.send(STREAM)

        got = receive(server, nc, send)
        whole = whole_within(count)
        assert got in [in_order(whole[:length]) for length in range(len(whole) + 1)]
        until(seen, events.Reconnected)
        return len(got)

    received = [connected(test, count, network=SimNetwork(count)) for count in range(len(STREAM) + 1)]
    assert max(received) == len(whole_within(len(STREAM)))


def test_a_stream_that_comes_in_two_pieces_is_as_one_that_comes_whole() -> None:
    """Split at every byte."""

    def test(server: ScriptedServer, nc: nats_zio.Client, count: int) -> None:
        seen = nc.events()

        def send(client: ServedClient) -> None:
            client.send(STREAM[:count])
            zio.sleep(1)
            client.send(STREAM[count:])

        assert receive(server, nc, send) == in_order(whole_within(len(STREAM)))
        assert kinds(rest(seen)) == [events.ServerError]
        assert nc.max_payload == 1000
        nc.flush()
        pongs = sum(command.verb == "PONG" for command in server.clients[0].commands)
        assert pongs == 1

    for count in range(len(STREAM) + 1):
        connected(test, count)
