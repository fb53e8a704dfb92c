"""TLS: when there is some, whom it trusts, who we are in it. Against the real server."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nats_zio
from nats_zio import TLS
from nats_zio.events import Disconnected, Reconnected, ReconnectFailed
from nats_zio.testing import NatsCluster, NatsServer
from tests.client.certificates import Authority
from tests.client.helpers import away, eventually, next_event
from tests.secrecy import secret

Run = Callable[..., Any]

FAST: dict[str, Any] = {"reconnect_wait": 0.01, "reconnect_max_wait": 0.02}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that neither side knows."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def secure(ca: Authority) -> Iterator[NatsServer]:
    """Asks for TLS, in INFO."""
    with NatsServer(config=ca.config()) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(ca: Authority) -> Iterator[NatsServer]:
    """Asks for a certificate of the client's, too."""
    with NatsServer(config=ca.config("verify: true")) as server:
        yield server


@pytest.fixture(scope="module")
def first(ca: Authority) -> Iterator[NatsServer]:
    """Speaks TLS before it says anything."""
    with NatsServer(config=ca.config("handshake_first: true")) as server:
        yield server


def version(server: NatsServer, nc: nats_zio.Client) -> str | None:
    """Of TLS in this client's connection, as the server sees it."""
    connections = server.monitor("/connz")["connections"]
    (mine,) = [each for each in connections if each["cid"] == nc.server_info.client_id]
    return mine.get("tls_version")  # type: ignore[no-any-return]


def works(nc: nats_zio.Client, subject: str) -> None:
    with nc.subscribe(subject) as sub:
        nc.publish(subject, b"there and back")
        assert sub.next().data == b"there and back"


def failure(url: str, **options: Any) -> BaseException:
    """Why no connection to the only server comes about."""
    with pytest.raises(nats_zio.NoServersError) as caught:
        nats_zio.connect(url, **options)
    (error,) = caught.value.errors.values()
    return error


# The server's certificate.


def by_files(ca: Authority) -> Any:
    return TLS(ca=ca.file)


def by_names_of_files(ca: Authority) -> Any:
    return TLS(ca=str(ca.file))


def by_context(ca: Authority) -> Any:
    return ca.client_context()


def by_context_in_tls(ca: Authority) -> Any:
    return TLS(context=ca.client_context())


WAYS = [by_files, by_names_of_files, by_context, by_context_in_tls]


@pytest.mark.parametrize("scheme", ["nats", "tls"])
@pytest.mark.parametrize("way", WAYS)
def test_it_begins_behind_info(
    run: Run, secure: NatsServer, ca: Authority, subject: str, way: Callable[[Authority], Any], scheme: str
) -> None:
    def main() -> None:
        url = f"{scheme}://127.0.0.1:{secure.port}"
        with nats_zio.connect(url, tls=way(ca)) as nc:
            works(nc, subject)
            assert version(secure, nc) == "1.3"
            assert nc.connected_url == url

    run(main)


@pytest.mark.parametrize("how", ["tls=True", "scheme", "by the server alone"])
def test_without_files_the_systems_authorities_are_trusted(
    run: Run,
    secure: NatsServer,
    ca: Authority,
    stranger: Authority,
    subject: str,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = secure.url.replace("nats:", "tls:") if how == "scheme" else secure.url
    options: dict[str, Any] = {"tls": True} if how == "tls=True" else {}

    def main() -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(ca.file))
        with nats_zio.connect(url, **options) as nc:
            works(nc, subject)
            assert version(secure, nc)
        monkeypatch.setenv("SSL_CERT_FILE", str(stranger.file))
        assert isinstance(failure(url, **options), ssl.SSLCertVerificationError)

    run(main)


def test_it_is_done_if_the_server_offers_it_and_it_is_wanted(run: Run, ca: Authority, subject: str) -> None:
    with NatsServer(config=ca.config() + "allow_non_tls: true\n") as server:

        def main() -> None:
            with nats_zio.connect(server.url, tls=TLS(ca=ca.file)) as nc:
                works(nc, subject)
                assert version(server, nc)
            with nats_zio.connect(server.url) as nc:
                works(nc, subject)
                assert not version(server, nc)

        run(main)


def test_an_unknown_authority_is_not_trusted(run: Run, secure: NatsServer, stranger: Authority) -> None:
    def main() -> None:
        error = failure(secure.url, tls=TLS(ca=stranger.file))
        assert isinstance(error, ssl.SSLCertVerificationError)

    run(main)


def test_a_certificate_is_for_a_name(run: Run, ca: Authority, subject: str) -> None:
    files = ca.issue("nats.example")
    with NatsServer(config=ca.config(files=files)) as server:

        def main() -> None:
            for tls in (TLS(ca=ca.file), TLS(ca=ca.file, hostname="other.example"), ca.client_context()):
                assert isinstance(failure(server.url, tls=tls), ssl.SSLCertVerificationError)
            name = "nats.example"
            for tls in (TLS(ca=ca.file, hostname=name), TLS(context=ca.client_context(), hostname=name)):
                with nats_zio.connect(server.url, tls=tls) as nc:
                    works(nc, subject)

        run(main)


def test_an_expired_certificate_is_refused(run: Run, ca: Authority) -> None:
    now = dt.datetime.now(dt.UTC)
    old = ca.issue("127.0.0.1", file="old", not_before=now - dt.timedelta(days=2), not_after=now - dt.timedelta(days=1))
    with NatsServer(config=ca.config(files=old)) as server:

        def main() -> None:
            assert "expired" in str(failure(server.url, tls=TLS(ca=ca.file)))

        run(main)


def test_large_messages_and_many(run: Run, secure: NatsServer, ca: Authority, subject: str) -> None:
    payloads = [os.urandom(size) for size in (0, 1, 16 << 10, (16 << 10) + 1, 1 << 20)] * 3

    def main() -> None:
        with nats_zio.connect(secure.url, tls=TLS(ca=ca.file)) as nc, nc.subscribe(subject) as sub:
            for payload in payloads:
                nc.publish(subject, payload)
            for number in range(5000):
                nc.publish(subject, b"%d" % number)
            assert [sub.next().data for _ in payloads] == payloads
            assert [sub.next().data for _ in range(5000)] == [b"%d" % number for number in range(5000)]

    run(main)


# Before INFO.


def test_it_may_begin_before_info(run: Run, first: NatsServer, ca: Authority, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(first.url, tls=TLS(ca=ca.file, handshake_first=True)) as nc:
            works(nc, subject)
            assert version(first, nc)

    run(main)


def test_a_server_that_waits_for_it_is_given_up_without(run: Run, first: NatsServer, ca: Authority) -> None:
    def main() -> None:
        error = failure(first.url, tls=TLS(ca=ca.file), connect_timeout=0.3)
        assert isinstance(error, (nats_zio.TimeoutError, OSError))

    run(main)


def test_a_server_that_greets_first_is_no_partner_for_it(run: Run, secure: NatsServer, ca: Authority) -> None:
    def main() -> None:
        assert isinstance(failure(secure.url, tls=TLS(ca=ca.file, handshake_first=True)), ssl.SSLError)

    run(main)


def test_a_reconnect_begins_before_info_too(run: Run, ca: Authority, subject: str) -> None:
    with NatsServer(config=ca.config("handshake_first: true")) as server:

        def main() -> None:
            with nats_zio.connect(server.url, tls=TLS(ca=ca.file, handshake_first=True), **FAST) as nc:
                seen = nc.events()
                away(server.restart)
                next_event(seen, Reconnected)
                works(nc, subject)

        run(main)


# Our certificate.


def test_mutual(run: Run, mutual: NatsServer, ca: Authority, subject: str) -> None:
    ours = ca.issue("client.example")
    context = ca.client_context()
    context.load_cert_chain(ours.cert, ours.key)
    both = ours.cert.with_suffix(".both")
    both.write_bytes(ours.cert.read_bytes() + ours.key.read_bytes())

    def main() -> None:
        for tls in (TLS(ca=ca.file, cert=ours.cert, key=ours.key), context, TLS(ca=ca.file, cert=both)):
            with nats_zio.connect(mutual.url, tls=tls) as nc:
                works(nc, subject)

    run(main)


def test_mutual_without_ours_or_with_a_strangers(
    run: Run, mutual: NatsServer, ca: Authority, stranger: Authority
) -> None:
    theirs = stranger.issue("client.example")

    def main() -> None:
        for tls in (TLS(ca=ca.file), TLS(ca=ca.file, cert=theirs.cert, key=theirs.key)):
            error = failure(mutual.url, tls=tls)
            # With TLS 1.3 the client is done before the server has looked: it learns it from an alert, or a reset.
            assert isinstance(error, OSError)
            assert not isinstance(error, ssl.SSLCertVerificationError)

    run(main)


def test_the_certificate_may_be_the_user(run: Run, ca: Authority, subject: str) -> None:
    known, unknown = ca.issue("known.example"), ca.issue("unknown.example")
    config = ca.config("verify_and_map: true") + "authorization { users: [ { user: known.example } ] }"
    with NatsServer(config=config) as server:

        def main() -> None:
            with nats_zio.connect(server.url, tls=TLS(ca=ca.file, cert=known.cert, key=known.key)) as nc:
                works(nc, subject)
            with pytest.raises(nats_zio.AuthError):
                nats_zio.connect(server.url, tls=TLS(ca=ca.file, cert=unknown.cert, key=unknown.key))

        run(main)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_the_password(
    run: Run, mutual: NatsServer, ca: Authority, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization as form

    ours = ca.issue("client.example")
    key: Any = form.load_pem_private_key(ours.key.read_bytes(), None)
    encryption = form.BestAvailableEncryption(secret().encode())
    locked = tmp_path / "locked.key"
    locked.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption))

    def main() -> None:
        error = failure(mutual.url, tls=TLS(ca=ca.file, cert=ours.cert, key=locked))
        assert "the private key is encrypted" in str(error)

    run(main)


@pytest.mark.parametrize("missing", ["ca", "cert", "key"])
def test_a_missing_file_is_named(run: Run, mutual: NatsServer, ca: Authority, missing: str) -> None:
    ours = ca.issue("client.example")
    files: dict[str, Any] = {"ca": ca.file, "cert": ours.cert, "key": ours.key, missing: Path("/nowhere/file.pem")}

    def main() -> None:
        error = failure(mutual.url, tls=TLS(**files))
        assert isinstance(error, FileNotFoundError)
        assert "/nowhere/file.pem" in str(error)

    run(main)


@pytest.mark.parametrize("wrong", ["ca", "cert", "key", "key of another"])
def test_a_file_that_cannot_be_used_is_named(
    run: Run, mutual: NatsServer, ca: Authority, wrong: str, tmp_path: Path
) -> None:
    ours = ca.issue("client.example")
    bad = tmp_path / "bad.pem"
    bad.write_bytes(ca.issue("another.example").key.read_bytes() if wrong == "key of another" else b"nothing")
    files: dict[str, Any] = {"ca": ca.file, "cert": ours.cert, "key": ours.key, wrong.split(maxsplit=1)[0]: bad}

    def main() -> None:
        error = failure(mutual.url, tls=TLS(**files))
        assert isinstance(error, ssl.SSLError)
        assert str(bad) in str(error)

    run(main)


# Files are read again.


def test_renewed_certificates_take_effect_at_the_next_connect(
    run: Run, ca: Authority, stranger: Authority, subject: str, tmp_path: Path
) -> None:
    """Everything is replaced, by the certificates of another authority, while the client stays in use."""
    trusted, both = tmp_path / "trusted.pem", tmp_path / "both.pem"
    trusted.write_bytes(ca.pem)
    both.write_bytes(ca.pem + stranger.pem)
    theirs, ours = ca.issue("127.0.0.1", file="renewed"), ca.issue("renewed.example")

    def replace(old: Path, new: Path) -> None:
        new.rename(old)

    with NatsServer(config=ca.config("verify: true", files=theirs, trusted=both)) as server:

        def main() -> None:
            with nats_zio.connect(server.url, tls=TLS(ca=trusted, cert=ours.cert, key=ours.key), **FAST) as nc:
                seen = nc.events()
                works(nc, subject)
                server.kill()
                next_event(seen, Disconnected)
                new = stranger.issue("127.0.0.1", file="renewed")
                new.cert.rename(theirs.cert)
                new.key.rename(theirs.key)
                both.write_bytes(stranger.pem)  # ours of before is a stranger's now
                away(server.start)

                def fails_with(kind: type) -> bool:
                    return isinstance(next_event(seen, ReconnectFailed).error, kind)

                eventually(lambda: fails_with(ssl.SSLCertVerificationError), "the server is no longer trusted")
                trusted.write_bytes(stranger.pem)
                eventually(lambda: not fails_with(ssl.SSLCertVerificationError), "the server is trusted again")
                new = stranger.issue("renewed.example")
                new.cert.rename(ours.cert)
                new.key.rename(ours.key)
                next_event(seen, Reconnected)
                works(nc, subject)

        run(main)


# With a user, over restarts, in a cluster.


def test_a_password_within_it(run: Run, ca: Authority, subject: str) -> None:
    password = secret()
    config = f"{ca.config()}authorization {{ user: ann, password: {password} }}"
    with NatsServer(config=config) as server:

        def main() -> None:
            tls = TLS(ca=ca.file)
            with nats_zio.connect(server.url, tls=tls, user="ann", password=password, **FAST) as nc:
                seen = nc.events()
                away(server.restart)
                next_event(seen, Reconnected)
                works(nc, subject)
                assert version(server, nc)
            with pytest.raises(nats_zio.AuthError):
                nats_zio.connect(server.url, tls=tls, user="ann", password=secret())

        run(main)


def test_the_name_of_the_url_goes_for_addresses_that_the_cluster_makes_known(run: Run, ca: Authority) -> None:
    """A certificate is for localhost, and the servers tell each other's addresses as numbers."""
    config = ca.config(files=ca.issue("localhost", file="only-localhost"))
    with NatsCluster(2, jetstream=False, config=config) as cluster:

        def main() -> None:
            here, there = cluster.servers
            with nats_zio.connect(f"tls://localhost:{here.port}", tls=TLS(ca=ca.file), **FAST) as nc:
                # The servers tell each other where clients may come a moment after they are joined.
                eventually(lambda: f"tls://127.0.0.1:{there.port}" in nc.discovered_servers)
                seen = nc.events()
                here.kill()
                next_event(seen, Reconnected)
                assert nc.connected_url == f"tls://127.0.0.1:{there.port}"
                assert version(there, nc)

        run(main)


# Options.


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TLS(key="k"), "key without cert"),
        (lambda: TLS(ca=b"ca.pem"), "ca must be the path"),  # type: ignore[arg-type]
        (lambda: TLS(cert="-----BEGIN CERTIFICATE-----"), "not its text"),
        (lambda: TLS(context=ssl.create_default_context(), ca="ca.pem"), "context excludes"),
        (lambda: TLS(context="context"), "ssl.SSLContext"),  # type: ignore[arg-type]
        (lambda: TLS(context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), "for servers"),
        (lambda: TLS(hostname=""), "hostname"),
        (lambda: TLS(hostname=5), "hostname"),  # type: ignore[arg-type]
        (lambda: TLS(handshake_first=1), "handshake_first"),  # type: ignore[arg-type]
        (lambda: nats_zio.connect(tls="ca.pem"), "tls must be"),
        (lambda: nats_zio.connect(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), "for servers"),
    ],
)
def test_a_bad_option_raises_option_error(make: Callable[[], object], words: str) -> None:
    with pytest.raises(nats_zio.OptionError, match=words):
        make()
