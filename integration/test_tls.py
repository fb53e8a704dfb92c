"""Encrypted connections, and all the reasons to refuse one."""

from __future__ import annotations

import datetime as dt
import os
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

import nats_zio
import zio
from integration.certificates import Authority, tls_config
from integration.containers import NatsContainer
from integration.helpers import survives_a_restart, text_of, works
from nats_zio import TLS
from nats_zio.events import Disconnected, Reconnected, ReconnectFailed
from tests.client.helpers import away, eventually, next_event
from tests.client.load import Load
from tests.secrecy import secret

UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """An authority that the server does not know."""
    return Authority(tmp_path, "stranger")


@pytest.fixture
def server(start: Any, ca: Authority) -> NatsContainer:
    """Asks for TLS."""
    started: NatsContainer = start(tls_config(), files=ca.server_files())
    return started


@pytest.fixture
def mutual(start: Any, ca: Authority) -> NatsContainer:
    """Asks for a certificate of the client's, too."""
    started: NatsContainer = start(tls_config("verify: true"), files=ca.server_files())
    return started


def tls_version(server: NatsContainer, nc: nats_zio.Client) -> str:
    """What the server says about this client's connection."""
    connections = server.monitor("/connz")["connections"]
    (mine,) = [each for each in connections if each["cid"] == nc.server_info.client_id]
    return str(mine.get("tls_version") or "")


def fails(server: NatsContainer, **options: Any) -> str:
    """No connection comes about, quickly; what is said about it."""
    begin = time.monotonic()
    with pytest.raises(nats_zio.NoServersError) as caught:
        nats_zio.connect(server.url, connect_timeout=3, **options)
    assert time.monotonic() - begin < 6
    return text_of(caught.value)


# --- the server's certificate


@pytest.mark.parametrize("way", ["files", "context", "context in TLS", "scheme"])
def test_tls(run: Any, server: NatsContainer, ca: Authority, subject: str, way: str) -> None:
    url = server.url
    if way == "files":
        tls: Any = TLS(ca=ca.file)
    elif way == "context":
        tls = ssl.create_default_context(cafile=ca.file)
    elif way == "context in TLS":
        tls = TLS(context=ssl.create_default_context(cafile=ca.file))
    else:
        url = f"tls://{server.address}"
        tls = TLS(ca=str(ca.file))

    def body() -> None:
        with nats_zio.connect(url, tls=tls, reconnect_max_wait=0.5) as nc:
            works(nc, subject)
            assert tls_version(server, nc) == "1.3"
            survives_a_restart(nc, server, subject)
            assert tls_version(server, nc) == "1.3"

    run(body)


def test_large_messages_and_many(run: Any, server: NatsContainer, ca: Authority, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(server.url, tls=TLS(ca=ca.file)) as nc:
            sub = nc.subscribe(subject)
            payloads = [os.urandom(size) for size in (1, 16 << 10, (16 << 10) + 1, 1 << 20)] * 5
            payloads += [b"%d" % number for number in range(5000)]
            for payload in payloads:
                nc.publish(subject, payload)
            for payload in payloads:
                assert sub.next().data == payload
            sub.unsubscribe()

    run(body)


def test_unknown_authority(run: Any, server: NatsContainer, stranger: Authority) -> None:
    def body() -> None:
        assert UNTRUSTED in fails(server, tls=TLS(ca=stranger.file))
        assert UNTRUSTED in fails(server, tls=True), "the system's authorities do not know ours"

    run(body)


def test_asked_for_by_the_server_alone(run: Any, server: NatsContainer) -> None:
    """The server wants TLS and the user said nothing of it: it is no reason to trust anybody."""

    def body() -> None:
        assert UNTRUSTED in fails(server, user="alice", password=secret())

    run(body)


def test_wrong_name(run: Any, start: Any, ca: Authority, subject: str) -> None:
    server = start(tls_config(), files=ca.server_files("nats.example"))

    def body() -> None:
        assert UNTRUSTED in fails(server, tls=TLS(ca=ca.file))
        assert UNTRUSTED in fails(server, tls=TLS(ca=ca.file, hostname="other.example"))
        assert UNTRUSTED in fails(server, tls=ssl.create_default_context(cafile=ca.file))
        with nats_zio.connect(server.url, tls=TLS(ca=ca.file, hostname="nats.example")) as nc:
            works(nc, subject)
        context = ssl.create_default_context(cafile=ca.file)
        with nats_zio.connect(server.url, tls=TLS(context=context, hostname="nats.example")) as nc:
            works(nc, subject)

    run(body)


def test_expired(run: Any, start: Any, ca: Authority) -> None:
    now = dt.datetime.now(dt.UTC)
    files = ca.server_files(not_before=now - dt.timedelta(days=2), not_after=now - dt.timedelta(days=1))
    server = start(tls_config(), files=files)

    def body() -> None:
        assert "certificate has expired" in fails(server, tls=TLS(ca=ca.file))

    run(body)


def test_wanted_but_the_server_speaks_plain(run: Any, start: Any, ca: Authority) -> None:
    """Nothing of ours is sent in clear."""
    server = start("trace: true")
    password = secret()

    def body() -> None:
        with pytest.raises(nats_zio.Error) as caught:
            nats_zio.connect(server.url, tls=TLS(ca=ca.file), user="alice", password=password)
        assert "TLSRequiredError" in text_of(caught.value)
        with pytest.raises(nats_zio.Error) as caught:
            nats_zio.connect(f"tls://alice:{password}@{server.address}")
        assert "TLSRequiredError" in text_of(caught.value)
        assert password not in text_of(caught.value)
        assert "CONNECT" not in server.log, "the client introduced itself in clear"

    run(body)


# --- the client's certificate


def test_mutual(run: Any, mutual: NatsContainer, ca: Authority, subject: str) -> None:
    client = ca.client_files("client")

    def body() -> None:
        with nats_zio.connect(
            mutual.url, tls=TLS(ca=ca.file, cert=client.cert, key=client.key), reconnect_max_wait=0.5
        ) as nc:
            works(nc, subject)
            survives_a_restart(nc, mutual, subject)
        context = ssl.create_default_context(cafile=ca.file)
        context.load_cert_chain(client.cert, client.key)
        with nats_zio.connect(mutual.url, tls=context) as nc:
            works(nc, subject)

    run(body)


def test_mutual_without_a_certificate(run: Any, mutual: NatsContainer, ca: Authority) -> None:
    def body() -> None:
        # With TLS 1.3 the client is done before the server has looked: it learns it from an alert, or a reset.
        assert UNTRUSTED not in fails(mutual, tls=TLS(ca=ca.file))
        eventually(lambda: mutual.connections() == 0, "the server ends it")

    run(body)


def test_mutual_with_a_strangers_certificate(
    run: Any, mutual: NatsContainer, ca: Authority, stranger: Authority
) -> None:
    client = stranger.client_files("client")

    def body() -> None:
        assert UNTRUSTED not in fails(mutual, tls=TLS(ca=ca.file, cert=client.cert, key=client.key))
        eventually(lambda: mutual.connections() == 0, "the server ends it")

    run(body)


def test_the_certificate_is_the_user(run: Any, start: Any, ca: Authority, subject: str) -> None:
    server = start(
        tls_config("verify_and_map: true")
        + f"""
authorization {{ users: [
    {{ user: "alice.example" }}
    {{ user: "bob.example", permissions: {{ publish: "{subject}.bob" }} }}
] }}""",
        files=ca.server_files(),
    )
    alice, bob, eve = (ca.client_files(f"{name}.example") for name in ("alice", "bob", "eve"))

    def body() -> None:
        with nats_zio.connect(server.url, tls=TLS(ca=ca.file, cert=alice.cert, key=alice.key)) as nc:
            works(nc, subject)
        with nats_zio.connect(server.url, tls=TLS(ca=ca.file, cert=bob.cert, key=bob.key)) as nc:
            works(nc, f"{subject}.bob")
            events = nc.events()
            nc.publish(subject, b"")
            assert next_event(events, nats_zio.events.PermissionViolation).subject == subject
        with pytest.raises(nats_zio.AuthError):
            nats_zio.connect(server.url, tls=TLS(ca=ca.file, cert=eve.cert, key=eve.key))

    run(body)


# --- how it begins, how it goes on


def test_handshake_first(run: Any, start: Any, ca: Authority, subject: str) -> None:
    server = start(tls_config("handshake_first: true"), files=ca.server_files(), tls_first=True)

    def body() -> None:
        tls = TLS(ca=ca.file, handshake_first=True)
        with nats_zio.connect(server.url, tls=tls, reconnect_max_wait=0.5) as nc:
            works(nc, subject)
            survives_a_restart(nc, server, subject)
        fails(server, tls=TLS(ca=ca.file))

    run(body)


def test_handshake_first_with_a_server_that_greets_first(run: Any, server: NatsContainer, ca: Authority) -> None:
    def body() -> None:
        fails(server, tls=TLS(ca=ca.file, handshake_first=True))

    run(body)


def test_user_within_tls(run: Any, start: Any, ca: Authority, subject: str) -> None:
    password = secret()
    users = f'authorization {{ user: alice, password: "{password}" }}'
    server = start(f"{tls_config()}\n{users}", files=ca.server_files())

    def body() -> None:
        tls = TLS(ca=ca.file)
        with nats_zio.connect(server.url, tls=tls, user="alice", password=password) as nc:
            works(nc, subject)
        with pytest.raises(nats_zio.AuthError):
            nats_zio.connect(server.url, tls=tls, user="alice", password=secret())

    run(body)


def test_files_are_read_again_at_each_connect(
    run: Any, start: Any, ca: Authority, stranger: Authority, subject: str
) -> None:
    """All certificates are replaced, by those of another authority, while the client stays in use."""
    trusted = ca.file.parent / "trusted.pem"
    trusted.write_bytes(ca.pem)
    both = ca.pem + stranger.pem
    client = ca.client_files("client")
    server = start(tls_config("verify: true"), files=ca.server_files(trusted=both))

    def body() -> None:
        tls = TLS(ca=trusted, cert=client.cert, key=client.key)
        with nats_zio.connect(server.url, tls=tls, reconnect_wait=0.05, reconnect_max_wait=0.3) as nc:
            events = nc.events()
            works(nc, subject)
            away(server.kill)
            next_event(events, Disconnected)
            for path, data in stranger.server_files(trusted=stranger.pem).items():
                away(server.copy_into_container, data, path)
            away(server.start_again)
            while UNTRUSTED not in text_of(next_event(events, ReconnectFailed).error):
                pass
            trusted.write_bytes(stranger.pem)
            stranger.client_files("client")  # in the same places
            next_event(events, Reconnected)
            works(nc, subject)

    run(body)


@pytest.mark.timeout(120)
def test_kill_and_restart_under_traffic(server: NatsContainer, ca: Authority, subject: str) -> None:
    def body() -> None:
        with Load([server.url], subject, tls=TLS(ca=ca.file)) as load:
            for number in (1, 2):
                load.run_for(0.5)
                away(server.kill)
                load.run_for(0.2)
                away(server.start_again)
                load.await_reconnects(dict.fromkeys(load.clients, number))
            load.run_for(0.5)
            load.finish()

    zio.run(body)
