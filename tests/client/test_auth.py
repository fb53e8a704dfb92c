"""Who we are: passwords, tokens, nkeys, JWTs and what `auth=` says, each right, wrong and missing, at each connect."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

import nats_zio
import zio
from nats_zio import Auth, events
from nats_zio.events import Closed, Disconnected, Reconnected, ReconnectFailed
from nats_zio.testing import NatsServer, ScriptedServer
from nats_zio.testing.scripted import User
from tests.client.helpers import away, eventually, next_event
from tests.client.scripted import connected, scripted, until
from tests.jwts import Key, Operator, user_key
from tests.secrecy import secret

Run = Callable[..., Any]

FAST: dict[str, Any] = {"reconnect_wait": 0.01, "reconnect_max_wait": 0.02}

USER, TOKEN, KEY, OPERATOR = secret("user", odd=True), secret("token", odd=True), user_key(), Operator()
JWT_KEY = user_key()


def signer(key: Key, **how: Any) -> Callable[[nats_zio.ServerInfo], Auth]:
    return lambda info: Auth(jwt=OPERATOR.user_token(key), sign=key.sign)


CONFIGS = {
    "user": f'authorization {{ user: ann, password: "{USER}" }}',
    "token": f'authorization {{ token: "{TOKEN}" }}',
    "nkey": f"authorization {{ users: [ {{ nkey: {KEY.public} }} ] }}",
    "jwt": OPERATOR.config(),
}

RIGHT: list[tuple[str, str, dict[str, Any]]] = [
    ("user", "", {"user": "ann", "password": USER}),
    ("user", f"ann:{quote(USER, safe='')}@", {}),
    ("user", "", {"auth": Auth(user="ann", password=USER)}),
    ("user", "", {"auth": lambda info: Auth(user="ann", password=USER)}),
    ("token", "", {"token": TOKEN}),
    ("token", f"{quote(TOKEN, safe='')}@", {}),
    ("token", "", {"auth": lambda info: Auth(token=TOKEN)}),
    ("nkey", "", {"nkey_seed": KEY.seed}),
    ("nkey", "", {"nkey_seed": f"\n{KEY.seed.decode()} "}),
    ("nkey", "", {"auth": lambda info: Auth(nkey=KEY.public, sign=KEY.sign)}),
    ("jwt", "", {"credentials": OPERATOR.credentials(JWT_KEY)}),
    ("jwt", "", {"auth": signer(JWT_KEY)}),
]

WRONG: list[tuple[str, str, dict[str, Any]]] = [
    ("user", "", {"user": "ann", "password": secret()}),
    ("user", "", {"user": "bob", "password": USER}),
    ("user", "", {"token": USER}),
    ("user", f"ann:{secret()}@", {}),
    ("token", "", {"token": secret()}),
    ("token", "", {"user": "ann", "password": TOKEN}),
    ("nkey", "", {"nkey_seed": user_key().seed}),
    ("nkey", "", {"auth": lambda info: Auth(nkey=KEY.public, sign=user_key().sign)}),
    ("nkey", "", {"token": KEY.public}),
    ("jwt", "", {"credentials": Operator().credentials()}),
    ("jwt", "", {"auth": lambda info: Auth(jwt=OPERATOR.user_token(JWT_KEY), sign=user_key().sign)}),
    ("jwt", "", {"auth": lambda info: Auth(jwt=OPERATOR.user_token(JWT_KEY))}),
    *((kind, "", {}) for kind in CONFIGS),
]


@pytest.fixture(scope="module")
def strict() -> Iterator[Callable[[str], NatsServer]]:
    """Servers by the kind of credentials that they ask for."""
    with ExitStack() as stack:
        yield {kind: stack.enter_context(NatsServer(config=config)) for kind, config in CONFIGS.items()}.__getitem__


def url_of(server: NatsServer | ScriptedServer, userinfo: str = "") -> str:
    return server.url.replace("://", f"://{userinfo}")


def names(case: tuple[str, str, dict[str, Any]]) -> str:
    kind, userinfo, options = case
    return f"{kind} by {'url' if userinfo else ' and '.join(options) or 'nothing'}"


@pytest.mark.parametrize("case", RIGHT, ids=names)
def test_the_right_ones_are_let_in_at_a_reconnect_too(
    run: Run, strict: Callable[[str], NatsServer], subject: str, case: tuple[str, str, dict[str, Any]]
) -> None:
    kind, userinfo, options = case
    server = strict(kind)

    def main() -> None:
        with nats_zio.connect(url_of(server, userinfo), **options) as nc, nc.subscribe(subject) as sub:
            seen = nc.events()
            nc.force_reconnect()
            next_event(seen, Reconnected)
            nc.publish(subject, b"let in")
            assert sub.next().data == b"let in"
            assert nc.connected_url == server.url

    run(main)


@pytest.mark.parametrize("case", WRONG, ids=names)
def test_wrong_ones_and_none_are_an_auth_error(
    run: Run, strict: Callable[[str], NatsServer], case: tuple[str, str, dict[str, Any]]
) -> None:
    kind, userinfo, options = case

    def main() -> None:
        with pytest.raises(nats_zio.AuthError) as caught:
            nats_zio.connect(url_of(strict(kind), userinfo), **options)
        assert not isinstance(caught.value, nats_zio.CredentialsError)
        assert caught.value.text == "Authorization Violation"

    run(main)


# Several servers.


def test_the_credentials_of_a_url_are_for_that_server_alone_and_win(run: Run) -> None:
    passwords = [secret("a"), secret("b"), secret("c")]
    servers = [NatsServer(user="ann", password=password) for password in passwords]
    with servers[0] as a, servers[1] as b, servers[2] as c:
        urls = [url_of(a, f"ann:{passwords[0]}@"), url_of(b, f"ann:{passwords[1]}@"), c.url]

        def main() -> None:
            options = {"user": "ann", "password": passwords[2], "no_randomize": True, **FAST}
            with nats_zio.connect(urls, **options) as nc:
                seen = nc.events()
                reached = [nc.connected_url]
                for _ in range(3):
                    nc.force_reconnect()
                    next_event(seen, Reconnected)
                    reached.append(nc.connected_url)
                assert reached == [a.url, b.url, c.url, a.url]

        run(main)


def test_a_server_that_refuses_is_passed_over_for_the_next(run: Run, strict: Callable[[str], NatsServer]) -> None:
    def main() -> None:
        urls = [url_of(strict("user"), f"ann:{secret()}@"), url_of(strict("token"), f"{quote(TOKEN, safe='')}@")]
        with nats_zio.connect(urls, no_randomize=True) as nc:
            assert nc.connected_url == strict("token").url
            seen = nc.events()
            nc.force_reconnect()
            assert isinstance(next_event(seen, ReconnectFailed).error, nats_zio.AuthError)
            next_event(seen, Reconnected)
            assert nc.connected_url == strict("token").url

    run(main)


def test_the_error_of_several_that_refuse_names_each_without_its_secret(
    run: Run, strict: Callable[[str], NatsServer]
) -> None:
    def main() -> None:
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect([url_of(strict(kind), f"{secret()}@") for kind in ("user", "token")])
        assert set(caught.value.errors) == {strict("user").url, strict("token").url}
        assert all(isinstance(error, nats_zio.AuthError) for error in caught.value.errors.values())

    run(main)


# Signatures.


def test_the_nonce_is_signed_and_the_signature_is_base64url_without_padding() -> None:
    nonce = "A-nonce_of-the/server+="

    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        said = server.clients[0].options
        assert said["nkey"] == KEY.public
        assert said.get("jwt") is None
        assert set(said["sig"]).isdisjoint("+/=")
        signature = base64.urlsafe_b64decode(said["sig"] + "==")
        assert len(signature) == 64
        assert KEY.verify(nonce.encode(), signature)

    connected(test, options={"nkey_seed": KEY.seed}, nonce=nonce)


def test_every_signature_looks_so() -> None:
    """64 bytes always leave two characters of padding, and one in four has a + or a / in plain base64."""
    seen: list[str] = []

    def fixed(signature: bytes, _nonce: bytes) -> bytes:
        return signature

    def test(server: ScriptedServer) -> None:
        for byte in (b"\xff", b"\xfb", b"\x00", b"\xfe"):
            auth = Auth(nkey=KEY.public, sign=partial(fixed, byte * 64))
            with nats_zio.connect(server.url, auth=auth):
                seen.append(server.clients[-1].options["sig"])

    scripted(test, nonce="n")
    assert seen == ["_" * 85 + "w", "-_v7" * 21 + "-w", "A" * 86, "_v7-" * 21 + "_g"]


def test_each_connection_signs_its_own_nonce(run: Run) -> None:
    signed: list[bytes] = []

    def sign(nonce: bytes) -> bytes:
        signed.append(nonce)
        return KEY.sign(nonce)

    with NatsServer(config=CONFIGS["nkey"]) as server:

        def main() -> None:
            with nats_zio.connect(server.url, auth=Auth(nkey=KEY.public, sign=sign), **FAST) as nc:
                seen = nc.events()
                for _ in range(2):
                    nc.force_reconnect()
                    next_event(seen, Reconnected)

        run(main)
    assert len(set(signed)) == 3


# auth= is asked at each connect.


def test_it_is_asked_at_each_connect_with_what_the_server_said(run: Run) -> None:
    asked: list[nats_zio.ServerInfo] = []

    def auth(info: nats_zio.ServerInfo) -> Auth:
        asked.append(info)
        return Auth(user="ann", password=USER)

    with NatsServer(config=CONFIGS["user"]) as server:

        def main() -> None:
            with nats_zio.connect(server.url, auth=auth, **FAST) as nc:
                seen = nc.events()
                nc.force_reconnect()
                next_event(seen, Reconnected)
            assert [info.server_id for info in asked] == [server.info["server_id"]] * 2
            assert asked[0].client_id != asked[1].client_id

        run(main)


def test_what_it_says_is_what_counts_now(run: Run) -> None:
    """The password is changed while the client is away; every try asks again."""
    passwords = [secret("first"), secret("second")]
    current = [passwords[0]]

    def config(password: str) -> str:
        return f"authorization {{ user: ann, password: {password} }}"

    with NatsServer(config=config(passwords[0])) as server:

        def main() -> None:
            def auth(info: nats_zio.ServerInfo) -> Auth:
                return Auth(user="ann", password=current[0])

            with nats_zio.connect(server.url, auth=auth, abort_on_auth_error=False, **FAST) as nc:
                seen = nc.events()
                away(server.reload, config(passwords[1]))
                next_event(seen, Disconnected)
                assert isinstance(next_event(seen, ReconnectFailed).error, nats_zio.AuthError)
                current[0] = passwords[1]
                next_event(seen, Reconnected)

        run(main)


def test_it_may_block_and_connect_timeout_limits_it() -> None:
    def test(server: ScriptedServer) -> None:
        def auth(info: nats_zio.ServerInfo) -> Auth:
            zio.sleep(2)
            return Auth(token="")

        with nats_zio.connect(server.url, auth=auth, connect_timeout=3):
            assert zio.now() >= 2
        begin = zio.now()
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect(server.url, auth=auth, connect_timeout=1)
        assert isinstance(caught.value.errors[server.url], nats_zio.TimeoutError)
        assert zio.now() - begin < 1.5

    scripted(test)


class Refusal(Exception):
    """Of the user's own function."""


def raises(*_: Any) -> Any:
    raise Refusal("no")


BAD_ANSWERS: list[tuple[Any, str]] = [
    (raises, "auth= raised Refusal"),
    (lambda info: None, "auth= returned NoneType"),
    (lambda info: {"user": "ann", "password": secret()}, "auth= returned dict"),
    (lambda info: Auth(nkey=KEY.public, sign=raises), "sign= raised Refusal"),
    (lambda info: Auth(nkey=KEY.public, sign=lambda nonce: "text"), "sign= returned str"),  # type: ignore[arg-type,return-value]
]


@pytest.mark.parametrize(("auth", "text"), BAD_ANSWERS, ids=[text for _, text in BAD_ANSWERS])
def test_what_fails_there_is_a_credentials_error_and_nothing_is_sent(auth: Any, text: str) -> None:
    def test(server: ScriptedServer) -> None:
        with pytest.raises(nats_zio.CredentialsError, match=text) as caught:
            nats_zio.connect(server.url, auth=auth)
        assert isinstance(caught.value.__cause__, Refusal) is ("raised" in text)
        assert server.all_clients[0].received == b""

    scripted(test, nonce="n")


@pytest.mark.parametrize(("auth", "text"), BAD_ANSWERS, ids=[text for _, text in BAD_ANSWERS])
def test_at_a_reconnect_it_is_told_and_tried_again_and_no_server_is_dropped_for_it(auth: Any, text: str) -> None:
    def test(server: ScriptedServer) -> None:
        answers: list[Any] = [lambda info: Auth(), *[auth] * 5, lambda info: Auth()]
        with nats_zio.connect(server.url, auth=lambda info: answers.pop(0)(info)) as nc:
            seen = nc.events()
            server.clients[0].close()
            told: list[Any] = until(seen, Reconnected)[1:-1]
            assert [type(event) for event in told] == [ReconnectFailed] * 5
            assert all(isinstance(event.error, nats_zio.CredentialsError) for event in told)
            assert all(text in str(event.error) for event in told)

    scripted(test, nonce="n")


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"user": 5}, TypeError, "user must be a str"),
        ({"password": secret().encode()}, TypeError, "password must be a str, not bytes"),
        ({"token": 5}, TypeError, "token"),
        ({"jwt": secret().encode()}, TypeError, "jwt"),
        ({"sign": "s"}, TypeError, "sign must be a function"),
        ({"nkey": KEY.public}, ValueError, "proves nothing without sign="),
    ],
)
def test_what_auth_cannot_be_is_refused(values: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Auth(**values)


@pytest.mark.parametrize(
    "options",
    [
        {"token": TOKEN, "user": "ann"},
        {"token": TOKEN, "password": USER},
        {"nkey_seed": KEY.seed, "token": TOKEN},
        {"nkey_seed": KEY.seed, "credentials": "file"},
        {"auth": Auth(), "credentials": "file"},
        {"auth": Auth(), "user": "ann", "password": USER},
    ],
    ids=lambda options: " and ".join(options),
)
def test_ways_to_say_who_we_are_exclude_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(nats_zio.OptionError, match="exclude each other"):
        nats_zio.connect("nats://127.0.0.1:1", **options)


NO_SEEDS: dict[str, Any] = {
    "empty": "",
    "text": secret(),
    "number": 5,
    "too short": KEY.seed[:-1],
    "too long": KEY.seed + b"A",
    "mistyped": KEY.seed[:20] + (b"A" if KEY.seed[20:21] != b"A" else b"B") + KEY.seed[21:],
    "public": KEY.public,
    "letters alone": "SUA2" + "A" * 54,
    "no ASCII": "é2" * 29,
    "credentials": OPERATOR.credentials(),
}


@pytest.mark.parametrize("seed", NO_SEEDS.values(), ids=NO_SEEDS)
def test_what_is_no_seed_is_refused_without_showing_it(seed: Any) -> None:
    with pytest.raises(nats_zio.OptionError, match="nkey_seed") as caught:
        nats_zio.connect("nats://127.0.0.1:1", nkey_seed=seed)
    assert caught.value.__context__ is None


# Being refused again, being sent away.


def test_the_same_refusal_twice_in_a_row_drops_the_server(run: Run) -> None:
    with NatsServer(config=CONFIGS["user"]) as server:

        def main() -> None:
            nc = nats_zio.connect(server.url, user="ann", password=USER, **FAST)
            seen = nc.events()
            away(server.reload, f"authorization {{ user: ann, password: {secret()} }}")
            closed = next_event(seen, Closed)
            assert isinstance(closed.error, nats_zio.NoServersError)
            assert isinstance(closed.error.errors[server.url], nats_zio.AuthError)

        run(main)


def refusals(*texts: str | None) -> Callable[[Any, Any], bool]:
    """A hook of the scripted server: what each further CONNECT is answered; None lets it in."""
    left = list(texts)

    def answer(client: Any, command: Any) -> bool:
        if command.verb != "CONNECT" or not left:
            return False
        text = left.pop(0)
        if text is not None:
            client.error(text, close=True)
        return text is not None

    return answer


VIOLATION, EXPIRED, REVOKED = "Authorization Violation", "User Authentication Expired", "User Authentication Revoked"


@pytest.mark.parametrize(
    ("answers", "tries", "back"),
    [
        ([VIOLATION] * 20, 6, False),  # at 0, 0.1, 0.3, 0.7, 1.5 and 3.1 seconds
        ([VIOLATION, VIOLATION], 2, True),
        ([VIOLATION, EXPIRED, VIOLATION, REVOKED], 4, True),
        ([VIOLATION, *[EXPIRED] * 20], 6, False),
        (["Authentication Timeout"] * 9, 9, True),
        (["maximum connections exceeded"] * 5, 5, True),
        ([VIOLATION, "maximum connections exceeded", VIOLATION], 3, True),
        ([VIOLATION, None, VIOLATION], 1, True),
    ],
    ids=[
        "two seconds",
        "twice",
        "in turns",
        "later",
        "out of time",
        "another error",
        "another between",
        "let in between",
    ],
)
def test_only_the_same_one_for_two_seconds_does(answers: list[str | None], tries: int, back: bool) -> None:
    def test(server: ScriptedServer) -> None:
        nc = nats_zio.connect(server.url)
        seen = nc.events()
        server.on_command = refusals(*answers)
        server.clients[0].close()
        told = until(seen, Reconnected if back else Closed)
        assert sum(isinstance(event, ReconnectFailed) for event in told) == tries
        if None in answers:
            server.clients[0].close()
            until(seen, Reconnected)
        nc.close()

    scripted(test)


def test_a_server_that_refuses_for_two_seconds_is_dropped_and_the_others_stay() -> None:
    def test(server: ScriptedServer) -> None:
        with ScriptedServer("s2", 4222, users={"ann": User(USER)}) as other:
            urls = [server.url, other.url]
            with nats_zio.connect(urls, no_randomize=True, user="ann", password=secret()) as nc:
                seen = nc.events()
                for _ in range(4):
                    assert nc.servers == sorted(urls)
                    server.clients[0].close()
                    until(seen, Reconnected)
                    zio.sleep(0.9)
                assert nc.servers == [server.url]

    scripted(test)


def test_without_abort_on_auth_error_it_is_tried_again_and_again() -> None:
    def test(server: ScriptedServer) -> None:
        with nats_zio.connect(server.url, abort_on_auth_error=False) as nc:
            seen = nc.events()
            server.on_command = refusals(*[VIOLATION] * 10)
            server.clients[0].close()
            told = until(seen, Reconnected)
            assert sum(isinstance(event, ReconnectFailed) for event in told) == 10

    scripted(test)


@pytest.mark.slow
def test_a_jwt_that_runs_out_is_replaced_by_a_fresh_one_at_the_reconnect(
    run: Run, strict: Callable[[str], NatsServer], subject: str
) -> None:
    asked: list[float] = []

    def auth(info: nats_zio.ServerInfo) -> Auth:
        asked.append(time.monotonic())
        key = user_key()
        return Auth(jwt=OPERATOR.user_token(key, expires=6 if len(asked) == 1 else None), sign=key.sign)

    def main() -> None:
        with nats_zio.connect(strict("jwt").url, auth=auth, **FAST) as nc, nc.subscribe(subject) as sub:
            seen = nc.events()
            lost = next_event(seen, Disconnected)
            assert isinstance(lost.error, nats_zio.AuthError)
            assert "expired" in str(lost.error).lower()
            next_event(seen, Reconnected)
            nc.publish(subject, b"back")
            assert sub.next().data == b"back"
            assert len(asked) == 2

    run(main)


def test_a_revoked_user_is_sent_away_and_told_so(run: Run, subject: str) -> None:
    operator, key = Operator(), user_key()
    with NatsServer(config=operator.config()) as server:

        def main() -> None:
            with (
                nats_zio.connect(server.url, credentials=operator.credentials(key), **FAST) as nc,
                nats_zio.connect(server.url, credentials=operator.credentials()) as other,
            ):
                seen = nc.events()
                operator.revoked[key.public] = int(time.time()) + 1
                away(server.reload, operator.config())
                lost = next_event(seen, Disconnected)
                assert isinstance(lost.error, nats_zio.AuthError)
                assert isinstance(next_event(seen, ReconnectFailed).error, nats_zio.AuthError)
                next_event(seen, Closed)
                assert other.stats.reconnects == 0
                eventually(lambda: nc.is_closed)

        run(main)


def test_errors_of_authentication_are_told_while_connected() -> None:
    def test(server: ScriptedServer, nc: nats_zio.Client) -> None:
        seen = nc.events()
        server.error(EXPIRED, close=True)
        told: list[Any] = until(seen, events.Reconnected)
        assert isinstance(told[0], events.ServerError)
        assert isinstance(told[1], events.Disconnected)
        assert isinstance(told[0].error, nats_zio.AuthError)
        assert told[1].error is told[0].error

    connected(test)
