"""Tests that must fail, each by a leak of a secret through one channel; run by test_secrecy_scan.py.

The last one leaks nothing and must pass.
"""

from __future__ import annotations

import base64
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
import trustme

import nats_zio
import zio
from nats_zio import events
from nats_zio.client import Client
from nats_zio.errors import AuthError, NoServersError
from nats_zio.options import Options
from nats_zio.servers import Server
from nats_zio.testing import NatsServer
from tests.jwts import Operator, user_key
from tests.secrecy import secret

SECRET = secret(odd=True)

logger = logging.getLogger("nats_zio.planted")


def caught(error: BaseException) -> None:
    with pytest.raises(type(error)):
        raise error


# --- channels


def test_log_message() -> None:
    logger.debug("connecting with %s", SECRET)


def test_log_arguments() -> None:
    logger.debug("%.3s", SECRET)


def test_log_error() -> None:
    logger.error("failed", exc_info=ValueError(SECRET))


def test_log_of_others() -> None:
    logging.getLogger("elsewhere").warning(SECRET)


def test_standard_output() -> None:
    print(SECRET)


def test_standard_error() -> None:
    print(SECRET, file=sys.stderr)


def test_warning() -> None:
    warnings.warn(f"do not use {SECRET}", stacklevel=1)


def test_warning_that_is_expected() -> None:
    with pytest.warns(UserWarning, match="do not use"):
        warnings.warn(f"do not use {SECRET}", stacklevel=1)


def test_error_made_and_thrown_away() -> None:
    str(AuthError(f"{SECRET} is wrong"))


def test_error_text() -> None:
    caught(ValueError(SECRET))


def test_error_arguments() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            return "silent"

        __repr__ = __str__

    caught(Silent(SECRET))


def test_error_attribute() -> None:
    error = ValueError("no")
    error.password = SECRET  # type: ignore[attr-defined]
    caught(error)


def test_error_note() -> None:
    error = ValueError("no")
    error.add_note(SECRET)
    caught(error)


def test_error_cause() -> None:
    error = ValueError("no")
    error.__cause__ = KeyError(SECRET)
    caught(error)


def test_error_context_that_is_not_printed() -> None:
    error = ValueError("no")
    error.__context__ = KeyError(SECRET)
    error.__suppress_context__ = True
    caught(error)


def test_error_in_a_group() -> None:
    group = ExceptionGroup("several", [ValueError("no"), KeyError(SECRET)])
    with pytest.RaisesGroup(ValueError, KeyError):
        raise group


def test_error_of_a_server() -> None:
    caught(NoServersError("none", {"nats://h:4222": OSError(SECRET)}))


def test_error_that_ends_the_test() -> None:
    raise ValueError(SECRET)


def with_client(use: Callable[[Client], object], server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, name="planted") as nc:
            use(nc)

    zio.run(main)


def test_event(nats_server: NatsServer) -> None:
    with_client(lambda nc: nc._core.emit(events.Reconnected(f"nats://ann:{SECRET}@h:4222")), nats_server)


def test_event_error(nats_server: NatsServer) -> None:
    with_client(lambda nc: nc._core.emit(events.Disconnected(OSError(SECRET), 0, 0)), nats_server)


@pytest.mark.parametrize("kind", [Client, Options, Server, nats_zio.Auth, nats_zio.TLS, nats_zio.ServerInfo])
def test_text(kind: type, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "__repr__", lambda _: f"<{SECRET}>")
    with_client(lambda nc: [nats_zio.Auth(user="u"), nats_zio.TLS()], nats_server)


def test_in_a_fixture(leaking: None) -> None: ...


@pytest.fixture
def leaking() -> Any:
    yield
    logger.debug(SECRET)


# --- forms


@pytest.mark.parametrize(
    "form",
    [
        lambda text: quote(text),
        lambda text: quote(text, safe=""),
        lambda text: repr(text)[1:-1],
        lambda text: str(text.encode()),
        lambda text: text.encode().hex(),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(b"ann:" + text.encode()).decode(),
        lambda text: base64.b64encode(b"carol:" + text.encode() + b"\n").decode(),
    ],
    ids=["quoted", "all-quoted", "repr", "bytes", "hex", "base64", "base64-inside", "base64-within"],
)
def test_form(form: Callable[[str], str]) -> None:
    print(form(SECRET))


# --- what is recorded by itself


def refused(**options: Any) -> None:
    with pytest.raises(nats_zio.Error):
        zio.run(lambda: nats_zio.connect("nats://127.0.0.1:1", **options))


def test_recorded_password() -> None:
    options = {"user": "ann", "password": f"pass{1 + 1}word"}
    refused(**options)
    print(options["password"])


def test_recorded_token() -> None:
    options = {"token": f"tok{1 + 1}en-word"}
    refused(**options)
    print(options["token"])


def test_recorded_url() -> None:
    with pytest.raises(nats_zio.Error):
        zio.run(lambda: nats_zio.connect(f"nats://ann:p%61ss{1 + 1}word@127.0.0.1:1"))
    print(f"pass{1 + 1}word")


def test_recorded_url_as_it_stands() -> None:
    with pytest.raises(nats_zio.Error):
        zio.run(lambda: nats_zio.connect(f"nats://ann:p%61ss{1 + 1}word@127.0.0.1:1/path"))
    print(f"p%61ss{1 + 1}word")


def test_recorded_userinfo_of_a_proxy() -> None:
    refused(proxy=f"http://ann:prox{1 + 1}word@127.0.0.1:1")
    print(f"prox{1 + 1}word")


def test_recorded_headers() -> None:
    with pytest.raises(nats_zio.Error):
        zio.run(lambda: nats_zio.connect("ws://127.0.0.1:1", ws_headers={"Authorization": f"Bearer tok{1 + 1}en"}))
    print(f"Bearer tok{1 + 1}en")


def test_recorded_query() -> None:
    with pytest.raises(nats_zio.Error):
        zio.run(lambda: nats_zio.connect(f"ws://127.0.0.1:1/path?token=quer{1 + 1}word"))
    print(f"token=quer{1 + 1}word")


def test_recorded_nkey_seed() -> None:
    seed = user_key().seed.decode()
    refused(nkey_seed=seed)
    print(seed)


@pytest.mark.parametrize("block", [1, 3], ids=["jwt", "seed"])
def test_recorded_credentials(block: int) -> None:
    data = Operator().credentials()
    refused(credentials=data)
    print(data.decode().split("-----")[2 * block].strip())


@pytest.mark.parametrize("block", [1, 3], ids=["jwt", "seed"])
def test_recorded_credentials_file(block: int, tmp_path: Path, nats_server: NatsServer) -> None:
    data = Operator().credentials()
    (tmp_path / "c").write_bytes(data)
    with NatsServer(config=Operator().config()) as server, pytest.raises(nats_zio.AuthError):
        zio.run(lambda: nats_zio.connect(server.url, credentials=tmp_path / "c"))
    print(data.decode().split("-----")[2 * block].strip())


def test_recorded_part_of_a_jwt() -> None:
    jwt = Operator().user_token(user_key())
    nats_zio.Auth(jwt=jwt, sign=lambda nonce: nonce)
    print(jwt.split(".")[1])


def test_recorded_private_key(tmp_path: Path) -> None:
    import ssl

    issued = trustme.CA().issue_cert("h.example")
    with issued.private_key_and_cert_chain_pem.tempfile(str(tmp_path)) as path:
        ssl.create_default_context().load_cert_chain(path)
    print(issued.private_key_pem.bytes().decode().splitlines()[2])


def test_too_short() -> None:
    nats_zio.Auth(token="short")


# --- the control


def test_nothing(nats_server: NatsServer) -> None:
    with_client(lambda nc: nc._core.emit(events.Disconnected(OSError("why"), 0, 0)), nats_server)
    refused(user="ann", password=SECRET)
    logger.warning("a warning")
    print(SimpleNamespace(text="to standard output"))
    caught(ValueError(SECRET[:8]))
