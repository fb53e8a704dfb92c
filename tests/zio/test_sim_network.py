"""The simulated network: what it carries, what goes wrong on it, and that it can be repeated."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import zio
from tests.zio.helpers_tls import CLIENT, NAME, SERVER
from zio.testing import MemoryNetwork, SimNetwork, SimStream, memory_stream_pair, run_virtual, wait_all_parked
from zio.testing.sim import Connection

PORT = 4222


def linked(network: SimNetwork, test: Callable[[Any, Any, Connection], Any], host: str = "s1") -> Any:
    """Run `test` with both ends of a connection from `local` to `host`, and the connection."""

    def main() -> Any:
        with zio.net.listen(host, PORT) as listener, zio.net.connect(host, PORT) as ours, listener.accept() as theirs:
            assert isinstance(ours, SimStream)
            return test(ours, theirs, ours.connection)

    return run_virtual(main, network=network, seed=1)


def read_all(stream: Any) -> bytes:
    data = b""
    while more := stream.recv(65536):
        data += more
    return data


# What it carries.


def test_bytes_arrive_in_order_after_the_latency_of_their_way() -> None:
    network = SimNetwork(1, latency=0.010)
    network.link("s1", "local").latency = 0.030

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        start = zio.now()
        ours.send_all(b"one ")
        ours.send_all(b"two")
        assert theirs.recv_exactly(7) == b"one two"
        assert zio.now() - start == pytest.approx(0.010)
        theirs.send_all(b"three")
        assert ours.recv(100) == b"three"
        assert zio.now() - start == pytest.approx(0.040)
        assert (connection.up.sent, connection.up.delivered, connection.down.delivered) == (7, 7, 5)

    linked(network, test)


def test_connecting_takes_a_round_trip_and_the_delay_of_the_host() -> None:
    network = SimNetwork(1, latency=0.010)
    network.host("s1").connect_delay = 2.0
    assert linked(network, lambda *_: zio.now()) == pytest.approx(2.020)


def test_jitter_never_lets_bytes_overtake_each_other() -> None:
    network = SimNetwork(3, latency=0.001, jitter=0.5)
    sent = bytes(range(200))

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        arrivals = set()

        def send() -> None:
            for byte in sent:
                ours.send_all(bytes([byte]))
                zio.sleep(0.001)
            ours.shutdown_write()

        zio.spawn(send)
        received = b""
        while data := theirs.recv(65536):
            received += data
            arrivals.add(zio.now())
        assert received == sent
        assert len(arrivals) > 3  # not at fixed distances

    linked(network, test)


def test_bandwidth_is_how_long_bytes_take() -> None:
    network = SimNetwork(1, latency=0.0, bandwidth=1000.0, buffer=1 << 20)

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        start = zio.now()
        ours.send_all(b"x" * 5000)
        theirs.recv_exactly(5000)
        assert zio.now() - start == pytest.approx(5.0)

    linked(network, test)


def test_the_buffer_bounds_what_is_under_way_and_not_read() -> None:
    network = SimNetwork(1, buffer=1000)

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        assert ours.send_some(b"x" * 5000) == 1000
        zio.sleep(1)
        assert ours.send_some(b"x") == 0
        waiting = zio.spawn(ours.wait_writable)
        wait_all_parked()
        assert not waiting.done
        assert len(theirs.recv(10)) == 10
        waiting.join(timeout=1)
        assert ours.send_some(b"x" * 100) == 10
        sending = zio.spawn(ours.send_all, bytearray(b"y" * 10_000))
        assert len(theirs.recv_exactly(11_000)) == 11_000
        sending.join()

    linked(network, test)


@pytest.mark.parametrize("seed", range(5))
def test_split_reads_and_writes_change_no_byte(seed: int) -> None:
    network = SimNetwork(seed, latency=0.001, split_reads=0.7, split_writes=0.7, buffer=500)
    data = bytes(i * 7 % 251 for i in range(20_000))

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        def send() -> None:
            ours.send_all(data)
            ours.shutdown_write()

        zio.spawn(send)
        assert read_all(theirs) == data

    linked(network, test)
    assert network.coverage()["read split"] > 20
    assert network.coverage()["write split"] > 20


def test_every_split_of_a_read_can_happen() -> None:
    network = SimNetwork(1, split_reads=0.9)

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        sizes = set()
        for _ in range(300):
            ours.send_all(b"12345")
            zio.sleep(1)
            sizes.add(len(theirs.recv(100)))
            while connection.up.unread:
                theirs.recv(100)
        assert sizes == {1, 2, 3, 4, 5}

    linked(network, test)


def test_recv_into_fills_what_it_is_given() -> None:
    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        ours.send_all(b"123456")
        buffer = bytearray(4)
        assert theirs.recv_into(buffer) == 4
        assert theirs.recv_into(memoryview(buffer)[2:]) == 2
        assert buffer == b"1256"
        ours.close()
        assert theirs.recv_into(buffer) == 0

    linked(SimNetwork(1), test)


# Ends.


def test_a_graceful_end_comes_behind_the_data_and_the_other_way_stays_open() -> None:
    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        ours.send_all(b"last")
        ours.shutdown_write()
        with pytest.raises(BrokenPipeError):
            ours.send_all(b"more")
        assert read_all(theirs) == b"last"
        assert theirs.recv(1) == b""
        theirs.send_all(b"answer")
        theirs.close()
        assert read_all(ours) == b"answer"
        assert connection.open

    linked(SimNetwork(1), test)


def test_closing_with_unread_bytes_resets_the_connection() -> None:
    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        ours.send_all(b"never read")
        zio.sleep(1)
        theirs.send_all(b"")
        theirs.close()
        with pytest.raises(ConnectionResetError):
            ours.recv(100)
        assert not connection.open

    linked(SimNetwork(1), test)


def test_bytes_for_a_closed_stream_come_back_as_a_reset() -> None:
    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        theirs.close()
        assert ours.recv(1) == b""
        ours.send_all(b"hello?")
        zio.sleep(1)
        with pytest.raises(ConnectionResetError):
            ours.send_all(b"hello?")
        with pytest.raises(ConnectionResetError):
            ours.recv(1)

    linked(SimNetwork(1), test)


def test_close_wakes_who_waits_in_the_stream() -> None:
    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        def closed(call: Callable[[], object]) -> None:
            with pytest.raises(zio.Closed):
                call()

        while ours.send_some(b"x" * 65536):
            pass
        with zio.TaskGroup() as group:
            group.spawn(closed, lambda: ours.recv(1))
            group.spawn(closed, ours.wait_writable)
            wait_all_parked()
            ours.close()
            ours.close()
        for call in (lambda: ours.recv(1), lambda: ours.send_all(b"x"), lambda: ours.send_some(b"x")):
            closed(call)
        closed(ours.shutdown_write)

    linked(SimNetwork(1), test)


def test_two_readers_or_writers_are_an_error() -> None:
    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        reader = zio.spawn(theirs.recv, 1)
        while ours.send_some(b"x" * 65536):
            pass
        writer = zio.spawn(ours.send_all, b"x")
        wait_all_parked()
        with pytest.raises(zio.Busy):
            ours.send_all(b"y")
        with pytest.raises(zio.Busy):
            ours.wait_writable()
        reader.join()
        reader = zio.spawn(ours.recv, 1)
        wait_all_parked()
        with pytest.raises(zio.Busy):
            ours.recv(1)
        reader.cancel()
        theirs.recv_exactly(65536)
        writer.join()

    linked(SimNetwork(1), test)


# Faults.


@pytest.mark.parametrize("at", [1, 2, 5, 9, 10])
def test_a_reset_at_a_byte_lets_exactly_the_bytes_before_it_through(at: int) -> None:
    for seed in range(4):  # the bytes before may be lost as well when nobody was waiting for them

        def test(ours: Any, theirs: Any, connection: Connection) -> None:
            connection.up.reset_at(at)
            reader = zio.spawn(lambda: theirs.recv(100))
            wait_all_parked()
            ours.send_all(b"0123456789")
            zio.sleep(1)
            assert connection.up.delivered == at
            with pytest.raises(ConnectionResetError):
                ours.recv(1)
            with pytest.raises(ConnectionResetError):
                ours.send_all(b"x")
            try:
                assert reader.join() == b"0123456789"[:at]
            except ConnectionResetError:
                pass
            with pytest.raises(ConnectionResetError):
                theirs.recv(1)
            assert not connection.open

        linked(SimNetwork(seed), test)


def test_random_resets_come_as_often_as_asked_for() -> None:
    network = SimNetwork(1, reset_every=10_000)

    def main() -> int:
        def serve(listener: Any) -> None:
            for stream in listener:
                zio.spawn(take, stream)

        def take(stream: Any) -> None:
            with stream:
                try:
                    read_all(stream)
                except ConnectionResetError:
                    return

        connections = total = 0
        with zio.net.listen("s1", PORT) as listener:
            server = zio.spawn(serve, listener)
            while total < 1_000_000:
                connections += 1
                with zio.net.connect("s1", PORT) as stream:
                    try:
                        while total < 1_000_000:
                            stream.send_all(b"x" * 500)
                            total += 500
                            zio.sleep(0.01)
                    except ConnectionResetError:
                        continue
            server.cancel()
        return connections

    assert 60 < run_virtual(main, network=network) < 160


def test_a_half_open_link_loses_bytes_without_a_word_until_the_buffer_is_full() -> None:
    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        connection.vanish()
        ours.send_all(b"x" * 1000)
        theirs.shutdown_write()
        for stream in (ours, theirs):
            with pytest.raises(TimeoutError), zio.timeout(3600):
                stream.recv(1)
        assert ours.send_some(b"x" * 1000) == 24
        assert ours.send_some(b"x") == 0
        ours.close()
        with pytest.raises(TimeoutError), zio.timeout(3600):
            theirs.recv(1)
        assert connection.open

    linked(SimNetwork(1, buffer=1024), test)


def test_one_way_of_a_link_can_vanish_alone() -> None:
    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        connection.up.vanish()
        ours.send_all(b"lost")
        theirs.send_all(b"heard")
        assert ours.recv(100) == b"heard"
        with pytest.raises(TimeoutError), zio.timeout(10):
            theirs.recv(1)

    linked(SimNetwork(1), test)


def test_allow_lets_a_writer_have_so_many_bytes_more() -> None:
    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        connection.up.allow(3)
        assert ours.send_some(b"12345") == 3
        assert ours.send_some(b"45") == 0
        sending = zio.spawn(ours.send_all, b"45")
        zio.sleep(60)
        assert not sending.done
        connection.up.allow(None)
        assert theirs.recv_exactly(5) == b"12345"
        sending.join()

    linked(SimNetwork(1), test)


def test_a_tap_sees_every_byte_before_it_travels_and_may_stop_the_writer_at_one() -> None:
    network = SimNetwork(1, latency=1.0, split_writes=0.5, buffer=7)
    seen: list[tuple[float, bytes]] = []

    def tap(data: bytes) -> int | None:
        seen.append((zio.now(), data))
        stop = b"".join(part for _, part in seen).find(b"!")
        return None if stop < 0 else len(data) - (sum(len(part) for _, part in seen) - stop)

    def attach(connection: Connection) -> None:
        connection.up.tap = tap

    network.on_connect = attach

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        sending = zio.spawn(ours.send_all, b"twenty five letters, then!and no more")
        start = zio.now()
        assert theirs.recv_exactly(25) == b"twenty five letters, then"
        assert seen[0][0] == start
        zio.sleep(10)
        assert connection.up.sent == 25
        assert not sending.done
        connection.up.tap = None
        connection.up.allow(None)
        assert theirs.recv_exactly(12) == b"!and no more"
        sending.join()

    linked(network, test)
    assert len(seen) > 3


def test_a_partition_holds_everything_back_until_it_heals() -> None:
    network = SimNetwork(1, latency=0.01)

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        network.partition("s1")
        ours.send_all(b"held ")
        ours.send_all(b"back")
        ours.shutdown_write()
        with pytest.raises(TimeoutError), zio.timeout(100):
            theirs.recv(1)
        start = zio.now()
        network.heal()
        assert read_all(theirs) == b"held back"
        assert zio.now() - start == pytest.approx(0.01)

    linked(network, test)


def test_a_partition_cuts_named_hosts_only_and_new_connections_wait_for_its_end() -> None:
    network = SimNetwork(1)
    network.alias("s2.from.s1", "s2", source="s1")

    def main() -> None:
        with zio.net.listen("s1", PORT) as one, zio.net.listen("s2", PORT) as two:
            network.partition("s1", "s2")
            zio.net.connect("s1", PORT, timeout=1).close()
            zio.net.connect("s2", PORT, timeout=1).close()
            with pytest.raises(TimeoutError):
                zio.net.connect("s2.from.s1", PORT, timeout=10)

            def later() -> None:
                zio.sleep(10)
                network.heal()

            zio.spawn(later)
            start = zio.now()
            with zio.net.connect("s2.from.s1", PORT) as stream:
                assert isinstance(stream, SimStream)
                assert (stream.connection.source, stream.connection.target) == ("s1", "s2")
            assert 10 < zio.now() - start < 20
            network.partition(["s1", "s2"], "local")
            with pytest.raises(TimeoutError):  # the system's own limit
                zio.net.connect("s1", PORT)
            one.close()
            two.close()

    run_virtual(main, network=network)


def test_connecting_can_be_refused_or_get_no_answer() -> None:
    network = SimNetwork(1, latency=0.5)

    def main() -> None:
        with pytest.raises(ConnectionRefusedError, match="s1:4222"):
            zio.net.connect("s1", PORT)
        assert zio.now() == pytest.approx(1.0)  # the refusal is an answer too
        with zio.net.listen("s1", PORT):
            network.host("s1").connects = "refuse"
            with pytest.raises(ConnectionRefusedError):
                zio.net.connect("s1", PORT)
            network.host("s1").connects = "drop"
            start = zio.now()
            with pytest.raises(TimeoutError):
                zio.net.connect("s1", PORT, timeout=5)
            assert zio.now() - start == pytest.approx(5)
            network.host("s1").connects = "accept"
            zio.net.connect("s1", PORT).close()
            with pytest.raises(ConnectionRefusedError):
                zio.net.connect("s1", PORT + 1)
            with pytest.raises(OSError, match="in use"):
                zio.net.listen("s1", PORT)
        with zio.net.listen("s1", 0) as listener:
            zio.net.connect("s1", listener.port).close()

    run_virtual(main, network=network)


def test_a_connect_that_is_given_up_leaves_no_connection() -> None:
    network = SimNetwork(1, latency=1.0)

    def main() -> None:
        with zio.net.listen("s1", PORT) as listener:
            with pytest.raises(TimeoutError):
                zio.net.connect("s1", PORT, timeout=1.5)
            with listener.accept() as stream:
                assert stream.recv(1) == b""
        assert not network.connections

    run_virtual(main, network=network)


def test_a_listener_on_every_host() -> None:
    def main() -> None:
        with zio.net.listen("0.0.0.0", PORT) as listener:
            for host in ("a", "b"):
                with zio.net.connect(host, PORT) as stream, listener.accept() as other:
                    assert isinstance(stream, SimStream)
                    assert stream.connection.target == host
                    other.send_all(b"hi")
                    assert stream.recv(10) == b"hi"
            waiting = zio.spawn(lambda: list(listener))
            wait_all_parked()
            listener.close()
            assert waiting.join() == []

    run_virtual(main, network=SimNetwork(1))


def test_closing_a_listener_ends_the_connections_nobody_has_accepted() -> None:
    def main() -> None:
        with zio.net.listen("a", PORT) as listener:
            stream = zio.net.connect("a", PORT)
            listener.close()
            assert stream.recv(1) == b""
            stream.close()

    run_virtual(main, network=SimNetwork(1))


def test_connections_of_a_host_can_be_found() -> None:
    network = SimNetwork(1)

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        assert network.between("s1") == network.between("local", "s1") == network.connections == [connection]
        assert network.between("s2") == []
        connection.reset()
        assert network.connections == []

    linked(network, test)


def test_links_can_be_changed_together_and_while_connections_are_open() -> None:
    network = SimNetwork(1, latency=1.0)

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        network.change_links(latency=5.0)
        start = zio.now()
        ours.send_all(b"x")
        theirs.recv(1)
        assert zio.now() - start == pytest.approx(5.0)
        assert network.link("s8", "s9").latency == 5.0
        with pytest.raises(TypeError, match="latencies"):
            network.change_links(latencies=1)

    linked(network, test)


# What it is for.


def chat(network: SimNetwork, scheduler: int = 1) -> str:
    def main() -> None:
        def serve(listener: Any) -> None:
            for stream in listener:
                zio.spawn(echo, stream)

        def echo(stream: Any) -> None:
            with stream:
                try:
                    while data := stream.recv(1000):
                        stream.send_all(data)
                except OSError:
                    return

        def talk(number: int) -> None:
            for _ in range(20):
                try:
                    with zio.net.connect("s1", PORT) as stream, zio.timeout(5):
                        stream.send_all(b"%d" % number * 100)
                        stream.recv_exactly(100)
                except (OSError, EOFError):
                    zio.sleep(network.random.random())

        with zio.net.listen("s1", PORT) as listener:
            server = zio.spawn(serve, listener)
            with zio.TaskGroup() as group:
                for number in range(3):
                    group.spawn(talk, number)
                for _ in range(5):
                    zio.sleep(network.random.random())
                    network.partition("s1")
                    zio.sleep(network.random.random() * 10)
                    network.heal()
            server.cancel()

    run_virtual(main, seed=scheduler, network=network)
    return network.report()


def test_a_seed_repeats_exactly_and_another_one_differs() -> None:
    faults: dict[str, Any] = {"jitter": 0.1, "split_reads": 0.3, "split_writes": 0.3, "reset_every": 1000}
    first = chat(SimNetwork(7, **faults))
    assert chat(SimNetwork(7, **faults)) == first
    assert chat(SimNetwork(8, **faults)) != first
    assert "seed=7" in first
    assert len(first.splitlines()) > 200


def test_the_journal_counts_what_happened_and_prints_it() -> None:
    network = SimNetwork(7, jitter=0.1, split_reads=0.3, split_writes=0.3, reset_every=1000)
    chat(network)
    seen = network.coverage()
    for what in ("sent", "arrived", "connected", "read split", "write split", "reset", "healed", "end sent", "closed"):
        assert seen[what], what
    last = network.report(last=3).splitlines()
    assert len(last) == 4
    assert last[-1] == str(network.journal[-1])


def test_a_seed_is_chosen_and_told() -> None:
    assert SimNetwork().seed != SimNetwork().seed
    assert SimNetwork().report().startswith("SimNetwork(seed=")
    network = SimNetwork(journal=False)
    linked(network, lambda *_: None)
    assert network.journal == []


def test_it_works_in_real_time_too() -> None:
    def main() -> bytes:
        with zio.net.listen("s1", PORT) as listener, zio.net.connect("s1", PORT) as ours, listener.accept() as theirs:
            ours.send_all(b"now")
            return bytes(theirs.recv(10))

    assert zio.Runtime(network=SimNetwork(1)).run(main) == b"now"


def test_tls_works_on_it() -> None:
    network = SimNetwork(1, jitter=0.01, split_reads=0.5, split_writes=0.5)

    def test(ours: Any, theirs: Any, connection: Connection) -> None:
        secret = bytes(100_000)
        server = zio.spawn(theirs.start_tls, SERVER)
        with ours.start_tls(CLIENT, NAME) as encrypted, server.join() as decrypted:
            sending = zio.spawn(encrypted.send_all, secret)
            assert decrypted.recv_exactly(len(secret)) == secret
            sending.join()

    linked(network, test)


# In memory only.


def test_a_pair_of_streams_is_a_connection_without_delay() -> None:
    def main() -> None:
        ours, theirs = memory_stream_pair(limit=10)
        with ours, theirs:
            assert ours.send_some(b"x" * 20) == 10
            assert theirs.recv(100) == b"x" * 10
            ours.shutdown_write()
            assert theirs.recv(1) == b""

    zio.run(main)


def test_in_a_memory_network_every_host_is_here() -> None:
    def main() -> None:
        with (
            zio.net.listen("anything", 80) as listener,
            zio.net.connect("whatever", 80) as ours,
            listener.accept() as theirs,
        ):
            ours.send_all(b"hello")
            assert theirs.recv(10) == b"hello"

    run_virtual(main, network=MemoryNetwork())


def test_a_stream_is_for_tasks_of_its_own_runtime() -> None:
    def main() -> None:
        ours, theirs = memory_stream_pair()
        with ours, theirs:
            with pytest.raises(zio.WrongLoop):
                zio.to_thread(zio.run, ours.recv, 1)
            with pytest.raises(RuntimeError):
                zio.to_thread(ours.recv, 1)

    zio.run(main)


# Names with several addresses.


def test_a_name_has_the_addresses_it_was_given_and_any_other_name_itself() -> None:
    network = SimNetwork(1)
    network.name("cluster", "10.0.0.1", "b")

    def main() -> list[list[str]]:
        return [[address[0] for _, address in zio.net.resolve(name, 1)] for name in ("cluster", "b", "10.0.0.1")]

    assert run_virtual(main, network=network) == [["10.0.0.1", "b"], ["b"], ["10.0.0.1"]]


def test_connecting_tries_the_addresses_of_a_name_in_turn() -> None:
    network = SimNetwork(1)
    network.name("cluster", "a", "b", "c")
    network.host("a").connects = "refuse"

    def main() -> list[str]:
        with zio.net.listen("b", 1), zio.net.listen("c", 1), zio.net.connect("cluster", 1):
            return [connection.target for connection in network.connections]

    assert run_virtual(main, network=network) == ["b"]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("latency", -1, "latency=-1 must be 0.0 or more"),
        ("latency", float("nan"), "latency=nan must be 0.0 or more"),
        ("jitter", "x", "jitter='x' must be a number"),
        ("loss", 2, "loss=2 must be from 0.0 to 1.0"),
        ("split_reads", -1, "split_reads=-1 must be from 0.0 to 1.0"),
        ("buffer", 0, "buffer=0 must be 1 or more"),
        ("buffer", 1.5, "buffer=1.5 must be a whole number"),
        ("bandwidth", 0, "bandwidth=0 must be more than 0"),
        ("reset_every", -1, "reset_every=-1 must be 0.0 or more"),
    ],
)
def test_a_link_that_could_not_be_is_refused_at_once(name: str, value: Any, error: str) -> None:
    wrong: dict[str, Any] = {name: value}
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        SimNetwork(1, **wrong)
    network = SimNetwork(1)
    before = replace(network.link("a", "b"))
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        network.change_links(**wrong)
    assert network.link("a", "b") == before
