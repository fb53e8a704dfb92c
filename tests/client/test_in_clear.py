"""What is never said in clear: where TLS is wanted, or was once, nothing at all goes to a server without it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
from nats_zio import TLS, events
from nats_zio.testing import ScriptedServer
from tests.client.certificates import Authority
from tests.client.scripted import scripted, until
from tests.jwts import Operator, user_key
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual

pytestmark = pytest.mark.simulated

OPTIONS: dict[str, Any] = {"reconnect_wait": 0.1, "reconnect_jitter": 0.0, "ignore_discovered_servers": False}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


WANTED: dict[str, Callable[[Authority], tuple[str, Any]]] = {
    "True": lambda ca: ("nats", True),
    "scheme": lambda ca: ("tls", None),
    "scheme and False": lambda ca: ("tls", False),
    "TLS": lambda ca: ("nats", TLS(ca=ca.file)),
    "context": lambda ca: ("nats", ca.client_context()),
    "context that checks nothing": lambda ca: ("nats", ssl._create_unverified_context()),
}

WHO: dict[str, Callable[[], tuple[str, dict[str, Any]]]] = {
    "url": lambda: (f"ann:{secret()}@", {}),
    "token in the url": lambda: (f"{secret()}@", {}),
    "password": lambda: ("", {"user": "ann", "password": secret()}),
    "token": lambda: ("", {"token": secret()}),
    "nkey": lambda: ("", {"nkey_seed": user_key().seed}),
    "credentials": lambda: ("", {"credentials": Operator().credentials()}),
    "auth": lambda: ("", {"auth": lambda info: nats_zio.Auth(token=secret())}),
    "nobody": lambda: ("", {"name": "our name"}),
}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("wanted", WANTED)
def test_a_server_without_tls_hears_nothing_where_it_is_wanted(ca: Authority, wanted: str, who: str) -> None:
    scheme, tls = WANTED[wanted](ca)
    userinfo, options = WHO[who]()

    def test(server: ScriptedServer) -> None:
        with pytest.raises(nats_zio.TLSRequiredError, match=f"{scheme}://s1:4222 does not offer TLS"):
            nats_zio.connect(f"{scheme}://{userinfo}s1:4222", tls=tls, **options)
        (client,) = server.all_clients
        assert client.received == b""

    scripted(test, nonce="a-nonce", auth_required=True)


GLUED = [
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b"-ERR 'Stale Connection'\r\n",
    b"\r\n",
    b"INFO {}\r\n",
    b'INFO {"connect_urls":["evil:4222"]}\r\n',
    b"MSG a 1 0\r\n\r\n",
    b"P",
    b"\x16",
]


@pytest.mark.parametrize("tls", [True, None], ids=["wanted", "asked for by the server"])
@pytest.mark.parametrize("more", GLUED, ids=repr)
def test_more_than_info_before_the_handshake_is_refused(ca: Authority, more: bytes, tls: bool | None) -> None:
    def test(server: ScriptedServer) -> None:
        server.greeting = b'INFO {"tls_required":true}\r\n' + more
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect(server.url, tls=tls, user="ann", password=secret())
        error = caught.value.errors[server.url]
        assert isinstance(error, nats_zio.ServerError if b"-ERR" in more else nats_zio.ProtocolError)
        (client,) = server.all_clients
        assert client.received == b""

    scripted(test)


@pytest.mark.parametrize("before", [b"", b'INFO {"tls_required":true}\r\n'], ids=["instead of INFO", "behind INFO"])
def test_a_refusal_in_clear_may_be_anybodys_and_drops_no_server(ca: Authority, before: bytes) -> None:
    def test(server: ScriptedServer) -> None:
        with nats_zio.connect(server.url, tls=ca.client_context(), token=secret(), **OPTIONS) as nc:
            seen = nc.events()
            server.greeting = before + b"-ERR 'Authorization Violation'\r\n"
            server.tls, context = None, server.tls
            server.clients[0].close()
            for _ in range(5):
                failed: Any = until(seen, events.ReconnectFailed)[-1]
                assert isinstance(failed.error, nats_zio.ServerError)
                assert not isinstance(failed.error, nats_zio.AuthError)
                assert "in clear" in str(failed.error)
            server.greeting, server.tls = None, context
            until(seen, events.Reconnected)

    scripted(test, tls=ca.server_context("s1"))


def test_an_end_right_behind_the_handshake_is_told_and_tried_again(ca: Authority) -> None:
    def test(server: ScriptedServer) -> None:
        with nats_zio.connect(server.url, tls=ca.client_context(), token=secret(), **OPTIONS) as nc:
            seen = nc.events()
            server.on_command = lambda client, command: client.close()
            server.clients[0].close()
            for _ in range(3):
                failed: Any = until(seen, events.ReconnectFailed)[-1]
                assert isinstance(failed.error, OSError)
            server.on_command = None
            until(seen, events.Reconnected)

    scripted(test, tls=ca.server_context("s1"))


@pytest.mark.parametrize("more", GLUED, ids=repr)
def test_what_comes_in_clear_during_the_handshake_ends_it(ca: Authority, more: bytes) -> None:
    def test(server: ScriptedServer) -> None:
        server.greeting = b'INFO {"tls_required":true}\r\n'
        server.on_client = lambda client: server.later(0.5, lambda: client.send(more * 20))
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect(server.url, user="ann", password=secret(), tls=ca.client_context(), connect_timeout=10)
        assert isinstance(caught.value.errors[server.url], (ssl.SSLError, nats_zio.TimeoutError))
        (client,) = server.all_clients
        assert client.received[:1] == b"\x16", "a handshake was begun"
        assert b"CONNECT" not in client.received

    scripted(test)


@pytest.mark.parametrize("tls_first", [False, True])
def test_connect_goes_through_tls_and_says_so(ca: Authority, tls_first: bool) -> None:
    def test(server: ScriptedServer) -> None:
        tls = TLS(context=ca.client_context(), handshake_first=tls_first)
        with nats_zio.connect(server.url, tls=tls, token=secret()) as nc:
            nc.flush()
            (client,) = server.clients
            assert client.options["tls_required"] is True
            assert client.received.startswith(b"CONNECT ")

    scripted(test, tls=ca.server_context("s1"), tls_first=tls_first)


def test_connect_in_clear_says_so() -> None:
    def test(server: ScriptedServer) -> None:
        with nats_zio.connect(server.url):
            assert server.clients[0].options["tls_required"] is False

    scripted(test)


def two_servers(main: Callable[[ScriptedServer, ScriptedServer], None], ca: Authority) -> None:
    """`main(a, b)`; a, named "a", asks for TLS and makes b known, which speaks plain."""

    def start() -> None:
        with (
            ScriptedServer("b", 4222) as b,
            ScriptedServer("a", 4222, tls=ca.server_context("a"), connect_urls=["a:4222", "b:4222"]) as a,
        ):
            main(a, b)

    run_virtual(start, network=SimNetwork(1), seed=1)


@pytest.mark.parametrize("scheme", ["nats", "tls"])
@pytest.mark.parametrize("wanted", [True, False], ids=["wanted", "asked for by the server"])
@pytest.mark.parametrize("who", WHO)
def test_credentials_do_not_go_in_clear_to_a_server_that_a_tls_server_makes_known(
    ca: Authority, who: str, wanted: bool, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    userinfo, options = WHO[who]()
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))

    def main(a: ScriptedServer, b: ScriptedServer) -> None:
        tls = {"tls": ca.client_context()} if wanted else {}
        with nats_zio.connect(f"{scheme}://{userinfo}a:4222", **tls, **options, **OPTIONS) as nc:
            assert nc.discovered_servers == ["tls://b:4222"]
            seen = nc.events()
            a.kill()
            until(seen, events.Disconnected)
            told: list[Any] = [event for _ in range(3) for event in until(seen, events.ReconnectFailed)]
            assert any(isinstance(event.error, nats_zio.TLSRequiredError) for event in told)
            assert b.all_clients
            assert all(client.received == b"" for client in b.all_clients)
            a.start()
            until(seen, events.Reconnected)
            assert nc.connected_url == f"{scheme}://a:4222"

    two_servers(main, ca)


def test_a_server_that_asked_for_tls_once_is_never_spoken_to_in_clear_again(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))

    def test(server: ScriptedServer) -> None:
        with nats_zio.connect(server.url, user="ann", password=secret(), **OPTIONS) as nc:
            seen = nc.events()
            context, server.tls = server.tls, None
            server.clients[0].close()
            told: Any = until(seen, events.ReconnectFailed)[-1]
            assert isinstance(told.error, nats_zio.TLSRequiredError)
            assert server.all_clients[-1].received == b""
            server.tls = context
            until(seen, events.Reconnected)

    scripted(test, tls=ca.server_context("s1"))


def test_where_tls_is_wanted_a_plain_server_is_passed_over_for_one_that_has_it(ca: Authority) -> None:
    def main(a: ScriptedServer, b: ScriptedServer) -> None:
        with nats_zio.connect(["b:4222", "a:4222"], no_randomize=True, tls=ca.client_context(), token=secret()) as nc:
            assert nc.connected_url == "nats://a:4222"
            assert b.all_clients[0].received == b""

    two_servers(main, ca)


def test_without_a_nonce_nothing_that_needs_one_is_shown() -> None:
    for who in ("nkey", "credentials"):
        _, options = WHO[who]()

        def test(server: ScriptedServer, options: dict[str, Any] = options) -> None:
            with nats_zio.connect(server.url, **options):
                said = server.clients[0].options
                assert not {said.get(name) for name in ("jwt", "nkey", "sig")} - {None}

        scripted(test)
