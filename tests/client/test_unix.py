"""Servers reached through a unix socket: through a relay, since nats-server itself does not listen at any."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import TLS, OptionError
from nats_zio.events import Disconnected, Reconnected
from nats_zio.testing import NatsServer, ScriptedServer
from tests.client.certificates import Authority
from tests.client.helpers import away, next_event
from tests.secrecy import secret
from zio.testing import SimNetwork, run_virtual

Run = Callable[..., Any]

FAST: dict[str, Any] = {"reconnect_wait": 0.01, "reconnect_max_wait": 0.02}


class Relay:
    """Listens at a unix socket and passes everything on to a port. Only inside a runtime."""

    def __init__(self, path: Path, port: int, host: str = "127.0.0.1") -> None:
        self.listener = zio.net.listen_unix(path)
        self.url = f"unix://{path}"
        self._target = host, port
        self._streams: list[zio.net.Stream] = []
        zio.spawn(self._accept)

    def _accept(self) -> None:
        for near in self.listener:
            try:
                far = zio.net.connect(*self._target)
            except OSError:
                near.close()
                continue
            self._streams += [near, far]
            zio.spawn(self._pump, near, far)
            zio.spawn(self._pump, far, near)

    @staticmethod
    def _pump(source: zio.net.Stream, target: zio.net.Stream) -> None:
        with contextlib.suppress(OSError, zio.Closed):
            while data := source.recv(65536):
                target.send_all(data)
        source.close()
        target.close()

    def close(self) -> None:
        self.listener.close()
        for stream in self._streams:
            stream.close()


@contextlib.contextmanager
def relay(path: Path, port: int) -> Any:
    """In this runtime, or in the background one."""
    runtime = zio.lowlevel.runtime_here() or zio.background()
    made = runtime.call(Relay, path, port)
    yield made
    runtime.call(made.close)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nats.sock"


def works(nc: nats_zio.Client, subject: str, data: bytes = b"there and back") -> None:
    with nc.subscribe(subject) as sub:
        nc.publish(subject, data)
        assert sub.next().data == data


def failure(url: str, **options: Any) -> BaseException:
    """Why no connection to the only server comes about."""
    with pytest.raises(nats_zio.NoServersError) as caught:
        nats_zio.connect(url, **options)
    (error,) = caught.value.errors.values()
    return error


def test_it_is_a_connection_like_any_other(run: Run, path: Path, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with relay(path, nats_server.port) as through, nats_zio.connect(through.url) as nc:
            assert nc.connected_url == through.url
            assert nc.servers == [through.url]
            works(nc, subject, b"x" * 500_000)
            with nats_zio.connect(nats_server.url) as other:
                other.subscribe(f"{subject}.double", cb=lambda message: message.respond(message.data * 2))
                other.flush()
                assert nc.request(f"{subject}.double", b"ab").data == b"abab"
            assert nc.rtt() > 0

    run(main)


def test_it_reconnects(run: Run, path: Path, server: NatsServer) -> None:
    def main() -> None:
        with relay(path, server.port) as through, nats_zio.connect(through.url, **FAST) as nc:
            seen = nc.events()
            sub = nc.subscribe("a")
            nc.flush()
            away(server.kill)
            next_event(seen, Disconnected)
            nc.publish("a", b"meanwhile")
            away(server.start)
            next_event(seen, Reconnected)
            assert sub.next(timeout=30).data == b"meanwhile"

    run(main)


def test_credentials_may_stand_in_the_url_and_are_not_shown(path: Path) -> None:
    password = secret()

    def main(port: int) -> None:
        with relay(path, port), nats_zio.connect(f"unix://user:{password}@{path}") as nc:
            works(nc, "a")
            assert nc.connected_url == f"unix://{path}"

    with NatsServer(user="user", password=password) as server:
        zio.run(main, server.port)


def test_a_socket_that_is_not_there_is_an_error_that_names_it(run: Run, path: Path) -> None:
    error = run(failure, f"unix://{path}")
    assert isinstance(error, FileNotFoundError)
    assert str(path) in str(error)


def test_a_server_that_says_nothing_has_the_time_of_connect_timeout() -> None:
    def main() -> None:
        with zio.net.listen_unix("/run/nats.sock"):
            start = zio.now()
            error = failure("unix:///run/nats.sock", connect_timeout=3)
            assert isinstance(error, nats_zio.TimeoutError)
            assert "unix:///run/nats.sock did not complete the handshake within 3 s" in str(error)
            assert zio.now() - start == pytest.approx(3, abs=0.1)

    run_virtual(main, network=SimNetwork(1))


def test_who_uses_a_socket_does_not_go_around_it() -> None:
    """The addresses of the cluster may be out of reach, or not what was meant: a sidecar has its reasons."""

    def main() -> None:
        with ScriptedServer("server", 4222) as server:
            server.info(connect_urls=["server:4222", "other:4222"], ws_connect_urls=["server:80"])
            listener = zio.net.listen_unix("/run/nats.sock")

            def pass_on() -> None:
                near, far = listener.accept(), zio.net.connect("server", 4222)
                zio.spawn(Relay._pump, near, far)
                zio.spawn(Relay._pump, far, near)

            zio.spawn(pass_on)
            with nats_zio.connect("unix:///run/nats.sock") as nc:
                nc.flush()
                assert nc.server_info.connect_urls == ("server:4222", "other:4222")
                assert nc.servers == ["unix:///run/nats.sock"]
                assert nc.discovered_servers == []
            listener.close()

    run_virtual(main, network=SimNetwork(1))


def test_a_socket_and_other_servers_may_be_in_one_pool(path: Path, nats_server: NatsServer, subject: str) -> None:
    """The proxy is for the others."""

    def main() -> None:
        urls = [f"unix://{path}", nats_server.url]
        with nats_zio.connect(urls, no_randomize=True, proxy=zio.net.connect) as nc:
            assert nc.connected_url == nats_server.url
        with relay(path, nats_server.port), nats_zio.connect(urls, no_randomize=True, proxy=zio.net.connect) as nc:
            assert nc.connected_url == urls[0]
            works(nc, subject)

    zio.run(main)


def test_tls_needs_the_name_that_the_certificate_is_for(run: Run, path: Path, tmp_path: Path) -> None:
    ca = Authority(tmp_path)

    def main(port: int) -> None:
        with relay(path, port) as through:
            with nats_zio.connect(through.url, tls=TLS(ca=ca.file, hostname="localhost")) as nc:
                works(nc, "a")
            for options in ({"tls": TLS(ca=ca.file)}, {}):  # asked for by us, and by the server
                error = failure(through.url, **options)
                assert isinstance(error, OptionError)
                assert "has no host name to check the certificate by: give TLS(hostname=...)" in str(error)
            error = failure(through.url, tls=TLS(ca=ca.file, hostname="elsewhere"))
            assert "not valid for 'elsewhere'" in str(error)

    with NatsServer(config=ca.config()) as server:
        run(main, server.port)
