"""Credentials files: their forms, and that they are read at each connect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.events import Disconnected, Reconnected, ReconnectFailed
from nats_zio.testing import NatsServer, ScriptedServer
from tests.client.helpers import away, eventually, next_event
from tests.client.scripted import scripted
from tests.jwts import Operator, user_key
from tests.secrecy import record, secret

Run = Callable[..., Any]

FAST: dict[str, Any] = {"reconnect_wait": 0.01, "reconnect_max_wait": 0.02}

OPERATOR = Operator()


@pytest.fixture(scope="module")
def trusting() -> Iterator[NatsServer]:
    """Trusts the operator."""
    with NatsServer(config=OPERATOR.config()) as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "user.creds"
    path.write_bytes(OPERATOR.credentials())
    return path


def only_blocks(text: str) -> str:
    blocks = text.split("\n\n")
    return blocks[0] + "\n" + blocks[2] + "\n"


FORMS: dict[str, Callable[[str], str]] = {
    "as made by nsc": lambda text: text,
    "line ends of Windows": lambda text: text.replace("\n", "\r\n"),
    "without the notes": only_blocks,
    "without the last line end": lambda text: only_blocks(text).rstrip("\n"),
    "with blanks": lambda text: text.replace("-----\n", "-----  \n\n  ").replace("\n------END", " \n\n------END"),
    "with five dashes everywhere": lambda text: text.replace("------END", "-----END"),
    "with three dashes": lambda text: text.replace("------END", "---END").replace("-----", "---"),
    "with text around": lambda text: f"# mine\n{text}\nthe end",
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_are_read(trusting: NatsServer, form: str, run: Run) -> None:
    data = FORMS[form](OPERATOR.credentials().decode()).encode()
    run(lambda: nats_zio.connect(trusting.url, credentials=data).close())


@pytest.mark.parametrize(
    "given", [lambda path: path, str, lambda path: path.read_bytes()], ids=["path", "str", "bytes"]
)
def test_they_are_given_by_path_or_as_bytes(
    run: Run, trusting: NatsServer, file: Path, given: Callable[[Path], Any], subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(trusting.url, credentials=given(file)) as nc, nc.subscribe(subject) as sub:
            nc.publish(subject, b"in")
            assert sub.next().data == b"in"

    run(main)


def test_a_file_is_read_again_at_each_connect(run: Run, trusting: NatsServer, file: Path) -> None:
    """The first user is of an operator that nobody trusts."""
    file.write_bytes(Operator().credentials())

    def main() -> None:
        with pytest.raises(nats_zio.AuthError):
            nats_zio.connect(trusting.url, credentials=file)
        options = {"retry_on_failed_connect": True, "abort_on_auth_error": False, **FAST}
        with nats_zio.connect(trusting.url, credentials=file, **options) as nc:
            assert not nc.is_connected
            file.write_bytes(OPERATOR.credentials())
            nc.flush(timeout=30)

    run(main)


@pytest.mark.slow
def test_a_file_that_was_renewed_in_time_survives_the_end_of_its_token(
    run: Run, trusting: NatsServer, file: Path
) -> None:
    file.write_bytes(OPERATOR.credentials(expires=6))

    def main() -> None:
        with nats_zio.connect(trusting.url, credentials=file, **FAST) as nc:
            seen = nc.events()
            file.write_bytes(OPERATOR.credentials())
            assert "expired" in str(next_event(seen, Disconnected).error).lower()
            next_event(seen, Reconnected)
            nc.flush()

    run(main)


@pytest.mark.slow
def test_bytes_cannot_be_renewed_so_the_client_gives_up_when_they_have_run_out(trusting: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(trusting.url, credentials=OPERATOR.credentials(expires=6), **FAST)
        eventually(lambda: nc.is_closed, "two refusals end it")
        with pytest.raises(nats_zio.ConnectionClosedError, match=r"(?i)authorization violation|authentication expired"):
            nc.flush()

    zio.run(main)


def test_a_file_that_is_missing_at_a_reconnect_is_waited_for(run: Run, file: Path, tmp_path: Path) -> None:
    with NatsServer(config=OPERATOR.config()) as server:

        def main() -> None:
            with nats_zio.connect(server.url, credentials=file, **FAST) as nc:
                seen = nc.events()
                file.rename(tmp_path / "elsewhere")
                away(server.restart)
                for _ in range(3):

                    def is_missing() -> bool:
                        error = next_event(seen, ReconnectFailed).error
                        return isinstance(error, nats_zio.CredentialsError) and "No such file" in str(error)

                    eventually(is_missing, "the file is missing")
                assert nc.servers == [server.url], "no server is dropped for it"
                (tmp_path / "elsewhere").rename(file)
                next_event(seen, Reconnected)

        run(main)


BAD_FILES: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda text: "", "no JWT and seed"),
    "no dashes": (lambda text: text.replace("-", "_"), "no JWT and seed"),
    "only a JWT": (lambda text: text.split("\n\n", maxsplit=1)[0], "no JWT and seed"),
    "only a seed": (lambda text: text.split("\n\n")[2], "no JWT and seed"),
    "the seed twice": (lambda text: "\n".join(text.split("\n\n")[2:3] * 2), "the first block is no JWT"),
    "swapped": (lambda text: "\n".join(text.split("\n\n")[2::-2]), "the first block is no JWT"),
    "a seed cut short": (lambda text: text.replace("SEED-----\nS", "SEED-----\n"), "no nkey seed"),
    "a JWT of two parts": (lambda text: text.replace(".", "", 1), "the first block is no JWT"),
    "no ASCII": (lambda text: text.replace("eyJ", "éyJ", 1), "the first block is no JWT"),
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_a_file_that_cannot_be_used_is_named_and_nothing_is_sent(bad: str, file: Path) -> None:
    change, text = BAD_FILES[bad]
    original = file.read_text()
    record(original)
    file.write_text(change(original))

    def test(server: ScriptedServer) -> None:
        with pytest.raises(nats_zio.CredentialsError, match=text) as caught:
            nats_zio.connect(server.url, credentials=file)
        assert str(file) in str(caught.value)
        assert caught.value.__context__ is caught.value.__cause__ is None
        assert server.all_clients[0].received == b""

    scripted(test, nonce="n")


@pytest.mark.parametrize("bad", BAD_FILES)
def test_bytes_that_cannot_be_used_are_refused_at_once_without_showing_them(bad: str) -> None:
    change, text = BAD_FILES[bad]
    original = OPERATOR.credentials().decode()
    record(original)
    with pytest.raises(nats_zio.OptionError, match=text) as caught:
        nats_zio.connect("nats://127.0.0.1:1", credentials=change(original).encode())
    assert caught.value.__context__ is None


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_file_that_cannot_be_read_is_named(run: Run, trusting: NatsServer, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "no.creds" if kind == "missing" else tmp_path

    def main() -> None:
        with pytest.raises(nats_zio.CredentialsError, match="cannot be read") as caught:
            nats_zio.connect(trusting.url, credentials=path)
        assert str(path) in str(caught.value)

    run(main)


@pytest.mark.parametrize(
    "text",
    [
        OPERATOR.credentials().decode(),
        user_key().seed.decode(),
        OPERATOR.user_token(user_key()),
        OPERATOR.credentials().decode().replace("-----BEGIN", "----- BEGIN"),
    ],
    ids=["file", "seed", "JWT", "unusual file"],
)
def test_the_text_itself_is_no_path_and_is_not_shown(text: str) -> None:
    record(text)
    with pytest.raises(nats_zio.OptionError, match="the path of a file"):
        nats_zio.connect("nats://127.0.0.1:1", credentials=text)


def test_what_is_neither_path_nor_bytes_is_refused() -> None:
    with pytest.raises(nats_zio.OptionError, match="credentials must be a path or bytes, not list"):
        nats_zio.connect("nats://127.0.0.1:1", credentials=[secret()])
