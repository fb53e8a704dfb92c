"""connect: which servers, which credentials, and what it raises when it cannot."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

import nats_zio
import zio
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT
from tests.secrecy import secret

Run = Callable[..., Any]

SECRET = secret(odd=True)
ENCODED = quote(SECRET, safe="")
ANOTHER = secret()  # that opens nothing


@pytest.fixture(scope="module")
def locked() -> Iterator[NatsServer]:
    with NatsServer(user="ann", password=SECRET) as server:
        yield server


@pytest.fixture(scope="module")
def token_server() -> Iterator[NatsServer]:
    with NatsServer(token=SECRET) as server:
        yield server


@pytest.fixture
def silent() -> Iterator[str]:
    """A listener that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"nats://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def unused() -> Iterator[str]:
    """A URL where nothing listens, and nobody else can meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"nats://127.0.0.1:{bound.getsockname()[1]}"


def _fds() -> set[str]:
    return set(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))  # noqa: PTH112, PTH208


@pytest.mark.parametrize(
    "form", ["nats://127.0.0.1:{port}", "127.0.0.1:{port}", "nats://localhost:{port}/", " nats://127.0.0.1:{port} "]
)
def test_a_url_with_or_without_scheme_names_a_server(run: Run, nats_server: NatsServer, form: str) -> None:
    def main() -> None:
        with nats_zio.connect(form.format(port=nats_server.port)) as nc:
            assert nc.is_connected
            assert nc.status is nats_zio.Status.CONNECTED
            nc.flush()

    run(main)


def test_an_address_of_ipv6_stands_in_brackets(run: Run) -> None:
    with NatsServer(host="::1") as server:

        def main() -> None:
            with nats_zio.connect(f"nats://[::1]:{server.port}") as nc:
                nc.flush()
                assert nc.connected_url == f"nats://[::1]:{server.port}"
                assert nc.servers == [f"nats://[::1]:{server.port}"]

        run(main)


@pytest.mark.parametrize("as_list", [False, True])
def test_the_first_server_of_several_that_answers_is_taken(
    run: Run, nats_server: NatsServer, unused: str, as_list: bool
) -> None:
    urls: Any = [unused, nats_server.url] if as_list else f"{unused}, {nats_server.url}"

    def main() -> None:
        with nats_zio.connect(urls, no_randomize=True) as nc:
            assert nc.connected_url == nats_server.url
            assert nc.servers == sorted([unused, nats_server.url])

    run(main)


def test_credentials_of_a_url_are_percent_decoded(run: Run, locked: NatsServer) -> None:
    run(lambda: nats_zio.connect(f"nats://ann:{ENCODED}@127.0.0.1:{locked.port}").close())


def test_credentials_of_a_url_win_over_the_options(run: Run, locked: NatsServer) -> None:
    url = f"nats://ann:{ENCODED}@127.0.0.1:{locked.port}"
    run(lambda: nats_zio.connect(url, user="bob", password=ANOTHER).close())


def test_user_and_password_may_be_options(run: Run, locked: NatsServer) -> None:
    run(lambda: nats_zio.connect(locked.url, user="ann", password=SECRET).close())


def test_a_token_may_stand_in_the_url_or_be_an_option(run: Run, token_server: NatsServer) -> None:
    run(lambda: nats_zio.connect(token_server.url, token=SECRET).close())
    run(lambda: nats_zio.connect(f"nats://{ENCODED}@127.0.0.1:{token_server.port}").close())


@pytest.mark.parametrize("options", [{}, {"user": "ann", "password": ANOTHER}, {"token": ANOTHER}])
def test_wrong_credentials_raise_auth_error_without_the_secret(
    run: Run, locked: NatsServer, options: dict[str, str]
) -> None:
    with pytest.raises(nats_zio.AuthError) as caught:
        run(lambda: nats_zio.connect(locked.url, **options))
    assert ANOTHER not in str(caught.value)
    assert "authorization" in caught.value.text.lower()


def test_one_refusal_among_several_servers_does_not_end_the_search(
    run: Run, locked: NatsServer, nats_server: NatsServer
) -> None:
    def main() -> None:
        with nats_zio.connect([locked.url, nats_server.url], no_randomize=True) as nc:
            assert nc.connected_url == nats_server.url

    run(main)


def test_nothing_listens_raises_no_servers_error_with_the_cause(run: Run, unused: str) -> None:
    with pytest.raises(nats_zio.NoServersError) as caught:
        run(lambda: nats_zio.connect(unused))
    assert isinstance(caught.value.errors[unused], ConnectionRefusedError)
    assert isinstance(caught.value, ConnectionError)


def test_the_error_names_every_server_and_no_secret(run: Run, unused: str, silent: str) -> None:
    with_secret = unused.replace("nats://", f"nats://ann:{ANOTHER}@")
    with pytest.raises(nats_zio.NoServersError) as caught:
        run(lambda: nats_zio.connect([with_secret, silent], connect_timeout=0.05))
    assert set(caught.value.errors) == {unused, silent}
    assert ANOTHER not in str(caught.value)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".invalid"])
def test_a_name_that_cannot_be_resolved_raises_no_servers_error(run: Run, host: str) -> None:
    with pytest.raises(nats_zio.NoServersError):
        run(lambda: nats_zio.connect(f"nats://{host}:4222"))


def test_a_silent_listener_is_given_up_after_connect_timeout(run: Run, silent: str) -> None:
    before = time.monotonic()
    with pytest.raises(nats_zio.NoServersError) as caught:
        run(lambda: nats_zio.connect(silent, connect_timeout=0.1))
    assert isinstance(caught.value.errors[silent], nats_zio.TimeoutError)
    assert time.monotonic() - before >= 0.1


def test_a_peer_that_is_no_nats_server_raises_no_servers_error() -> None:
    def main() -> None:
        def other_protocol() -> None:
            for stream in listener:
                with stream:
                    stream.send_all(b"SSH-2.0-OpenSSH_9.6\r\n")

        with zio.net.listen("127.0.0.1", 0) as listener:
            zio.spawn(other_protocol)
            with pytest.raises(nats_zio.NoServersError) as caught:
                nats_zio.connect(f"nats://127.0.0.1:{listener.port}", connect_timeout=LIMIT)
        (error,) = caught.value.errors.values()
        assert isinstance(error, nats_zio.ProtocolError)

    zio.run(main)


def test_a_cancelled_connect_leaves_nothing_open(silent: str) -> None:
    def main() -> None:
        zio.sleep(0)
        before = _fds()
        with zio.move_on_after(0.05) as scope:
            nats_zio.connect(silent)
        assert scope.expired
        assert _fds() == before

    zio.run(main)


def test_a_connect_timed_out_in_a_plain_thread_leaves_nothing_open(silent: str, background_runtime: object) -> None:
    before = _fds()
    with pytest.raises(TimeoutError), zio.timeout(0.05):
        nats_zio.connect(silent)
    assert _fds() == before


def test_the_scope_around_connect_does_not_end_the_client(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with zio.move_on_after(LIMIT) as scope:
            nc = nats_zio.connect(nats_server.url)
            scope.cancel()
        with nc.subscribe(subject) as sub:
            nc.publish(subject, b"x")
            assert sub.next().data == b"x"
        nc.close()

    zio.run(main)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"colour": "red"}, "colour"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"request_timeout": float("nan")}, "request_timeout"),
        ({"ping_interval": "30"}, "ping_interval"),
        ({"pending_msgs": 0}, "pending_msgs"),
        ({"pending_bytes": -1}, "pending_bytes"),
        ({"max_outstanding_pings": None}, "max_outstanding_pings"),
        ({"overflow": "forget"}, "overflow"),
        ({"inbox_prefix": "a.*"}, "prefix"),
        ({"inbox_prefix": "a b"}, "prefix"),
        ({"no_echo": "yes"}, "no_echo"),
        ({"password": ANOTHER}, "password"),
        ({"token": ANOTHER, "user": "u"}, "token"),
        ({"token": ANOTHER.encode()}, "token"),
        ({"max_reconnect_attempts": -2}, "max_reconnect_attempts"),
        ({"reconnect_buffer_size": -1}, "reconnect_buffer_size"),
        ({"run_callbacks": "process"}, "run_callbacks"),
    ],
)
def test_a_bad_option_raises_option_error_before_anything_is_opened(options: dict[str, Any], word: str) -> None:
    with pytest.raises(nats_zio.OptionError, match=word) as caught:
        nats_zio.connect("nats://127.0.0.1:1", **options)
    assert isinstance(caught.value, ValueError)
    assert ANOTHER not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        ",",
        "http://localhost",
        "nats://",
        "nats://h:99999",
        "nats://h:0",
        "nats://h:x",
        pytest.param(f"nats://u:{ANOTHER}@h/path", id="path"),
        "nats://[::1",
        "nats://h st",
        pytest.param(f"nats://u:{ANOTHER}@h\nost", id="line end"),
        pytest.param(f"nats://u:{ANOTHER}\n@host", id="line end in the password"),
        "nats://h:4\t222",
        [],
    ],
)
def test_a_bad_url_raises_option_error_without_its_secret(url: Any) -> None:
    with pytest.raises(nats_zio.OptionError) as caught:
        nats_zio.connect(url)
    assert ANOTHER not in str(caught.value)


@pytest.mark.parametrize("url", [":{}@h", "u:{}%ff@h", "u:{}/x@h", "u:{}#x@h", "u:{}?x@h", "u:{}\u2100@h", "u:[{}@h"])
@pytest.mark.parametrize("form", ["nats://{}:4222", "{}", "a,nats://{}", "ftp://{}"])
def test_the_error_of_a_bad_url_shows_no_part_of_its_password(url: str, form: str) -> None:
    with pytest.raises(nats_zio.OptionError, match="server URL") as caught:
        nats_zio.connect(form.format(url.format(ANOTHER)))
    assert ANOTHER not in f"{caught.value!r} {caught.value.__context__!r}"


def test_a_comma_in_a_password_shows_no_half_of_it() -> None:
    with pytest.raises(nats_zio.OptionError, match="number 1 of 2"):
        nats_zio.connect(f"nats://ann:{secret()},{secret()}@h")


def test_no_secret_is_shown(run: Run, locked: NatsServer) -> None:
    def main() -> None:
        url = f"nats://ann:{ENCODED}@127.0.0.1:{locked.port}"
        with nats_zio.connect(url, name="shown", password=ANOTHER, user="u") as nc:
            shown = f"{nc!r} {nc.connected_url} {nc.servers} {nc.options!r} {nc.server_info!r}"
            assert "shown" in shown
            for secret in (SECRET, ENCODED, ANOTHER, "ann"):
                assert secret not in shown
            assert nc.connected_url == locked.url

    run(main)


def test_the_server_says_who_it_is(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            assert nc.server_info.server_id == nats_server.info["server_id"]
            assert nc.server_info.version == nats_server.info["version"]
            assert nc.max_payload == nats_server.info["max_payload"]

    run(main)


def test_the_server_knows_name_language_and_version_of_the_client(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, name="billing"):
            (entry,) = server.monitor("/connz")["connections"]
            assert (entry["name"], entry["lang"], entry["version"]) == ("billing", "python-zio", nats_zio.__version__)

    run(main)


def test_connected_is_no_event_for_those_who_subscribe_later_and_the_status_ends_closed(
    run: Run, nats_server: NatsServer
) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        events = nc.events()
        nc.close()
        assert nc.status is nats_zio.Status.CLOSED
        assert nc.is_closed
        assert not nc.is_connected
        assert nc.connected_url is None
        assert [type(event) for event in events] == [nats_zio.events.Closed]

    run(main)
