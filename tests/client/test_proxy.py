"""Through an HTTP proxy, or whatever else connects: what the proxy is told, and what is made of its answers."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

import nats_zio
import zio
from nats_zio import TLS, OptionError, ProxyError
from nats_zio.events import Reconnected
from nats_zio.testing import NatsServer, ScriptedServer
from tests.client.certificates import Authority
from tests.client.helpers import next_event
from tests.client.websockets import websocket_server
from tests.secrecy import record, secret
from zio.testing import SimNetwork, run_virtual

Run = Callable[..., Any]

FAST: dict[str, Any] = {"reconnect_wait": 0.01, "reconnect_max_wait": 0.02}
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """An HTTP proxy that takes everybody where they want, or where `hosts` says. Only inside a runtime."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.listener = zio.net.listen(host, port)
        self.url = f"http://{host}:{self.listener.port}"
        self.hosts: dict[str, str] = {}
        self.answer = CONNECTED
        self.heads: list[str] = []  # of the requests
        self.carried = bytearray()  # from the clients, behind those
        self.ends = False  # after its answer
        self._streams: list[zio.net.Stream] = []
        zio.spawn(self._accept)

    @property
    def targets(self) -> list[str]:
        return [head.split()[1] for head in self.heads]

    def _accept(self) -> None:
        for stream in self.listener:
            self._streams.append(stream)
            zio.spawn(self._serve, stream)

    def _serve(self, near: zio.net.Stream) -> None:
        with contextlib.suppress(OSError, EOFError, zio.Closed), near:
            self.heads.append(near.recv_until(b"\r\n\r\n", 65536).decode("latin-1"))
            near.send_all(self.answer)
            if self.ends:
                return
            if self.answer != CONNECTED:
                near.recv(1)
                return
            host, _, port = self.targets[-1].rpartition(":")
            with zio.net.connect(self.hosts.get(host, host).strip("[]"), int(port)) as far, zio.TaskGroup() as group:
                self._streams.append(far)
                group.spawn(self._pump, near, far, self.carried)
                group.spawn(self._pump, far, near, bytearray())

    @staticmethod
    def _pump(source: zio.net.Stream, target: zio.net.Stream, copy: bytearray) -> None:
        with contextlib.suppress(OSError, zio.Closed):
            while data := source.recv(65536):
                copy += data
                target.send_all(data)
        source.close()
        target.close()

    def cut(self) -> None:
        """Break all connections."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        self.cut()


def simulated(test: Callable[[Proxy, ScriptedServer], Any]) -> Any:
    """Run `test(proxy, server)` in a simulated network, with a proxy at http://proxy:3128."""

    network = SimNetwork(1)

    def main() -> Any:
        with ScriptedServer("server", 4222) as server, Proxy("proxy", 3128) as proxy:
            result = test(proxy, server)
            zio.sleep(60)
            assert not network.connections, "connections are left"
        return result

    return run_virtual(main, network=network, seed=1)


def failure(url: str, **options: Any) -> BaseException:
    """Why no connection to the only server comes about."""
    with pytest.raises(nats_zio.NoServersError) as caught:
        nats_zio.connect(url, **options)
    (error,) = caught.value.errors.values()
    return error


def works(nc: nats_zio.Client, subject: str, data: bytes = b"there and back") -> None:
    with nc.subscribe(subject) as sub:
        nc.publish(subject, data)
        assert sub.next().data == data


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=["nats", "tls", "ws", "wss"])
def target(request: pytest.FixtureRequest, ca: Authority) -> Iterator[tuple[str, dict[str, Any]]]:
    """The URL of a server of each scheme, and the options for it."""
    scheme = request.param
    options: dict[str, Any] = {"tls": TLS(ca=ca.file)} if scheme in ("tls", "wss") else {}
    if scheme in ("nats", "tls"):
        with NatsServer(config=ca.config() if scheme == "tls" else None) as server:
            yield f"{scheme}://127.0.0.1:{server.port}", options
    else:
        tls = ca.config().strip() if scheme == "wss" else "no_tls: true"
        with websocket_server(tls=tls) as (_, url):
            yield url, options


# What goes through.


def test_every_scheme_but_unix_goes_through(target: tuple[str, dict[str, Any]]) -> None:
    url, options = target

    def main() -> None:
        with Proxy() as proxy, nats_zio.connect(url, proxy=proxy.url, **options, **FAST) as nc:
            assert proxy.targets == [url.partition("://")[2]]
            works(nc, "a", b"x" * 100_000)
            assert len(proxy.carried) > 100_000
            seen = nc.events()
            proxy.cut()
            next_event(seen, Reconnected)
            works(nc, "a")
            assert len(proxy.heads) == 2
            assert nc.connected_url == url

    zio.run(main)


def test_a_client_of_a_plain_thread_goes_through(nats_server: NatsServer, background_runtime: zio.Runtime) -> None:
    proxy = background_runtime.call(Proxy)
    with nats_zio.connect(nats_server.url, proxy=proxy.url) as nc:
        works(nc, "proxy.thread")
        assert len(proxy.heads) == 1
    background_runtime.call(proxy.__exit__)


def test_the_name_of_the_server_is_resolved_by_the_proxy(nats_server: NatsServer) -> None:
    def main() -> None:
        with Proxy() as proxy:
            proxy.hosts["nats.invalid"] = "127.0.0.1"
            with nats_zio.connect(f"nats://nats.invalid:{nats_server.port}", proxy=proxy.url) as nc:
                works(nc, "proxy.name")
            assert proxy.heads[0].startswith(
                f"CONNECT nats.invalid:{nats_server.port} HTTP/1.1\r\nHost: nats.invalid:{nats_server.port}\r\n"
            )

    zio.run(main)


def test_the_certificate_must_be_for_the_server_not_for_the_proxy(ca: Authority) -> None:
    files = ca.issue("nats.invalid")

    def main(port: int) -> None:
        with Proxy() as proxy:
            proxy.hosts["nats.invalid"] = "127.0.0.1"
            options: dict[str, Any] = {"proxy": proxy.url, "tls": TLS(ca=ca.file)}
            with nats_zio.connect(f"tls://nats.invalid:{port}", **options) as nc:
                works(nc, "a")
            assert "certificate" in str(failure(f"tls://127.0.0.1:{port}", **options))

    with NatsServer(config=ca.config(files=files)) as server:
        zio.run(main, server.port)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("nats://[::1]:4222", "[::1]:4222"),
        ("ws://bücher.example", "xn--bcher-kva.example:80"),
        ("nats://UP", "up:4222"),
    ],
)
def test_hosts_are_named_as_http_wants_them(url: str, named: str) -> None:
    def test(proxy: Proxy, _server: ScriptedServer) -> None:
        proxy.answer = b"HTTP/1.1 404 Not Found\r\n\r\n"
        failure(url, proxy=proxy.url)
        assert proxy.targets == [named]

    simulated(test)


def test_servers_that_are_discovered_are_reached_through_it_too() -> None:
    def test(proxy: Proxy, server: ScriptedServer) -> None:
        with ScriptedServer("other", 4222):
            server.info(connect_urls=["server:4222", "other:4222"])
            with nats_zio.connect("nats://server", proxy=proxy.url, **FAST) as nc:
                seen = nc.events()
                assert nc.discovered_servers == ["nats://other:4222"]
                server.kill()
                next_event(seen, Reconnected)
                assert proxy.targets == ["server:4222", "other:4222"]

    simulated(test)


def test_what_the_server_says_glued_to_the_proxys_answer_is_not_lost() -> None:
    def test(proxy: Proxy, _server: ScriptedServer) -> None:
        proxy.answer = CONNECTED + b'INFO {"max_payload": 777}\r\nPONG\r\n'
        nc = nats_zio.connect("nats://server", proxy=proxy.url)
        assert nc.max_payload == 777
        nc.close()

    simulated(test)


def test_before_tls_nothing_may_be_glued_to_it(ca: Authority) -> None:
    """Anybody may have put it there."""

    def test(proxy: Proxy, _server: ScriptedServer) -> None:
        proxy.answer = CONNECTED + b"\x16\x03\x03 not the server's"
        error = failure("wss://server", proxy=proxy.url, tls=TLS(ca=ca.file))
        assert "in clear before the TLS handshake" in str(error)

    simulated(test)


# Credentials.


def test_the_credentials_are_decoded_and_sent_to_the_proxy_alone() -> None:
    password = secret("pass word:/@é")
    quoted = "".join(f"%{byte:02X}" for byte in password.encode())

    def test(proxy: Proxy, server: ScriptedServer) -> None:
        with nats_zio.connect("nats://server", proxy=f"http://us%20er:{quoted}@proxy:3128") as nc:
            nc.flush()
            expected = base64.b64encode(f"us er:{password}".encode()).decode()
            assert f"\r\nProxy-Authorization: Basic {expected}\r\n" in proxy.heads[0]
            assert expected.encode() not in proxy.carried
            assert b"Proxy" not in proxy.carried
            for text in (repr(nc), repr(nc.options), str(nc.servers), str(nc.connected_url)):
                assert password not in text
                assert quoted not in text
            assert server.clients

    simulated(test)


def test_without_credentials_none_are_sent() -> None:
    def test(proxy: Proxy, _server: ScriptedServer) -> None:
        with nats_zio.connect("nats://server", proxy=proxy.url):
            assert "Authorization" not in proxy.heads[0]

    simulated(test)


def test_a_user_without_a_password_has_an_empty_one() -> None:
    def test(proxy: Proxy, _server: ScriptedServer) -> None:
        with nats_zio.connect("nats://server", proxy="http://someone@proxy:3128"):
            assert f"Basic {base64.b64encode(b'someone:').decode()}\r\n" in proxy.heads[0]

    simulated(test)


# Answers.


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (407, "HTTP 407 (Proxy Authentication Required)"),
        (403, "HTTP 403 (Forbidden)"),
        (502, "HTTP 502 (Bad Gateway)"),
        (302, "HTTP 302 (Found)"),
        (100, "HTTP 100 (Continue)"),
        (599, "HTTP 599"),
    ],
)
def test_another_status_is_an_error_that_names_it_and_tells_nothing_else(status: int, words: str) -> None:
    password = secret()

    def test(proxy: Proxy, server: ScriptedServer) -> None:
        proxy.answer = f"HTTP/1.1 {status} No, {password}!\r\nX: {password}\r\n\r\n{password}".encode()
        error = failure("nats://server", proxy=f"http://user:{password}@proxy:3128")
        assert isinstance(error, ProxyError)
        assert isinstance(error, ConnectionError)
        assert error.status == status
        assert str(error) == f"the proxy http://proxy:3128 does not connect us to nats://server:4222: {words}"
        assert not server.clients

    simulated(test)


@pytest.mark.parametrize("answer", [b"HTTP/1.0 200\r\n\r\n", b"HTTP/1.1 204 \r\nA: b\r\n\r\n", CONNECTED])
def test_every_status_from_200_to_299_is_a_yes(answer: bytes) -> None:
    def test(proxy: Proxy, _server: ScriptedServer) -> None:
        proxy.answer = answer + b'INFO {"max_payload": 777}\r\nPONG\r\n'
        nats_zio.connect("nats://server", proxy=proxy.url).close()

    simulated(test)


@pytest.mark.parametrize(
    ("answer", "ends", "problem"),
    [
        (b"", True, "closed the connection instead of answering"),
        (b"HTTP/1.1 200 OK\r\n", True, "closed the connection instead of answering"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False, "an answer that is not HTTP/1"),
        (b"HTTP/2 200\r\n\r\n", False, "an answer that is not HTTP/1"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", False, "an answer that is not HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, False, "whose head does not end within 16384 bytes"),
    ],
)
def test_an_answer_that_is_none_is_an_error(answer: bytes, ends: bool, problem: str) -> None:
    def test(proxy: Proxy, _server: ScriptedServer) -> None:
        proxy.answer, proxy.ends = answer, ends
        error = failure("nats://server", proxy=proxy.url)
        assert isinstance(error, ProxyError)
        assert error.status is None
        assert str(error).startswith("the proxy http://proxy:3128 ")
        assert problem in str(error)

    simulated(test)


def test_an_answer_may_come_in_pieces_cut_at_any_byte() -> None:
    whole = CONNECTED + b'INFO {"max_payload": 777}\r\nPONG\r\n'

    def answering(listener: Any, cut: int) -> None:
        with listener.accept() as stream:
            stream.recv_until(b"\r\n\r\n", 1000)
            stream.send_all(whole[:cut])
            zio.sleep(0.1)
            stream.send_all(whole[cut:])
            with contextlib.suppress(OSError):
                while stream.recv(1000):
                    pass

    def main() -> None:
        with zio.net.listen("proxy", 1) as listener:
            for cut in range(len(whole) + 1):
                task = zio.spawn(answering, listener, cut)
                nats_zio.connect("nats://server", proxy="http://proxy:1").close()
                task.join()

    run_virtual(main, network=SimNetwork(1))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_a_silent_proxy_has_the_time_of_connect_timeout(answer: bytes) -> None:
    def test(proxy: Proxy, _server: ScriptedServer) -> None:
        proxy.answer = answer
        start = zio.now()
        error = failure("nats://server", proxy=proxy.url, connect_timeout=3)
        assert isinstance(error, nats_zio.TimeoutError)
        assert zio.now() - start == pytest.approx(3, abs=0.1)

    simulated(test)


def test_a_proxy_that_is_not_there_is_named() -> None:
    def test(proxy: Proxy, _server: ScriptedServer) -> None:
        proxy.listener.close()
        error = failure("nats://server", proxy=proxy.url)
        assert isinstance(error, ProxyError)
        assert str(error).startswith("the proxy http://proxy:3128 cannot be reached: ")
        assert "refused" in str(error)

    simulated(test)


def test_a_proxy_that_resets_the_connection_is_named() -> None:
    def test(_proxy: Proxy, _server: ScriptedServer) -> None:
        with zio.net.listen("other", 1) as listener:
            zio.spawn(lambda: listener.accept().connection.reset())
            error = failure("nats://server", proxy="http://other:1")
            assert isinstance(error, ProxyError)
            assert "the proxy http://other:1 broke the connection off" in str(error)

    simulated(test)


def test_a_server_behind_the_proxy_that_is_not_there_is_an_error_of_the_proxy(nats_server: NatsServer) -> None:
    def main() -> None:
        with Proxy() as proxy, socket.socket() as bound:  # which does not listen
            bound.bind(("127.0.0.1", 0))
            error = failure(f"nats://127.0.0.1:{bound.getsockname()[1]}", proxy=proxy.url)
            assert isinstance(error, OSError)

    zio.run(main)


# What is no proxy.


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://proxy:3128", "must be http://host:port, .*, not https://"),
        ("socks5://proxy:1080", "must be http://host:port, .*, not socks5://"),
        ("proxy:3128", "must be http://host:port"),
        ("http://", "must be http://host:port"),
        ("http://:3128", "must be http://host:port"),
        ("http://proxy:0", "must be http://host:port"),
        ("http://proxy:99999", "must be http://host:port"),
        ("http://proxy:3128/path", "must be http://host:port"),
        ("http://proxy:3128?x=y", "must be http://host:port"),
        ("http://proxy:3128#x", "must be http://host:port"),
        ("http://[::1", "must be http://host:port"),
        ("http://proxy :3128", "spaces and control characters"),
        ("http://proxy:3128\r\n", "spaces and control characters"),
        ("http://us%3Aer:x@proxy:3128", "no colon in the name of a user"),
        ("", "must be http://host:port"),
        (5, "proxy must be a URL or a function, not int"),
    ],
)
def test_what_is_no_url_of_an_http_proxy_is_refused_before_anything_is_opened(url: Any, problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        nats_zio.connect("nats://127.0.0.1:1", proxy=url)


@pytest.mark.parametrize(
    "form",
    ["https://user:{}@proxy:1", "user:{}@proxy:1", "http://us:er:{}@proxy:x", "http://user:{}/@proxy:1", "http://{}"],
)
def test_a_wrong_url_is_not_shown(form: str) -> None:
    password = secret()
    record(password)
    with pytest.raises(OptionError) as caught:
        nats_zio.connect("nats://127.0.0.1:1", proxy=form.format(password) + "\x01")
    assert not re.search(password, str(caught.value), re.IGNORECASE)


def test_for_unix_sockets_alone_a_proxy_is_a_mistake() -> None:
    with pytest.raises(OptionError, match="proxy is for servers reached by TCP, and none is given"):
        nats_zio.connect("unix:///nowhere", proxy="http://proxy:1")


# Another way to connect.


def test_a_function_may_connect(run: Run, nats_server: NatsServer) -> None:
    asked: list[tuple[str, int]] = []

    def dial(host: str, port: int) -> zio.net.Stream:
        asked.append((host, port))
        return zio.net.connect("127.0.0.1", nats_server.port)

    def main() -> None:
        with nats_zio.connect("nats://any.where:1234", proxy=dial, **FAST) as nc:
            works(nc, "proxy.function")
            seen = nc.events()
            nc.force_reconnect()
            next_event(seen, Reconnected)
            assert asked == [("any.where", 1234)] * 2

    run(main)


def test_tls_and_websocket_go_over_what_the_function_returns(ca: Authority) -> None:
    files = ca.issue("any.where")

    def main(url: str) -> None:
        port = int(url.rpartition(":")[2])
        with nats_zio.connect(
            "wss://any.where", tls=TLS(ca=ca.file), proxy=lambda _host, _port: zio.net.connect("127.0.0.1", port)
        ) as nc:
            works(nc, "a")

    with websocket_server(tls=ca.config(files=files).strip()) as (_, url):
        zio.run(main, url)


def test_what_the_function_returns_must_be_a_stream() -> None:
    def test(_proxy: Proxy, _server: ScriptedServer) -> None:
        error = failure("nats://server", proxy=lambda host, port: [host, port])
        assert isinstance(error, OptionError)
        assert "proxy= returned list, not a zio.net.Stream" in str(error)

    simulated(test)


def test_an_error_of_the_function_is_why_the_server_is_not_reached() -> None:
    def broken(_host: str, _port: int) -> zio.net.Stream:
        raise PermissionError("not today")

    def test(_proxy: Proxy, _server: ScriptedServer) -> None:
        error = failure("nats://server", proxy=broken)
        assert isinstance(error, PermissionError)

    simulated(test)


def test_the_function_has_the_time_of_connect_timeout() -> None:
    def test(_proxy: Proxy, _server: ScriptedServer) -> None:
        error = failure("nats://server", proxy=lambda _host, _port: zio.sleep(3600), connect_timeout=2)
        assert isinstance(error, nats_zio.TimeoutError)

    simulated(test)


def test_what_a_dialer_raises_keeps_its_own_cause() -> None:
    def dial(host: str, port: int) -> Any:
        raise ConnectionError("no way") from KeyError("the reason")

    def main() -> None:
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect("nats://any.where", proxy=dial)
        (error,) = caught.value.errors.values()
        assert isinstance(error.__cause__, KeyError)

    zio.run(main)
