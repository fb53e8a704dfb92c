"""A client over WebSocket: how it is opened, what the options say about it, what the cluster makes known."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wsproto.events import RejectConnection
from wsproto.extensions import PerMessageDeflate

import nats_zio
import zio
from nats_zio import TLS, OptionError, WebSocketError
from nats_zio.events import Disconnected, Reconnected, ReconnectFailed, ServersDiscovered
from nats_zio.testing import NatsCluster, NatsServer
from tests.client.certificates import Authority
from tests.client.helpers import away, eventually, next_event
from tests.client.websockets import (
    ScriptedWebSocket,
    WebSocketPeer,
    failure,
    frame,
    serving,
    simulated,
    websocket_server,
    works,
)
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual

Run = Callable[..., Any]

FAST: dict[str, Any] = {"reconnect_wait": 0.01, "reconnect_max_wait": 0.02}
CLUSTER = 'websocket { host: "127.0.0.1", port: -1, no_tls: true }'


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def encrypted(ca: Authority) -> Iterator[str]:
    """The URL of a server that speaks WebSocket over TLS only."""
    with websocket_server(tls=ca.config().strip()) as (_, url):
        yield url


# The request.


def test_the_path_and_query_of_the_url_are_asked_for_and_only_the_path_is_shown() -> None:
    key = secret()

    def test(server: ScriptedWebSocket) -> None:
        with nats_zio.connect(f"ws://server/behind/a%20proxy?key={key}") as nc:
            assert server.peers[0].request.target == f"/behind/a%20proxy?key={key}"
            assert nc.connected_url == "ws://server:80/behind/a%20proxy"
            assert nc.servers == ["ws://server:80/behind/a%20proxy"]

    simulated(test)


@pytest.mark.parametrize(("url", "target"), [("ws://server", "/"), ("ws://server/", "/"), ("ws://server?a=b", "/?a=b")])
def test_without_a_path_the_root_is_asked_for(url: str, target: str) -> None:
    def test(server: ScriptedWebSocket) -> None:
        with nats_zio.connect(url):
            assert server.peers[0].request.target == target

    simulated(test)


def test_the_port_is_80_and_named_only_if_it_is_another() -> None:
    def test(server: ScriptedWebSocket) -> None:
        with nats_zio.connect("ws://server"), serving("server", 8080) as other, nats_zio.connect("ws://server:8080"):
            assert [server.peers[0].request.host, other.peers[0].request.host] == ["server", "server:8080"]

    simulated(test)


# Headers.


def test_the_servers_own_ways_to_authenticate_by_cookie_work(run: Run) -> None:
    token = secret()

    def main(url: str) -> None:
        with nats_zio.connect(url, ws_headers={"Cookie": f"other=1; nats={token}"}) as nc:
            works(nc, "a")
        with pytest.raises(nats_zio.AuthError):
            nats_zio.connect(url, ws_headers={"Cookie": f"nats={secret()}"})
        with pytest.raises(nats_zio.AuthError):
            nats_zio.connect(url)

    with websocket_server('token_cookie: "nats"', config=f'authorization {{ token: "{token}" }}') as (_, url):
        run(main, url)


def test_a_function_gives_the_headers_for_each_connection_anew(run: Run) -> None:
    token = secret()
    asked: list[str] = []

    def headers() -> dict[str, str]:
        asked.append("in a thread" if zio.lowlevel.runtime_here() is None else "in a task")
        return {"Cookie": f"nats={token}"}

    def main(url: str) -> None:
        with nats_zio.connect(url, ws_headers=headers, **FAST) as nc:
            seen = nc.events()
            nc.force_reconnect()
            next_event(seen, Reconnected)
            works(nc, "a")
            assert asked == ["in a thread" if nc._core.callbacks_in_threads else "in a task"] * 2

    with websocket_server('token_cookie: "nats"', config=f'authorization {{ token: "{token}" }}') as (_, url):
        run(main, url)


def test_each_connection_has_the_headers_of_its_time() -> None:
    numbers = iter(range(10))

    def test(server: ScriptedWebSocket) -> None:
        with nats_zio.connect("ws://server", ws_headers=lambda: {"X-Number": str(next(numbers)), "Empty": ""}) as nc:
            seen = nc.events()
            nc.force_reconnect()
            next_event(seen, Reconnected)
        headers = [dict(peer.request.extra_headers) for peer in server.peers]
        assert [(each[b"x-number"], each[b"empty"]) for each in headers] == [(b"0", b""), (b"1", b"")]

    simulated(test)


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"X": "a\r\nY: b"}, "'X' must be printable ASCII on one line"),
        ({"X": "a\nb"}, "on one line"),
        ({"X": "a\0b"}, "printable"),
        ({"X": " a"}, "without spaces around"),
        ({"X": "a\t"}, "without spaces around"),
        ({"X": "café"}, "ASCII"),
        ({"X": b"a"}, "must be a str, not bytes"),
        ({"X": ["a", "b"]}, "must be a str, not list"),
        ({"": "a"}, "'' cannot be the name"),
        ({"X:": "a"}, "'X:' cannot be the name"),
        ({"X\r\nY": "a"}, "cannot be the name"),
        ({b"X": "a"}, "cannot be the name"),
        ({"Host": "a"}, "'Host' is set by the handshake"),
        ({"upgrade": "a"}, "'upgrade' is set by the handshake"),
        ({"Connection": "close"}, "is set by the handshake"),
        ({"Content-Length": "1"}, "is set by the handshake"),
        ({"Sec-WebSocket-Extensions": "a"}, "is set by the handshake"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers: Any, problem: str) -> None:
    """Before anything is opened; those of a function before they are sent."""

    def test(server: ScriptedWebSocket) -> None:
        with pytest.raises(OptionError, match=problem):
            nats_zio.connect("ws://server", ws_headers=headers)
        assert not server.peers
        error = failure("ws://server", ws_headers=lambda: headers)
        assert isinstance(error, OptionError)
        assert re.search(problem, str(error))
        zio.sleep(1)
        with pytest.raises(AttributeError):  # it has seen no request
            _ = server.peers[0].request

    simulated(test)


def test_the_value_of_a_header_that_is_refused_is_not_shown() -> None:
    value = secret() + "\n"
    with pytest.raises(OptionError) as caught:
        nats_zio.connect("ws://server", ws_headers={"Authorization": value})
    assert value.strip() not in str(caught.value)


def test_a_function_that_fails_or_returns_something_else_is_named() -> None:
    def broken() -> dict[str, str]:
        raise RuntimeError("no token to be had")

    def test(_server: ScriptedWebSocket) -> None:
        for function, problem in (
            (broken, "ws_headers= raised RuntimeError"),
            (lambda: 1, "returned int, not a mapping"),
        ):
            error = failure("ws://server", ws_headers=function)
            assert isinstance(error, OptionError)
            assert problem in str(error)

    simulated(test)


@pytest.mark.parametrize("wrong", ["X: a", 5, [("X", "a")]])
def test_what_is_no_mapping_and_no_function_is_refused(wrong: Any) -> None:
    with pytest.raises(OptionError, match="ws_headers must be a mapping or a function"):
        nats_zio.connect("ws://server", ws_headers=wrong)


def test_headers_are_in_no_repr() -> None:
    value = secret()

    def test(_server: ScriptedWebSocket) -> None:
        with nats_zio.connect(f"ws://server/path?key={value}", ws_headers={"Authorization": f"Bearer {value}"}) as nc:
            for text in (repr(nc), repr(nc.options), str(nc.servers), str(nc.connected_url), repr(nc.server_info)):
                assert value not in text

    simulated(test)


# Options that are about something else.


@pytest.mark.parametrize("option", [{"ws_headers": {"X": "a"}}, {"ws_compression": True}])
def test_without_a_websocket_server_the_options_for_them_are_a_mistake(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(OptionError, match=f"{name} is for ws:// and wss:// servers, and none is given"):
        nats_zio.connect("nats://127.0.0.1:1,tls://127.0.0.1:1", **option)


def test_compression_is_on_or_off() -> None:
    with pytest.raises(OptionError, match="ws_compression='yes': must be True or False"):
        nats_zio.connect("ws://127.0.0.1:1", ws_compression="yes")


def test_without_the_library_the_extra_is_named_and_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wsproto", None)

    def test(server: ScriptedWebSocket) -> None:
        for url in ("ws://server", "wss://server", "nats://server:80,ws://server"):
            with pytest.raises(OptionError, match=r"pip install 'nats-zio\[ws\]'"):
                nats_zio.connect(url)
        assert not server.peers

    simulated(test)


def test_without_the_library_other_servers_cannot_become_websocket_servers(
    nats_server: NatsServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wsproto", None)

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            with pytest.raises(OptionError, match=r"pip install 'nats-zio\[ws\]'"):
                nc.set_servers("ws://127.0.0.1:1")
            works(nc, "still.there")

    run(main)


# The answer.


def refusing(status: int, *headers: tuple[bytes, bytes]) -> Callable[[WebSocketPeer], None]:
    def answer(peer: WebSocketPeer) -> None:
        peer.read_request()
        peer.stream.send_all(peer.engine.send(RejectConnection(status_code=status, headers=[*headers], has_body=False)))
        raise ConnectionAbortedError("that was all")

    return answer


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "HTTP 401 (Unauthorized)"),
        (404, "HTTP 404 (Not Found)"),
        (302, "HTTP 302 (Found)"),
        (200, "HTTP 200 (OK)"),
        (503, "HTTP 503 (Service Unavailable)"),
        (599, "HTTP 599"),
    ],
)
def test_another_status_is_an_error_that_names_it_and_tells_nothing_else(status: int, words: str) -> None:
    hidden = secret()

    def test(server: ScriptedWebSocket) -> None:
        server.answer = refusing(status, (b"Location", f"https://elsewhere/?key={hidden}".encode()))
        error = failure(f"ws://server/path?key={hidden}", ws_headers={"Authorization": hidden})
        assert isinstance(error, WebSocketError)
        assert isinstance(error, ConnectionError)
        assert error.status == status
        assert str(error) == f"ws://server:80/path opens no WebSocket: {words}"
        assert len(server.peers) == 1

    simulated(test)


def raw_answer(part: bytes, end: bool = True) -> Callable[[WebSocketPeer], None]:
    def answer(peer: WebSocketPeer) -> None:
        peer.read_request()
        peer.stream.send_all(part)
        if not end:
            peer.stream.recv(1)
        raise ConnectionAbortedError("that was all")

    return answer


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "closed the connection instead of opening a WebSocket"),
        (b"HTTP/1.1 101 Swi", "closed the connection instead of opening a WebSocket"),
        (b'INFO {"server_id": "x"}\r\n', "does not speak HTTP at that port, and so no WebSocket"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "does not speak HTTP at that port, and so no WebSocket"),
        (b"HTTP/1.1 4 or 5\r\n\r\n", "did not answer as a WebSocket server does: Bad HTTP message"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "did not answer as .* Missing header, 'Connection: Upgrade'"),
        (
            b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
            "did not answer as .* Bad accept token",
        ),
        (b"HTTP/1.1 101 S\r\n" + b"X: " + b"x" * 100_000, "did not answer as .* Bad HTTP message"),
    ],
)
def test_an_answer_that_is_none_is_an_error(answer: bytes, problem: str) -> None:
    def test(server: ScriptedWebSocket) -> None:
        server.answer = raw_answer(answer)
        error = failure("ws://server")
        assert isinstance(error, WebSocketError)
        assert error.status is None
        assert re.search(problem, str(error))

    simulated(test)


def test_an_extension_nobody_asked_for_is_an_error() -> None:
    def forced(peer: WebSocketPeer) -> None:
        peer.read_request()
        peer.request.extensions.append("permessage-deflate")  # type: ignore[union-attr]
        peer.stream.send_all(peer.accepted(PerMessageDeflate()))

    def test(server: ScriptedWebSocket) -> None:
        server.answer = forced
        error = failure("ws://server")
        assert isinstance(error, WebSocketError)
        assert "unrecognized extension permessage-deflate" in str(error)

    simulated(test)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching"])
def test_the_upgrade_has_the_time_of_connect_timeout(answer: bytes) -> None:
    def test(server: ScriptedWebSocket) -> None:
        server.answer = raw_answer(answer, end=False)
        start = zio.now()
        error = failure("ws://server", connect_timeout=3)
        assert isinstance(error, nats_zio.TimeoutError)
        assert "ws://server:80 did not complete the handshake within 3 s" in str(error)
        assert zio.now() - start == pytest.approx(3, abs=0.1)
        zio.sleep(1)
        assert not zio.lowlevel.here().loop.runtime.network.connections

    simulated(test)


def test_what_is_glued_to_the_answer_is_not_lost() -> None:
    def glued(peer: WebSocketPeer) -> None:
        peer.read_request()
        info = b'INFO {"max_payload": 777}\r\n'
        peer.stream.send_all(peer.accepted() + frame(info[:5]) + frame(b"are you there?", 9) + frame(info[5:]))

    def test(server: ScriptedWebSocket) -> None:
        server.answer = glued
        server.info["max_payload"] = 888
        with nats_zio.connect("ws://server") as nc:
            nc.flush()
            assert server.peers[0].pongs == [b"are you there?"]

    simulated(test)


def test_a_nats_port_is_no_websocket_port(nats_server: NatsServer, run: Run) -> None:
    error = run(failure, nats_server.url.replace("nats://", "ws://"))
    assert isinstance(error, WebSocketError)
    assert "does not speak HTTP at that port" in str(error)


# While it goes on.


def test_pings_of_the_websocket_are_answered_and_do_not_disturb() -> None:
    def test(server: ScriptedWebSocket) -> None:
        with nats_zio.connect("ws://server") as nc:
            (peer,) = server.peers
            sub = nc.subscribe("a")
            nc.flush()
            for number in range(50):
                payload = b"ping %d" % number
                message = b"MSG a 1 2\r\n%02d\r\n" % number
                peer.stream.send_all(
                    frame(message[:7], fin=False) + frame(payload, 9) + frame(message[7:], 0) + frame(b"unasked", 10)
                )
                assert sub.next().data == b"%02d" % number
            nc.flush()
            assert peer.pongs == [b"ping %d" % number for number in range(50)]

    simulated(test)


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"\x03\xe9", "the server closed the connection"),
        (b"", "the server closed the connection"),
        (b"\x03\xf0tired of you", "the server closed the WebSocket: 1008 tired of you"),
    ],
)
def test_a_close_frame_of_the_server_ends_the_connection_and_there_is_another(payload: bytes, error: str) -> None:
    def test(server: ScriptedWebSocket) -> None:
        with nats_zio.connect("ws://server") as nc:
            seen = nc.events()
            sub = nc.subscribe("a")
            nc.flush()
            server.peers[0].stream.send_all(frame(b"MSG a 1 4\r\nlast\r\n") + frame(payload, 8))
            assert sub.next().data == b"last"
            assert str(next_event(seen, Disconnected).error) == error
            next_event(seen, Reconnected)
            assert server.peers[0].close is not None
            nc.flush()

    simulated(test)


def test_closing_the_client_closes_the_websocket_behind_what_was_published() -> None:
    def test(server: ScriptedWebSocket) -> None:
        with nats_zio.connect("ws://server") as nc:
            nc.publish("a", b"last words")
        zio.sleep(1)
        (peer,) = server.peers
        assert peer.close is not None
        assert peer.close.code == 1000

    simulated(test)


# TLS.


@pytest.mark.parametrize("scheme", ["wss", "ws"])
@pytest.mark.parametrize("way", ["files", "context"])
def test_tls_comes_before_http(run: Run, encrypted: str, ca: Authority, subject: str, scheme: str, way: str) -> None:
    """With ws:// as well, if TLS is asked for."""

    def main() -> None:
        url = encrypted.replace("wss", scheme)
        with nats_zio.connect(url, tls=TLS(ca=ca.file) if way == "files" else ca.client_context()) as nc:
            works(nc, subject)
            assert nc.connected_url == url

    run(main)


def test_a_certificate_for_another_name_is_refused_unless_that_name_is_expected(
    run: Run, ca: Authority, subject: str
) -> None:
    files = ca.issue("elsewhere.example")

    def main(url: str) -> None:
        error = failure(url, tls=TLS(ca=ca.file))
        assert "certificate is not valid for" in str(error) or "IP address mismatch" in str(error)
        with nats_zio.connect(url, tls=TLS(ca=ca.file, hostname="elsewhere.example")) as nc:
            works(nc, subject)

    with websocket_server(tls=ca.config(files=files).strip()) as (_, url):
        run(main, url)


def test_an_authority_that_is_not_trusted_is_refused(run: Run, encrypted: str) -> None:
    def main() -> None:
        for options in ({}, {"tls": True}):
            assert "certificate verify failed" in str(failure(encrypted, **options))

    run(main)


def test_our_own_certificate_is_shown(run: Run, ca: Authority, subject: str) -> None:
    ours = ca.issue("client@example", file="client")

    def main(url: str) -> None:
        with nats_zio.connect(url, tls=TLS(ca=ca.file, cert=ours.cert, key=ours.key)) as nc:
            works(nc, subject)
        with pytest.raises(nats_zio.NoServersError):
            nats_zio.connect(url, tls=TLS(ca=ca.file))

    with websocket_server(tls=ca.config("verify: true").strip()) as (_, url):
        run(main, url)


def test_where_tls_is_wanted_nothing_is_said_in_clear(ca: Authority) -> None:
    """Neither the HTTP request with its headers nor anything behind it."""
    hidden = secret()

    def main() -> bytes:
        with zio.net.listen("server", 80) as listener, zio.TaskGroup() as group:
            options = {"tls": TLS(ca=ca.file), "ws_headers": {"Authorization": hidden}, "connect_timeout": 5}
            group.spawn(lambda: failure("ws://server", **options))
            with listener.accept() as stream:
                said = b"".join(iter(lambda: stream.recv(65536), b""))
        return said

    said = run_virtual(main, network=SimNetwork(1))
    assert said[:2] == b"\x16\x03"
    assert hidden.encode() not in said
    assert b"GET" not in said


def test_what_info_says_about_tls_is_about_the_way_behind_a_gateway() -> None:
    """We speak as the URL says."""

    def main() -> None:
        with serving(tls_required=True, tls_available=True), nats_zio.connect("ws://server") as nc:
            nc.flush()

    run_virtual(main, network=SimNetwork(1), seed=1)


# Several servers.


def websocket_urls(cluster: NatsCluster, scheme: str = "ws") -> dict[str, NatsServer]:
    """Of those that run; a restarted server has another port."""
    running = [server for server in cluster.servers if server.running]
    return {f"{scheme}://127.0.0.1:{server.monitor('/varz')['websocket']['port']}": server for server in running}


def test_the_clusters_websocket_servers_are_found_and_gone_to(run: Run) -> None:
    def main(cluster: NatsCluster) -> None:
        urls = websocket_urls(cluster)
        first = next(iter(urls))
        with nats_zio.connect(first, **FAST) as nc:
            seen = nc.events()
            eventually(lambda: set(nc.servers) == set(urls), "the others are known")
            assert set(nc.discovered_servers) == set(urls) - {first}
            sub = nc.subscribe("a")
            here: str | None = first
            for _ in range(2):
                assert here is not None
                killed = urls[here]
                away(killed.kill)
                next_event(seen, Reconnected)
                here = nc.connected_url
                urls = websocket_urls(cluster)
                assert here in urls
                nc.publish("a", b"x")
                assert sub.next(timeout=30).data == b"x"
                away(killed.start)
                away(cluster.wait_ready)
                eventually(
                    lambda: set(websocket_urls(cluster)) <= set(nc.servers),
                    "the restarted one is known by its new port",
                )
                urls = websocket_urls(cluster)

    with NatsCluster(size=3, jetstream=False, config=CLUSTER) as cluster:
        run(main, cluster)


def test_a_plain_connection_to_the_same_cluster_finds_the_plain_servers() -> None:
    def main(cluster: NatsCluster) -> None:
        with nats_zio.connect(cluster.servers[0].url) as nc:
            eventually(lambda: set(nc.servers) == set(cluster.urls), "the other one is known")

    with NatsCluster(size=2, jetstream=False, config=CLUSTER) as cluster:
        zio.run(main, cluster)


def test_what_is_found_inherits_path_and_headers() -> None:
    def main() -> None:
        with serving("a", 8080, connect_urls=["b:9090"]) as a, serving("b", 9090) as b:
            url = "ws://a:8080/behind/proxy?key=value"
            with nats_zio.connect(url, ws_headers={"X": "1"}, **FAST) as nc:
                seen = nc.events()
                assert nc.discovered_servers == ["ws://b:9090/behind/proxy"]
                a.close()
                next_event(seen, Reconnected)
                assert b.peers[0].request.target == "/behind/proxy?key=value"
                assert dict(b.peers[0].request.extra_headers)[b"x"] == b"1"

    run_virtual(main, network=SimNetwork(1), seed=1)


def test_addresses_for_websocket_are_preferred_where_info_has_both() -> None:
    def main() -> None:
        with (
            serving("a", 80, connect_urls=["plain:4222"], ws_connect_urls=["b:8080", "[::1]:8080"]),
            nats_zio.connect("ws://a") as nc,
        ):
            assert nc.discovered_servers == ["ws://[::1]:8080", "ws://b:8080"]

    run_virtual(main, network=SimNetwork(1), seed=1)


def test_what_is_found_over_tls_is_spoken_to_over_tls(ca: Authority, run: Run) -> None:
    config = f"websocket {{ host: 127.0.0.1, port: -1, {ca.config().strip()} }}"

    def main(cluster: NatsCluster) -> None:
        urls = list(websocket_urls(cluster, "wss"))
        with nats_zio.connect(urls[0], tls=TLS(ca=ca.file), **FAST) as nc:
            seen = nc.events()
            eventually(lambda: nc.discovered_servers == urls[1:], "the other one is known")
            away(cluster.servers[0].kill)
            next_event(seen, Reconnected)
            assert nc.connected_url == urls[1]
            works(nc, "a")

    with NatsCluster(size=2, jetstream=False, config=config) as cluster:
        run(main, cluster)


def test_one_client_may_know_servers_of_every_kind(nats_server: NatsServer) -> None:
    def main(server: NatsServer, url: str) -> None:
        with nats_zio.connect([url, nats_server.url], no_randomize=True, ws_headers={"X": "1"}, **FAST) as nc:
            seen = nc.events()
            assert nc.connected_url == url
            away(server.kill)
            next_event(seen, Reconnected)
            assert nc.connected_url == nats_server.url
            nc.flush()

    with websocket_server() as (server, url):
        zio.run(main, server, url)


def test_a_refused_upgrade_is_told_by_events_and_tried_again() -> None:
    def test(server: ScriptedWebSocket) -> None:
        with nats_zio.connect("ws://server", reconnect_wait=1) as nc:
            seen = nc.events()
            accept, server.answer = server.answer, refusing(503)
            server.peers[0].stream.close()
            error = next_event(seen, ReconnectFailed).error
            assert isinstance(error, WebSocketError)
            assert error.status == 503
            server.answer = accept
            next_event(seen, Reconnected)
            nc.flush()

    simulated(test)


def test_servers_discovered_are_shown_as_websocket_urls() -> None:
    def test(server: ScriptedWebSocket) -> None:
        with nats_zio.connect("ws://server") as nc:
            seen = nc.events()
            server.peers[0].send(b'INFO {"connect_urls": ["server:80", "other:8080"]}\r\n')
            assert next_event(seen, ServersDiscovered).servers == ["ws://other:8080"]

    simulated(test)
