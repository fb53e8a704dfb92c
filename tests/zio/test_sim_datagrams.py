"""Datagrams on a simulated network: bandwidth, loss, order, and who is told what, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import pytest

import zio
from zio.net import Datagram
from zio.testing import SimNetwork, run_virtual, wait_all_parked

T = TypeVar("T")


def run(network: SimNetwork, fn: Callable[[], T]) -> T:
    return run_virtual(fn, network=network)


def receive_all(sock: zio.net.DatagramSocket) -> list[tuple[float, bytes]]:
    """What comes until nothing has come for an hour, and when."""
    received: list[tuple[float, bytes]] = []
    with zio.move_on_after(3600):
        received.extend((round(zio.now(), 6), datagram.data) for datagram in sock)
    return received


def numbers(network: SimNetwork, count: int, size: int = 8, pause: float = 0.0) -> list[tuple[float, int]]:
    """So many datagrams are sent to a host; which arrive, and when."""

    def main() -> list[tuple[float, bytes]]:
        with zio.net.udp("host", 53) as host, zio.net.udp(remote=("host", 53)) as client:
            receiver = zio.spawn(receive_all, host)
            for number in range(count):
                client.send(b"%d" % number + b" " * size)
                if pause:
                    zio.sleep(pause)
            return receiver.join()

    return [(moment, int(data)) for moment, data in run(network, main)]


def test_a_datagram_arrives_whole_after_the_latency_with_its_sender() -> None:
    network = SimNetwork(1, latency=0.25)

    def main() -> None:
        with zio.net.udp("host", 53) as host, zio.net.udp() as client:
            client.send_to(b"question", ("host", 53))
            assert host.recv() == Datagram(b"question", ("local", client.port), False)
            assert zio.now() == 0.25
            host.send_to(b"answer", ("local", client.port))
            host.send_to(b"", ("local", client.port))
            assert client.recv(3) == Datagram(b"ans", ("host", 53), True)
            assert client.recv() == Datagram(b"", ("host", 53), False)
            assert zio.now() == 0.5

    run(network, main)


def test_bandwidth_is_how_long_each_takes_one_after_the_other() -> None:
    moments = [moment for moment, _ in numbers(SimNetwork(1, latency=0.0, bandwidth=1000), 5, size=99)]
    assert moments == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_what_the_way_has_no_room_for_is_dropped() -> None:
    network = SimNetwork(1, latency=0.0, bandwidth=1000, buffer=250)
    assert [number for _, number in numbers(network, 5, size=99)] == [0, 1]
    assert network.coverage()["datagram dropped: too many on the way"] == 3


def test_what_the_receiver_has_no_room_for_is_dropped() -> None:
    network = SimNetwork(1, latency=0.0, buffer=250)

    def main() -> None:
        with zio.net.udp("host", 53) as host, zio.net.udp(remote=("host", 53)) as client:
            for _ in range(2):
                for number in range(5):
                    client.send(b"%d" % number * 100)
                zio.sleep(1)
                assert [host.recv().data[:1] for _ in range(2)] == [b"0", b"1"]

    run(network, main)
    assert network.coverage()["datagram dropped: too many unread"] == 6


def test_so_many_are_lost_as_asked_for() -> None:
    network = SimNetwork(3, loss=0.25)
    arrived = [number for _, number in numbers(network, 1000, pause=0.01)]
    assert 650 < len(arrived) < 850
    assert arrived == sorted(arrived)
    assert network.coverage()["datagram lost"] == 1000 - len(arrived)


def test_so_many_come_twice_as_asked_for() -> None:
    arrived = [number for _, number in numbers(SimNetwork(3, duplicates=0.25), 1000, pause=0.01)]
    assert 1150 < len(arrived) < 1350
    assert sorted(set(arrived)) == list(range(1000))


def test_without_jitter_they_keep_their_order_and_with_it_they_overtake_each_other() -> None:
    def order(**link: Any) -> list[int]:
        return [number for _, number in numbers(SimNetwork(3, latency=0.01, **link), 200, pause=0.001)]

    assert order() == list(range(200))
    arrived = order(jitter=0.01)
    assert sorted(arrived) == list(range(200))
    assert sum(later < earlier for earlier, later in pairwise(arrived)) > 20


def test_a_seed_repeats_exactly() -> None:
    def once(seed: int) -> tuple[list[tuple[float, int]], list[Any]]:
        network = SimNetwork(seed, jitter=0.01, loss=0.1, duplicates=0.1, bandwidth=1e6)
        return numbers(network, 100, pause=0.001), network.journal

    assert once(5) == once(5)
    assert once(5)[0] != once(6)[0]


def test_a_partition_loses_them_for_good() -> None:
    network = SimNetwork(1)

    def main() -> list[bytes]:
        with zio.net.udp("host", 53) as host, zio.net.udp(remote=("host", 53)) as client:
            for data in (b"before", b"meanwhile", b"after"):
                if data == b"meanwhile":
                    network.partition("host")
                client.send(data)
                zio.sleep(1)
                network.heal()
            return [data for _, data in receive_all(host)]

    assert run(network, main) == [b"before", b"after"]


def test_who_is_connected_is_told_that_nobody_is_there_and_can_go_on() -> None:
    network = SimNetwork(1, latency=0.5)

    def main() -> None:
        with zio.net.udp(remote=("host", 53)) as client:
            client.send(b"question")
            with pytest.raises(ConnectionRefusedError, match="host:53"):
                client.recv()
            assert zio.now() == 1.0
            client.send(b"again")
            zio.sleep(2)
            with pytest.raises(ConnectionRefusedError):
                client.send(b"not sent")
            with zio.net.udp("host", 53) as host:
                client.send(b"now")
                assert host.recv().data == b"now"

    run(network, main)


@pytest.mark.parametrize("silent", ["not connected", "drop"])
def test_nobody_else_is_told(silent: str) -> None:
    network = SimNetwork(1)
    if silent == "drop":
        network.host("host").connects = "drop"

    def main() -> None:
        with zio.net.udp(remote=("host", 53) if silent == "drop" else None) as client:
            client.send(b"question") if silent == "drop" else client.send_to(b"question", ("host", 53))
            assert receive_all(client) == []

    run(network, main)


def test_who_is_connected_hears_its_peer_alone() -> None:
    network = SimNetwork(1)
    network.alias("name", "host")

    def main() -> None:
        with (
            zio.net.udp("host", 53) as host,
            zio.net.udp("stranger", 1) as stranger,
            zio.net.udp(remote=("name", 53)) as client,
        ):
            stranger.send_to(b"lie", ("local", client.port))
            host.send_to(b"truth", ("local", client.port))
            assert [data for _, data in receive_all(client)] == [b"truth"]

    run(network, main)


def test_an_address_is_bound_once_and_free_after_the_close() -> None:
    network = SimNetwork(1)

    def main() -> None:
        with zio.net.udp("host", 53), pytest.raises(OSError, match="in use: host:53"):
            zio.net.udp("host", 53)
        with zio.net.udp("host", 53), zio.net.udp("other", 53), zio.net.udp("host") as free:
            assert free.port not in {0, 53}

    run(network, main)


def test_mistakes_are_told_as_the_system_tells_them() -> None:
    network = SimNetwork(1)

    def main() -> None:
        sock = zio.net.udp()
        with pytest.raises(OSError, match="estination"):
            sock.send(b"data")
        with pytest.raises(OSError, match="65508 bytes"):
            sock.send_to(b"x" * 65508, ("host", 53))
        with pytest.raises(ValueError, match="max_bytes"):
            sock.recv(-1)
        reader = zio.spawn(sock.recv, name="the first")
        wait_all_parked()
        with pytest.raises(zio.Busy, match="the first"):
            sock.recv()
        sock.close()
        with pytest.raises(zio.Closed):
            reader.join()
        for call in (sock.recv, lambda: sock.send_to(b"data", ("host", 53))):
            with pytest.raises(zio.Closed):
                call()

    run(network, main)


def test_what_was_received_is_readable_before_an_error_is_told() -> None:
    network = SimNetwork(1)

    def main() -> None:
        with zio.net.udp(remote=("host", 53)) as client:
            with zio.net.udp("host", 53) as host:
                host.send_to(b"last words", ("local", client.port))
            client.send(b"too late")
            zio.sleep(1)
            assert client.recv().data == b"last words"
            with pytest.raises(ConnectionRefusedError):
                client.recv()

    run(network, main)


def test_it_belongs_to_tasks_of_its_runtime() -> None:
    def main() -> None:
        with zio.net.udp("host", 53) as sock:
            with pytest.raises(RuntimeError, match=r"zio\.run"):
                zio.to_thread(sock.recv)
            with pytest.raises(zio.WrongLoop):
                zio.to_thread(lambda: zio.run(sock.recv))

    run(SimNetwork(1), main)
