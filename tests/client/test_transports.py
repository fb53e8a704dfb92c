"""What a client does, over every way in which bytes reach a server: it is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import TLS
from nats_zio.events import Disconnected, Reconnected
from nats_zio.testing import NatsServer
from tests.client.certificates import Authority
from tests.client.helpers import Peer, away, eventually, next_event
from tests.client.websockets import websocket_server

Run = Callable[..., Any]

FAST: dict[str, Any] = {"reconnect_wait": 0.01, "reconnect_max_wait": 0.05}
WAYS = ("nats", "tls", "ws", "ws+deflate", "wss", "wss+deflate")


@dataclass
class Way:
    """A server, the URL that goes this way, and the options for it."""

    server: NatsServer
    url: str
    options: dict[str, Any] = field(default_factory=dict)

    def connect(self, **options: Any) -> nats_zio.Client:
        return nats_zio.connect(self.url, **self.options, **options)


def open_way(kind: str, ca: Authority) -> Iterator[Way]:
    scheme, _, deflate = kind.partition("+")
    options: dict[str, Any] = {"ws_compression": True} if deflate else {}
    settings = ("compression: true",) if deflate else ()
    if scheme in ("tls", "wss"):
        options["tls"] = TLS(ca=ca.file)
    if scheme in ("nats", "tls"):
        with NatsServer(config=ca.config() if scheme == "tls" else None) as server:
            yield Way(server, f"{scheme}://127.0.0.1:{server.port}", options)
    else:
        tls = ca.config().strip() if scheme == "wss" else "no_tls: true"
        with websocket_server(*settings, tls=tls) as (server, url):
            yield Way(server, url, options)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, ca: Authority) -> Iterator[Way]:
    """Shared by the tests of this file."""
    yield from open_way(request.param, ca)


@pytest.fixture(params=WAYS)
def own_way(request: pytest.FixtureRequest, ca: Authority) -> Iterator[Way]:
    """A server of the test's own, to kill and restart."""
    yield from open_way(request.param, ca)


def test_the_connection_is_of_the_kind_that_the_url_names(run: Run, way: Way) -> None:
    def main() -> None:
        with way.connect() as nc:
            assert nc.connected_url == way.url
            connections = way.server.monitor("/connz")["connections"]
            (mine,) = [each for each in connections if each["cid"] == nc.server_info.client_id]
            scheme = way.url.partition(":")[0]
            assert mine["type"] == ("websocket" if scheme in ("ws", "wss") else "nats")
            assert (mine.get("tls_version") is not None) == (scheme in ("tls", "wss"))
            assert nc.server_info.port == int(way.url.rpartition(":")[2])

    run(main)


def test_messages_go_out_and_come_in(run: Run, way: Way, subject: str) -> None:
    def main() -> None:
        with way.connect() as nc, nc.subscribe(f"{subject}.>") as sub:
            for number in range(1000):
                nc.publish(f"{subject}.{number % 7}", str(number))
            got = [sub.next() for _ in range(1000)]
            assert [int(message.data) for message in got] == list(range(1000))
            assert got[8].subject == f"{subject}.1"

    run(main)


def test_headers_travel(run: Run, way: Way, subject: str) -> None:
    def main() -> None:
        with way.connect() as nc, nc.subscribe(subject) as sub:
            nc.publish(subject, b"data", headers={"One": "1", "Two": ["2", "zwei"]})
            headers = sub.next().headers
            assert headers is not None
            assert headers.get_all("Two") == ["2", "zwei"]
            assert headers["One"] == "1"

    run(main)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 1 << 20])
def test_payloads_of_every_size_come_back_whole(run: Run, way: Way, subject: str, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    def main() -> None:
        with way.connect() as nc, nc.subscribe(subject) as sub:
            for _ in range(3):
                nc.publish(subject, data)
            for _ in range(3):
                assert sub.next().data == data

    run(main)


def test_many_large_messages_go_both_ways_at_once(run: Run, way: Way, subject: str) -> None:
    """More than the sockets hold, so that both sides have to wait."""
    count, data = 40, bytes(range(256)) * 2000

    def main() -> None:
        with way.connect() as nc, nc.subscribe(subject, pending_bytes=None) as sub:
            for _ in range(count):
                nc.publish(subject, data)
            for _ in range(count):
                assert sub.next().data == data

    run(main)


def test_requests_are_answered(run: Run, way: Way, subject: str) -> None:
    def main() -> None:
        with way.connect() as nc, way.connect() as other:
            other.subscribe(subject, cb=lambda message: message.respond(message.data[::-1]))
            other.flush()
            assert nc.request(subject, b"abc").data == b"cba"
            with pytest.raises(nats_zio.NoRespondersError):
                nc.request(f"{subject}.nobody")

    run(main)


def test_flush_and_rtt_have_their_answer(run: Run, way: Way, subject: str) -> None:
    def main() -> None:
        with way.connect() as nc, way.connect() as other, other.subscribe(subject) as sub:
            other.flush()
            nc.publish(subject, b"x")
            nc.flush()
            other.flush()
            assert sub.pending_msgs == 1
            assert nc.rtt() > 0

    run(main)


def test_pings_keep_a_quiet_connection(way: Way) -> None:
    def main() -> None:
        with way.connect(ping_interval=0.02, max_outstanding_pings=100) as nc:
            sent = way.server.monitor("/varz")["in_msgs"]
            zio.sleep(0.3)
            assert nc.stats.reconnects == 0
            assert way.server.monitor("/varz")["in_msgs"] == sent

    zio.run(main)


def test_drain_handles_what_is_there_and_close_sends_what_was_accepted(run: Run, way: Way, subject: str) -> None:
    handled: list[bytes] = []

    def main() -> None:
        with way.connect() as watching, watching.subscribe(f"{subject}.last") as last:
            watching.flush()
            nc = way.connect()
            nc.subscribe(subject, cb=lambda message: handled.append(message.data))
            for number in range(100):
                nc.publish(subject, str(number))
            nc.flush()
            nc.drain()
            assert handled == [str(number).encode() for number in range(100)]
            nc = way.connect()
            nc.publish(f"{subject}.last", b"sent")
            nc.close()
            assert last.next().data == b"sent"

    run(main)


@pytest.mark.parametrize("way", [kind for kind in WAYS if kind != "tls"], indirect=True)
def test_another_library_understands_it(way: Way, subject: str) -> None:
    with Peer(way.server.url) as peer:
        messages = peer.subscribe(subject, reply=lambda message: b"yes " + message.data)

        def main() -> None:
            with way.connect() as nc:
                assert nc.request(subject, b"sir").data == b"yes sir"

        zio.run(main)
        assert messages.get(timeout=30).data == b"sir"


def test_killed_and_restarted_under_traffic_it_reconnects_and_counts_what_was_lost(run: Run, own_way: Way) -> None:
    """What arrives and what is reported as lost are together what was published; nothing comes twice."""
    kills = 5

    def main() -> None:
        received: list[int] = []
        published = lost = 0
        with own_way.connect(**FAST, request_timeout=30) as nc:
            seen = nc.events()
            sub = nc.subscribe("traffic")
            for _ in range(kills):
                nc.flush()
                for _ in range(500):
                    nc.publish("traffic", str(published))
                    published += 1
                away(own_way.server.kill)
                event = next_event(seen, Disconnected)
                lost += event.unflushed_msgs
                for _ in range(10):
                    nc.publish("traffic", str(published))
                    published += 1
                away(own_way.server.restart)
                next_event(seen, Reconnected)
            nc.flush()
            assert nc.stats.reconnects == kills
            while (message := sub.try_next()) is not None:
                received.append(int(message.data))
            assert len(set(received)) == len(received)
            assert received == sorted(received)
            assert published - lost <= len(received) <= published

    run(main)


def test_a_killed_client_leaves_nothing_at_the_server(run: Run, own_way: Way) -> None:
    def main() -> None:
        with own_way.connect(**FAST) as nc:
            nc.subscribe("a")
            nc.flush()
            nc.force_reconnect()
            nc.flush(timeout=30)
        eventually(lambda: away(own_way.server.monitor, "/varz")["connections"] == 0, "no connection is left")

    run(main)
