"""A host name with several addresses (ADR-11): each is tried before the host counts as failed."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import ProxyError
from nats_zio.events import Reconnected
from nats_zio.testing import NatsServer, ScriptedServer
from nats_zio.transport import addresses
from tests.client.helpers import next_event
from zio.testing import SimNetwork, run_virtual

Run = Callable[..., Any]

HOSTS = ("a", "b", "c")


def simulated(test: Callable[[SimNetwork], Any], *, up: tuple[str, ...] = HOSTS, seed: int = 1) -> Any:
    """Run `test(network)` where the name "cluster" has the addresses of a, b and c; there is a server on those `up`."""
    network = SimNetwork(seed)
    network.name("cluster", *HOSTS)

    def main() -> Any:
        with contextlib.ExitStack() as stack:
            for host in up:
                stack.enter_context(ScriptedServer(host, 4222))
            result = test(network)
            zio.sleep(60)
            assert not network.connections, "connections are left"
        return result

    return run_virtual(main, network=network, seed=seed)


def target(network: SimNetwork) -> str:
    """Which address the only connection goes to."""
    (connection,) = network.connections
    return connection.target


def tried(network: SimNetwork) -> list[str]:
    """The addresses that were connected to, in order."""
    marks = ("connect unanswered", "refused", "connected")
    found = [entry.where.rpartition(">")[2].partition(":")[0] for entry in network.journal if entry.what in marks]
    return list(dict.fromkeys(found))


# The order.


def test_clients_spread_over_the_addresses() -> None:
    def test(network: SimNetwork) -> Counter[str]:
        taken: Counter[str] = Counter()
        for _ in range(60):
            with nats_zio.connect("nats://cluster"):
                taken[target(network)] += 1
        return taken

    taken = simulated(test)
    assert set(taken) == set(HOSTS)
    assert min(taken.values()) >= 8


def test_with_no_randomize_the_order_is_that_of_the_resolver() -> None:
    def test(network: SimNetwork) -> None:
        for _ in range(20):
            with nats_zio.connect("nats://cluster", no_randomize=True):
                assert target(network) == "a"

    simulated(test)


def test_the_url_is_the_name_whichever_address_is_taken() -> None:
    def test(_network: SimNetwork) -> None:
        with nats_zio.connect("nats://cluster") as nc:
            assert nc.connected_url == "nats://cluster:4222"
            assert nc.servers == ["nats://cluster:4222"]

    simulated(test)


# Addresses that do not work.


@pytest.mark.parametrize("how", ["refuse", "drop"])
def test_each_address_is_tried_before_the_host_has_failed(how: Any) -> None:
    def test(network: SimNetwork) -> None:
        network.host("a").connects = network.host("b").connects = how
        with nats_zio.connect("nats://cluster", no_randomize=True):
            assert target(network) == "c"
        assert tried(network) == ["a", "b", "c"]

    simulated(test)


def test_an_address_named_twice_is_tried_once() -> None:
    def test(network: SimNetwork) -> None:
        network.name("cluster", "a", "a", "b", "a")
        network.host("a").connects = "refuse"
        with nats_zio.connect("nats://cluster", no_randomize=True):
            assert target(network) == "b"
        assert [entry.what for entry in network.journal].count("refused") == 1

    simulated(test)


def test_one_that_does_not_answer_has_its_share_of_the_time_and_no_more() -> None:
    def test(network: SimNetwork) -> None:
        network.host("a").connects = "drop"
        start = zio.now()
        with nats_zio.connect("nats://cluster", no_randomize=True, connect_timeout=6):
            assert zio.now() - start == pytest.approx(2, abs=0.1)
            assert target(network) == "b"

    simulated(test)


def test_the_last_has_all_the_time_that_is_left() -> None:
    def test(network: SimNetwork) -> None:
        network.host("a").connects = "refuse"
        network.host("b").connects = "drop"
        network.host("c").connect_delay = 2.5
        start = zio.now()
        with nats_zio.connect("nats://cluster", no_randomize=True, connect_timeout=6):
            assert zio.now() - start == pytest.approx(3 + 2.5, abs=0.1)
            assert target(network) == "c"

    simulated(test)


def test_a_name_with_one_address_has_all_the_time() -> None:
    def test(network: SimNetwork) -> None:
        network.host("a").connect_delay = 5.5
        with nats_zio.connect("nats://a", connect_timeout=6):
            assert target(network) == "a"

    simulated(test)


def test_none_that_answers_uses_up_the_time_of_connect_timeout_and_leaves_nothing() -> None:
    def test(network: SimNetwork) -> None:
        for host in HOSTS:
            network.host(host).connects = "drop"
        start = zio.now()
        with pytest.raises(nats_zio.NoServersError, match="did not complete the handshake within 6 s"):
            nats_zio.connect("nats://cluster", connect_timeout=6)
        assert zio.now() - start == pytest.approx(6, abs=0.1)
        assert sorted(tried(network)) == list(HOSTS)

    simulated(test)


def test_the_error_names_what_each_address_said() -> None:
    def test(network: SimNetwork) -> None:
        network.host("b").connects = "drop"
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect("nats://cluster", no_randomize=True)
        (error,) = caught.value.errors.values()
        assert isinstance(error, OSError)
        assert str(error) == (
            "cannot connect to any address of cluster:4222: [Errno 111] Connection refused: a:4222; "
            "no answer in time: connecting to b; [Errno 111] Connection refused: c:4222"
        )

    simulated(test, up=())


def test_a_single_address_that_refuses_is_the_error_itself() -> None:
    def test(_network: SimNetwork) -> None:
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect("nats://a")
        (error,) = caught.value.errors.values()
        assert isinstance(error, ConnectionRefusedError)

    simulated(test, up=())


def test_a_host_whose_addresses_all_fail_is_one_failure_and_the_next_host_is_tried() -> None:
    def test(network: SimNetwork) -> None:
        for host in ("a", "b"):
            network.host(host).connects = "refuse"
        network.name("cluster", "a", "b")
        with nats_zio.connect("nats://cluster,nats://c", no_randomize=True, max_reconnect_attempts=1) as nc:
            assert nc.connected_url == "nats://c:4222"

    simulated(test)


def test_a_reconnect_goes_to_another_address() -> None:
    def test(network: SimNetwork) -> None:
        with nats_zio.connect("nats://cluster", no_randomize=True) as nc:
            seen = nc.events()
            network.host("a").connects = "refuse"
            network.connections[0].reset()
            next_event(seen, Reconnected)
            assert target(network) == "b"

    simulated(test)


def test_cancelled_while_one_does_not_answer_the_others_are_not_tried() -> None:
    def test(network: SimNetwork) -> None:
        for host in HOSTS:
            network.host(host).connects = "drop"
        with zio.move_on_after(1) as scope:
            nats_zio.connect("nats://cluster", no_randomize=True, connect_timeout=60)
        assert scope.expired
        assert tried(network) == ["a"]

    simulated(test)


def test_a_proxy_with_several_addresses_is_tried_the_same_way() -> None:
    def test(network: SimNetwork) -> None:
        network.host("a").connects = network.host("b").connects = "refuse"
        with pytest.raises(nats_zio.NoServersError) as caught:
            nats_zio.connect("nats://server", proxy="http://cluster:4222", no_randomize=True)
        (error,) = caught.value.errors.values()
        assert isinstance(error, ProxyError)
        assert "cannot be reached" not in str(error)  # what answers is no proxy
        assert tried(network) == ["a", "b", "c"]

    simulated(test)


# On the machine's network.


def several(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    """The name "several.example" has these addresses."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "several.example":
            return resolve(host, port, *args, **kwargs)
        if kwargs.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        return [answer for address in found for answer in resolve(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_addresses_of_both_families_are_tried(
    run: Run, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(monkeypatch, "::1", "127.0.0.2", "127.0.0.1", "127.0.0.1")

    def main() -> None:
        url = f"nats://several.example:{nats_server.port}"
        for _ in range(5):
            with nats_zio.connect(url) as nc:
                nc.flush()
                assert nc.connected_url == url

    run(main)


def test_the_address_of_a_local_link_keeps_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the system does not know where to."""
    asked: list[str] = []
    scoped = [(socket.AF_INET6, ("fe80::1", 1, 0, 7)), (socket.AF_INET6, ("fe80::2%eth0", 1, 0, 2))]
    monkeypatch.setattr(zio.net, "resolve", lambda host, port: scoped)

    def connect(host: str, port: int, timeout: float | None = None) -> Any:
        asked.append(host)
        raise OSError("no")

    monkeypatch.setattr(zio.net, "connect", connect)
    with pytest.raises(OSError, match="any address"):
        zio.run(lambda: addresses.connect("host", 1, deadline=zio.now() + 1, shuffle=None))
    assert asked == ["fe80::1%7", "fe80::2%eth0"]


def test_small_messages_go_out_at_once(run: Run, nats_server: NatsServer) -> None:
    """No waiting for more of them (TCP_NODELAY)."""

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            connection = nc._core.session.connection
            assert connection is not None
            assert isinstance(connection.stream, zio.net.SocketStream)
            assert connection.stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main)
