"""URLs of servers: what they say, what of them is shown, and which are none."""

from __future__ import annotations

from typing import Any

import pytest

import nats_zio
from nats_zio.errors import OptionError
from nats_zio.protocol import ServerInfo
from nats_zio.servers import Server, advertised, discovered_server, parse_server, parse_servers


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("nats://host", "host", 4222),
        ("tls://host", "host", 4222),
        ("ws://host", "host", 80),
        ("wss://host", "host", 443),
        ("wss://host:8443", "host", 8443),
        ("ws://[::1]:8080", "::1", 8080),
        ("WS://Host", "host", 80),
    ],
)
def test_each_scheme_has_a_port_of_its_own(url: str, host: str, port: int) -> None:
    server = parse_server(url)
    assert (server.host, server.port) == (host, port)
    assert server.scheme == url.partition(":")[0].lower()


@pytest.mark.parametrize(
    ("url", "target", "shown"),
    [
        ("ws://host", "", "ws://host:80"),
        ("ws://host/", "", "ws://host:80"),
        ("ws://host/a/b%20c", "/a/b%20c", "ws://host:80/a/b%20c"),
        ("ws://host/a/", "/a/", "ws://host:80/a/"),
        ("wss://user:hidden-word@host/a?b=hidden-word", "/a?b=hidden-word", "wss://host:443/a"),
        ("ws://host?b=hidden-word", "/?b=hidden-word", "ws://host:80/"),
    ],
)
def test_a_websocket_has_a_path_and_a_query_and_the_query_is_not_shown(url: str, target: str, shown: str) -> None:
    server = parse_server(url)
    assert server.target == target
    assert str(server) == shown
    assert "hidden-word" not in repr(server)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("unix:///run/nats.sock", "/run/nats.sock"),
        ("unix:///tmp/a%20b%3F", "/tmp/a b?"),
        ("unix://u:pass-word@/x", "/x"),
    ],
)
def test_a_unix_socket_has_a_path(url: str, path: str) -> None:
    server = parse_server(url)
    assert (server.scheme, server.path, server.host, server.port) == ("unix", path, "", 0)
    assert parse_server(str(server)).path == path


def test_credentials_of_a_unix_url_are_read() -> None:
    server = parse_server("unix://user:pass%2Fword@/run/nats.sock")
    assert (server.user, server.password) == ("user", "pass/word")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://host", "must be one of nats, tls, ws, wss, unix"),
        ("nats://host/path", "nothing may follow host and port"),
        ("tls://host?a=b", "nothing may follow host and port"),
        ("ws://host/a#b", "a fragment"),
        ("ws://", "has no host"),
        ("ws://host/café", "percent-encoded"),
        ("ws://host/a b", "no whitespace"),
        ("ws://host/a\r\nX: y", "no whitespace"),
        ("ws://host:0/", "port 0"),
        ("unix://", "the absolute path of a socket"),
        ("unix:///", "the absolute path of a socket"),
        ("unix:///run/", "the absolute path of a socket"),
        ("unix://run/nats.sock", "the absolute path of a socket"),
        ("unix://host:1/nats.sock", "the absolute path of a socket"),
        ("unix:///nats.sock?a=b", "the absolute path of a socket"),
        ("unix:///nats%00.sock", "the absolute path of a socket"),
    ],
)
def test_what_is_no_url_is_refused(url: str, problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        parse_server(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://host/path?key=hidden-word",
        "http://user:hidden-word@host/path?key=hidden-word",
        "http://host?a=b@hidden-word",
        "http://host/path?key=hidden-word@hidden-word",
        "http://user:hidden-word?hidden-word@host",
        "ws://host:x/?key=hidden-word",
        "unix:///path?key=hidden-word",
    ],
)
def test_an_error_shows_neither_credentials_nor_query(url: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_server(url)
    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize("servers", [None, 5, b"nats://user:hidden-word@host", {"nats://host": 1}])
def test_what_is_neither_a_url_nor_a_list_is_refused(servers: Any) -> None:
    nc = nats_zio.connect(lazy=True)
    for use in (nats_zio.connect, nc.set_servers):
        with pytest.raises(OptionError, match=f"servers must be a URL.*not {type(servers).__name__}") as caught:
            use(servers)
        assert "hidden-word" not in str(caught.value)


def test_any_other_collection_of_urls_will_do() -> None:
    for servers in (("a:1", "b:2"), {"a:1": 0, "b:2": 0}.keys(), (f"{name}" for name in ("a:1", "b:2"))):
        assert list(map(str, parse_servers(servers))) == ["nats://a:1", "nats://b:2"]  # type: ignore[arg-type]


# What the cluster makes known.


BOTH = ServerInfo(connect_urls=("a:1",), ws_connect_urls=("a:2",))


@pytest.mark.parametrize(
    ("url", "found"),
    [("nats://x", ("a:1",)), ("tls://x", ("a:1",)), ("ws://x", ("a:2",)), ("wss://x", ("a:2",)), ("unix:///x", ())],
)
def test_each_kind_of_connection_has_its_addresses(url: str, found: tuple[str, ...]) -> None:
    assert advertised(BOTH, parse_server(url)) == found


def test_over_websocket_a_server_names_its_addresses_without_saying_so() -> None:
    """As nats-server does."""
    assert advertised(ServerInfo(connect_urls=("a:1",)), parse_server("ws://x")) == ("a:1",)


@pytest.mark.parametrize(
    ("connected", "encrypted", "found"),
    [
        ("nats://x", False, "nats://a:1"),
        ("nats://x", True, "tls://a:1"),
        ("tls://x", True, "tls://a:1"),
        ("ws://x", False, "ws://a:1"),
        ("ws://x", True, "wss://a:1"),
        ("wss://x/path", True, "wss://a:1/path"),
    ],
)
def test_what_is_found_is_spoken_to_in_the_same_way(connected: str, encrypted: bool, found: str) -> None:
    server = discovered_server("a:1", parse_server(connected), encrypted)
    assert isinstance(server, Server)
    assert str(server) == found
