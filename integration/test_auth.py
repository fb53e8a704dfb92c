"""Who may connect, and what then: passwords, tokens, nkeys, credentials, an operator's accounts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import nats_zio
from integration.containers import NatsContainer
from integration.helpers import survives_a_restart, text_of, works
from nats_zio.events import Closed, Disconnected, PermissionViolation, Reconnected, ReconnectFailed
from tests.client.helpers import away, eventually, next_event
from tests.jwts import Operator, user_key
from tests.secrecy import secret

PASSWORD = secret("alice", odd=True)
BOBS = secret("bob")
TOKEN = secret("token", odd=True)
WRONG = secret("wrong")

USERS = f"""
authorization {{
  users: [
    {{ user: alice, password: "{PASSWORD}" }}
    {{ user: bob, password: "{BOBS}",
       permissions: {{ publish: {{ allow: ["public.>", "_INBOX.>"] }}, subscribe: {{ deny: "private.>" }} }} }}
  ]
}}
"""


def refused(server: NatsContainer, *secrets: str | bytes, url: str | None = None, **options: Any) -> None:
    """The server does not let us in; the error says so, and none of the secrets."""
    with pytest.raises(nats_zio.AuthError) as caught:
        nats_zio.connect(url or server.url, **options)
    told = text_of(caught.value)
    for each in secrets:
        text = each if isinstance(each, str) else each.decode()
        assert text not in told
        assert text not in repr(caught.value)


@pytest.fixture
def users(start: Any) -> NatsContainer:
    server: NatsContainer = start(USERS)
    return server


def test_user_and_password(run: Any, users: NatsContainer, subject: str) -> None:
    def body() -> None:
        with nats_zio.connect(users.url, user="alice", password=PASSWORD, reconnect_max_wait=0.5) as nc:
            works(nc, subject)
            assert PASSWORD not in repr(nc) + repr(nc.options)
            survives_a_restart(nc, users, subject)
        refused(users, WRONG, user="alice", password=WRONG)
        refused(users, PASSWORD, user="bob", password=PASSWORD)
        refused(users)

    run(body)


def test_password_in_the_url(run: Any, users: NatsContainer, subject: str) -> None:
    def body() -> None:
        url = users.url_as(f"alice:{quote(PASSWORD, safe='')}")
        with nats_zio.connect(url, reconnect_max_wait=0.5) as nc:
            works(nc, subject)
            assert nc.connected_url == users.url, "without the secret"
            survives_a_restart(nc, users, subject)
        # That of the URL wins over the options.
        with nats_zio.connect(url, user="bob", password=BOBS) as nc:
            works(nc, subject)
            nc.publish("nothing.forbidden.to.alice", b"")
            nc.flush()
        refused(users, WRONG, url=users.url_as(f"alice:{WRONG}"))

    run(body)


@pytest.mark.parametrize("in_url", [False, True], ids=["option", "url"])
def test_token(run: Any, start: Any, subject: str, in_url: bool) -> None:
    server = start(f'authorization {{ token: "{TOKEN}" }}')

    def body() -> None:
        url = server.url_as(quote(TOKEN, safe="")) if in_url else server.url
        options: dict[str, Any] = {} if in_url else {"token": TOKEN}
        with nats_zio.connect(url, reconnect_max_wait=0.5, **options) as nc:
            works(nc, subject)
            assert TOKEN not in repr(nc) + repr(nc.options)
            survives_a_restart(nc, server, subject)
        refused(server, WRONG, token=WRONG)
        refused(server)

    run(body)


def test_permissions(run: Any, users: NatsContainer, subject: str) -> None:
    """What is forbidden fails alone: the connection stays, and so do the other subscriptions."""

    def body() -> None:
        with nats_zio.connect(users.url, user="bob", password=BOBS) as nc:
            events = nc.events()
            allowed = nc.subscribe("public.>")
            private = nc.subscribe("private.data")
            with pytest.raises(nats_zio.PermissionDeniedError):
                private.next()
            assert next_event(events, PermissionViolation).sub is private
            nc.publish("elsewhere", b"not allowed")
            violation = next_event(events, PermissionViolation)
            assert violation.subject == "elsewhere"
            with pytest.raises(nats_zio.PermissionDeniedError):
                nc.request("elsewhere", b"", timeout=10)
            nc.publish("public.x", b"allowed")
            assert allowed.next().data == b"allowed"
            assert nc.is_connected
            assert nc.stats.reconnects == 0
            allowed.unsubscribe()

    run(body)


def test_accounts_are_apart(run: Any, start: Any, subject: str) -> None:
    ours, theirs = secret(), secret()
    server = start(f"""
accounts {{
  A: {{ users: [{{ user: a, password: {ours} }}], exports: [{{ service: "help.>" }}] }}
  B: {{ users: [{{ user: b, password: {theirs} }}], imports: [{{ service: {{ account: A, subject: "help.me" }} }}] }}
}}
""")

    def body() -> None:
        with (
            nats_zio.connect(server.url, user="a", password=ours) as a,
            nats_zio.connect(server.url, user="b", password=theirs) as b,
        ):
            mine = a.subscribe(subject)
            a.subscribe("help.me", cb=lambda message: message.respond(b"helped " + message.data))
            a.flush()
            b.publish(subject, b"of another account")
            b.flush()
            assert b.request("help.me", b"b").data == b"helped b"
            a.flush()
            assert mine.pending_msgs == 0
            mine.unsubscribe()

    run(body)


def test_refused_for_a_while(run: Any, users: NatsContainer, subject: str) -> None:
    """Told not to give up, the client goes on trying while the server refuses it, and is back when it is let in."""

    def body() -> None:
        with nats_zio.connect(
            users.url,
            user="alice",
            password=PASSWORD,
            abort_on_auth_error=False,
            reconnect_wait=0.05,
            reconnect_max_wait=0.2,
        ) as nc:
            events = nc.events()
            away(users.configure, USERS.replace("alice", "carol"))
            away(users.kill)
            away(users.start_again)
            next_event(events, Disconnected)
            eventually(
                lambda: isinstance(next_event(events, ReconnectFailed).error, nats_zio.AuthError), "it is refused"
            )
            away(users.configure, USERS)
            away(users.reload_config)
            next_event(events, Reconnected)
            works(nc, subject)

    run(body)


def test_refused_twice(run: Any, users: NatsContainer, subject: str) -> None:
    """The same refusal twice in a row ends the attempts."""

    def body() -> None:
        nc = nats_zio.connect(users.url, user="alice", password=PASSWORD, reconnect_wait=0.05, reconnect_max_wait=0.2)
        events = nc.events()
        away(users.configure, USERS.replace("alice", "carol"))
        away(users.kill)
        away(users.start_again)
        closed = next_event(events, Closed)
        assert isinstance(closed.error, nats_zio.NoServersError)
        assert isinstance(closed.error.errors[users.url], nats_zio.AuthError)
        with pytest.raises(nats_zio.ConnectionClosedError):
            nc.publish(subject)
        nc.close()

    run(body)


# --- nkeys


def test_nkey(run: Any, start: Any, subject: str) -> None:
    key, other = user_key(), user_key()
    server = start(f"authorization {{ users: [{{ nkey: {key.public} }}] }}")

    def body() -> None:
        with nats_zio.connect(server.url, nkey_seed=key.seed.decode(), reconnect_max_wait=0.5) as nc:
            works(nc, subject)
            assert key.seed.decode() not in repr(nc) + repr(nc.options)
            survives_a_restart(nc, server, subject)
        refused(server, other.seed, nkey_seed=other.seed.decode())
        refused(server)

    run(body)


# --- an operator, its account, users with tokens of their own


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def trusting(start: Any, operator: Operator) -> NatsContainer:
    """A server that trusts the operator."""
    server: NatsContainer = start(operator.config())
    return server


@pytest.mark.parametrize("as_file", [True, False], ids=["path", "bytes"])
def test_credentials(
    run: Any, trusting: NatsContainer, operator: Operator, subject: str, tmp_path: Path, as_file: bool
) -> None:
    data = operator.credentials()
    file = tmp_path / "user.creds"
    file.write_bytes(data)
    file.chmod(0o600)
    secret = data.split(b"SEED-----\n")[1].split()[0].decode()

    def body() -> None:
        given = file if as_file else data
        with nats_zio.connect(trusting.url, credentials=given, reconnect_max_wait=0.5) as nc:
            works(nc, subject)
            assert secret not in repr(nc) + repr(nc.options)
            survives_a_restart(nc, trusting, subject)
        stranger = Operator().credentials()
        refused(trusting, stranger.split(b"SEED-----\n")[1].split()[0], credentials=stranger)
        refused(trusting)

    run(body)


def test_credentials_file_is_read_again_at_each_connect(
    run: Any, trusting: NatsContainer, operator: Operator, subject: str, tmp_path: Path
) -> None:
    """A token runs out, the file has a new one: the client is back by itself."""
    file = tmp_path / "user.creds"
    file.write_bytes(operator.credentials(expires=3))

    def body() -> None:
        with nats_zio.connect(trusting.url, credentials=str(file), reconnect_max_wait=0.5) as nc:
            events = nc.events()
            works(nc, subject)
            file.write_bytes(operator.credentials())
            lost = next_event(events, Disconnected)
            assert isinstance(lost.error, nats_zio.AuthError), lost
            assert "expired" in str(lost.error).lower()
            next_event(events, Reconnected)
            works(nc, subject)

    run(body)


def test_permissions_in_a_token(run: Any, trusting: NatsContainer, operator: Operator, subject: str) -> None:
    data = operator.credentials(pub={"allow": [f"{subject}.ok", "_INBOX.>"]})

    def body() -> None:
        with nats_zio.connect(trusting.url, credentials=data) as nc:
            events = nc.events()
            works(nc, f"{subject}.ok")
            nc.publish(f"{subject}.other", b"")
            assert next_event(events, PermissionViolation).subject == f"{subject}.other"

    run(body)


def test_a_revoked_user_is_sent_away(run: Any, start: Any, operator: Operator, subject: str) -> None:
    user = user_key()
    server = start(operator.config())

    def body() -> None:
        with (
            nats_zio.connect(
                server.url, credentials=operator.credentials(user), reconnect_wait=0.05, reconnect_max_wait=0.2
            ) as nc,
            nats_zio.connect(server.url, credentials=operator.credentials()) as other,
        ):
            events = nc.events()
            works(nc, subject)
            operator.revoked[user.public] = int(time.time()) + 1
            away(server.configure, operator.config())
            away(server.reload_config)
            next_event(events, Disconnected)
            assert isinstance(next_event(events, ReconnectFailed).error, nats_zio.AuthError)
            works(other, subject)
            assert other.stats.reconnects == 0
            nc.close()
        refused(server, user.seed, credentials=operator.credentials(user))

    run(body)


# --- asked at each connect


def test_auth_is_asked_at_each_connect(run: Any, start: Any, subject: str) -> None:
    """A callable gives what is needed now: here the password was changed while the client was away."""
    first_password, second_password = passwords = [secret("first"), secret("second")]

    def config(password: str) -> str:
        return f'authorization {{ user: one, password: "{password}" }}'

    server = start(config(first_password))
    asked: list[str] = []

    def auth(info: Any) -> nats_zio.Auth:
        asked.append(info.server_id)
        return nats_zio.Auth(user="one", password=passwords[0])

    def body() -> None:
        with nats_zio.connect(server.url, auth=auth, reconnect_wait=0.05, reconnect_max_wait=0.2) as nc:
            events = nc.events()
            works(nc, subject)
            first = len(asked)
            assert first >= 1
            away(server.configure, config(second_password))
            away(server.kill)
            next_event(events, Disconnected)
            passwords.pop(0)
            away(server.start_again)
            next_event(events, Reconnected)
            assert len(asked) > first
            works(nc, subject)

    run(body)


def test_auth_with_a_signature_made_elsewhere(
    run: Any, trusting: NatsContainer, operator: Operator, subject: str
) -> None:
    """The seed never leaves its place: the callable hands out the token, and signs."""
    user = user_key()
    signed: list[bytes] = []

    def sign(nonce: bytes) -> bytes:
        signed.append(nonce)
        return user.sign(nonce)

    def auth(info: Any) -> nats_zio.Auth:
        return nats_zio.Auth(jwt=operator.user_token(user), sign=sign)

    def body() -> None:
        with nats_zio.connect(trusting.url, auth=auth, reconnect_max_wait=0.5) as nc:
            works(nc, subject)
            survives_a_restart(nc, trusting, subject)
            assert len(set(signed)) == len(signed) >= 2, "each connection has a nonce of its own"

    run(body)
