"""Names with several addresses (RFC 8305), in virtual time: which are tried, when, and what becomes of the losers."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

import zio
from zio.net.connecting import interleaved
from zio.testing import SimNetwork, memory_stream_pair, run_virtual

T = TypeVar("T")

SIX = [f"2001:db8::{number}" for number in range(1, 4)]
FOUR = [f"192.0.2.{number}" for number in range(1, 4)]


class Site(SimNetwork):
    """Hosts that do not answer, but for those that ``up`` names. ``tried`` is who was asked, and when."""

    def __init__(self, *addresses: str) -> None:
        super().__init__(1, latency=0.0)
        self.name("site", *addresses)
        self.tried: list[tuple[float, str]] = []
        for address in addresses:
            self.host(address).connects = "drop"

    def connect(self, host: str, port: int) -> zio.testing.SimStream:
        self.tried.append((round(zio.now() - self.start, 6), host))
        return super().connect(host, port)

    def up(self, address: str, delay: float = 0.0) -> None:
        self.host(address).connects = "accept"
        self.host(address).connect_delay = delay
        if (address, 80) not in self._listeners:
            zio.net.listen(address, 80)

    def down(self, address: str, delay: float = 0.0) -> None:
        self.host(address).connects = "refuse"
        self.host(address).connect_delay = delay

    def run(self, test: Callable[[], T]) -> T:
        def main() -> T:
            self.start = zio.now()
            return test()

        return run_virtual(main, network=self)

    def took(self) -> float:
        return round(zio.now() - self.start, 6)


def test_families_take_turns_in_the_order_in_which_the_system_has_them() -> None:
    def found(*numbers: str) -> list[tuple[int, tuple[str, int]]]:
        return [(socket.AF_INET6 if ":" in number else socket.AF_INET, (number, 80)) for number in numbers]

    assert [a[0] for a in interleaved(found(*SIX, *FOUR))] == [SIX[0], FOUR[0], SIX[1], FOUR[1], SIX[2], FOUR[2]]
    assert [a[0] for a in interleaved(found(*FOUR[:1], *SIX))] == [FOUR[0], *SIX]
    assert [a[0] for a in interleaved(found(*FOUR))] == FOUR
    assert interleaved([]) == []


def test_each_attempt_has_a_quarter_of_a_second_before_the_next_begins_beside_it() -> None:
    site = Site(*SIX[:2], *FOUR[:2])

    def test() -> None:
        site.up(FOUR[1])
        with zio.net.connect("site", 80):
            assert site.took() == 0.75

    site.run(test)
    assert site.tried == [(0.0, SIX[0]), (0.25, FOUR[0]), (0.5, SIX[1]), (0.75, FOUR[1])]


def test_the_first_address_has_no_rival_while_it_answers_in_time() -> None:
    site = Site(SIX[0], FOUR[0])

    def test() -> None:
        site.up(SIX[0], 0.2)
        site.up(FOUR[0])
        with zio.net.connect("site", 80):
            assert site.took() == 0.2

    site.run(test)
    assert site.tried == [(0.0, SIX[0])]


def test_a_slow_first_address_wins_if_the_second_is_slower_still() -> None:
    site = Site(SIX[0], FOUR[0])

    def test() -> str:
        site.up(SIX[0], 0.3)
        site.up(FOUR[0], 10.0)
        with zio.net.connect("site", 80) as stream:
            assert site.took() == 0.3
            assert isinstance(stream, zio.testing.SimStream)
            return stream.connection.target

    assert site.run(test) == SIX[0]
    assert site.tried == [(0.0, SIX[0]), (0.25, FOUR[0])]


def test_a_refusal_starts_the_next_attempt_at_once() -> None:
    site = Site(SIX[0], FOUR[0])

    def test() -> None:
        site.down(SIX[0], 0.1)
        site.up(FOUR[0])
        with zio.net.connect("site", 80):
            assert site.took() == 0.1

    site.run(test)
    assert site.tried == [(0.0, SIX[0]), (0.1, FOUR[0])]


def test_the_refusal_of_an_earlier_attempt_does_not_hurry_the_next() -> None:
    site = Site(SIX[0], FOUR[0], SIX[1])

    def test() -> None:
        site.down(SIX[0], 0.3)
        site.up(SIX[1])
        zio.net.connect("site", 80).close()

    site.run(test)
    assert site.tried == [(0.0, SIX[0]), (0.25, FOUR[0]), (0.5, SIX[1])]


def test_the_losers_are_closed() -> None:
    site = Site(*SIX, *FOUR)

    def test() -> None:
        site.up(SIX[0], 0.26)
        site.up(FOUR[0], 0.02)
        stream = zio.net.connect("site", 80)
        assert isinstance(stream, zio.testing.SimStream)
        assert [connection.client for connection in site.connections if not connection.client.closed] == [stream]

    site.run(test)


class Gated(SimNetwork):
    """Connections are there when ``gate`` is set; ``lingering`` seconds pass until an attempt has ended in vain."""

    def __init__(self, lingering: float = 0.0) -> None:
        super().__init__(1)
        self.name("site", "a", "b")
        self.gate = zio.Event()
        self.streams: list[zio.testing.SimStream] = []
        self._lingering = lingering

    def connect(self, host: str, port: int) -> zio.testing.SimStream:
        try:
            if self._lingering and host == "a":
                zio.sleep(3600)
            self.gate.wait()
        except zio.Cancelled:
            with zio.shield():
                zio.sleep(self._lingering)
            raise
        self.streams.append(memory_stream_pair()[0])
        return self.streams[-1]


def test_of_two_that_answer_in_the_same_tick_one_is_closed() -> None:
    network = Gated()

    def main() -> None:
        connecting = zio.spawn(zio.net.connect, "site", 80)
        zio.sleep(1)
        network.gate.set()
        stream = connecting.join()
        assert len(network.streams) == 2
        assert [other for other in network.streams if not other.closed] == [stream]

    run_virtual(main, network=network)


def test_a_cancel_while_the_losers_end_closes_the_winner() -> None:
    network = Gated(lingering=5.0)

    def main() -> None:
        connecting = zio.spawn(zio.net.connect, "site", 80)
        zio.sleep(1)
        network.gate.set()
        zio.sleep(1)
        assert not connecting.done
        connecting.cancel()
        with pytest.raises(zio.Cancelled):
            connecting.join()
        assert [stream.closed for stream in network.streams] == [True]

    run_virtual(main, network=network)


def test_if_none_accepts_the_error_names_all_and_is_of_the_kind_they_had() -> None:
    site = Site(SIX[0], FOUR[0])

    def test() -> None:
        for address in (SIX[0], FOUR[0]):
            site.down(address)
        with pytest.raises(ConnectionRefusedError) as caught:
            zio.net.connect("site", 80)
        assert caught.value.errno == errno.ECONNREFUSED
        assert all(part in str(caught.value) for part in ("site:80", SIX[0], FOUR[0]))

    site.run(test)


def test_errors_of_different_kinds_are_an_oserror_that_tells_all() -> None:
    site = Site(SIX[0], FOUR[0])

    def test() -> None:
        site.down(SIX[0])
        with pytest.raises(OSError, match=rf"refused.*{SIX[0]}.*timed out.*{FOUR[0]}") as caught:
            zio.net.connect("site", 80)
        assert type(caught.value) is OSError

    site.run(test)


def test_an_only_address_raises_its_own_error() -> None:
    site = Site(FOUR[0])

    def test() -> None:
        site.down(FOUR[0])
        with pytest.raises(ConnectionRefusedError, match=rf"^\[Errno \d+\] Connection refused: {FOUR[0]}:80$"):
            zio.net.connect("site", 80)

    site.run(test)


def test_an_address_that_comes_twice_is_tried_once() -> None:
    site = Site(FOUR[0], FOUR[0], SIX[0], FOUR[0])

    def test() -> None:
        with pytest.raises(TimeoutError):
            zio.net.connect("site", 80, timeout=30)

    site.run(test)
    assert [address for _, address in site.tried] == [FOUR[0], SIX[0]]


def test_a_name_without_addresses_is_an_error() -> None:
    site = Site()

    def test() -> None:
        with pytest.raises(OSError, match="it has no address"):
            zio.net.connect("site", 80)

    site.run(test)


def test_a_timeout_ends_all_attempts() -> None:
    site = Site(*SIX, *FOUR)

    def test() -> None:
        with pytest.raises(TimeoutError):
            zio.net.connect("site", 80, timeout=0.6)
        assert site.took() == 0.6
        zio.sleep(600)

    site.run(test)
    assert len(site.tried) == 3


@pytest.mark.parametrize("moment", [0.1, 0.25, 0.3, 0.35, 0.4])
def test_a_cancel_at_any_moment_leaves_no_connection(moment: float) -> None:
    site = Site(SIX[0], FOUR[0])

    def test() -> None:
        site.up(SIX[0], 0.35)
        site.up(FOUR[0], 0.1)
        site.change_links(latency=0.01)
        connecting = zio.spawn(zio.net.connect, "site", 80)
        zio.sleep(moment)
        connecting.cancel()
        try:
            connecting.join().close()
        except zio.Cancelled:
            assert moment < 0.4
        zio.sleep(10)
        assert not site.connections or all(connection.client.closed for connection in site.connections)

    site.run(test)


def test_the_head_start_can_be_chosen() -> None:
    site = Site(*SIX[:2], FOUR[0])

    def test() -> None:
        site.up(SIX[1])
        zio.net.connect("site", 80, attempt_delay=2).close()

    site.run(test)
    assert site.tried == [(0.0, SIX[0]), (2.0, FOUR[0]), (4.0, SIX[1])]


@pytest.mark.parametrize("delay", [-1, float("nan")])
def test_a_head_start_is_a_number_of_seconds(delay: float) -> None:
    def main() -> None:
        with pytest.raises(ValueError, match="attempt_delay"):
            zio.net.connect("127.0.0.1", 80, attempt_delay=delay)

    zio.run(main)


def test_a_mistake_in_a_network_comes_out_bare() -> None:
    class Wrong(SimNetwork):
        def connect(self, host: str, port: int) -> zio.testing.SimStream:
            raise LookupError(host)

    network = Wrong(1)
    network.name("site", "a", "b")

    def main() -> None:
        with pytest.raises(LookupError, match="a"):
            zio.net.connect("site", 80)

    run_virtual(main, network=network)


def test_on_the_machine_an_address_that_refuses_is_followed_by_one_that_accepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host != "site":
            return real(host, port, *args, **kwargs)
        if kwargs.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def main() -> None:
        with (
            zio.net.listen("127.0.0.1", 0) as listener,
            zio.net.connect("site", listener.port) as stream,
            listener.accept() as other,
        ):
            other.send_all(b"hello")
            assert stream.recv_exactly(5) == b"hello"

    zio.run(main)
