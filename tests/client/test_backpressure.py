"""A server that does not read: publish waits for room, and what was not accepted is not sent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio.events import Disconnected
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, Peer, away, next_event

Run = Callable[..., Any]

CHUNK = 64 << 10


def _fill(nc: nats_zio.Client) -> int:
    """Publish until it waits for good (the system enlarges socket buffers for a while); how many were accepted."""
    accepted = refused = 0
    while refused < 5:
        try:
            with zio.timeout(0.05):
                nc.publish("a", b"%08d" % accepted + b"x" * CHUNK)
            accepted += 1
            refused = 0
        except TimeoutError:
            refused += 1
    return accepted


def test_publish_waits_while_the_server_does_not_read_and_a_timed_out_one_is_not_sent(
    run: Run, server: NatsServer
) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            sub = nc.subscribe("a", pending_bytes=None)
            nc.flush()
            away(server.pause)
            try:
                accepted = _fill(nc)
                assert nc.stats.out_msgs == accepted
                assert nc._core.outbound.pending < 3 << 20
            finally:
                away(server.resume)
            nc.publish("a", b"last")
            nc.flush(timeout=LIMIT)
            taken = [message.data for message in sub.next_batch(accepted + 10)]
            assert [int(data[:8]) for data in taken[:-1]] == list(range(accepted))
            assert taken[-1] == b"last"

    run(main)


def test_those_who_wait_for_room_go_on_when_the_connection_breaks(server: NatsServer) -> None:
    """What they publish is kept for the next connection, of which there is none in sight."""

    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            nc.flush()
            server.pause()
            _fill(nc)
            tasks = [zio.spawn(nc.publish, "a", b"y" * CHUNK) for _ in range(5)]
            zio.testing.wait_all_parked()
            server.kill()
            for task in tasks:
                task.join(timeout=LIMIT)
            assert not nc.is_connected
            nc.close()

    zio.run(main)


def test_those_who_wait_for_room_go_on_when_the_server_reads_again(server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            sub = nc.subscribe("a", pending_bytes=None)
            nc.flush()
            server.pause()
            accepted = _fill(nc)
            tasks = [zio.spawn(nc.publish, "a", b"%08d" % number + b"y" * CHUNK) for number in range(50)]
            zio.testing.wait_all_parked()
            assert sum(task.done for task in tasks) < 5  # the system may have found a little more room
            server.resume()
            for task in tasks:
                task.join(timeout=LIMIT)
            nc.flush(timeout=LIMIT)
            taken = [message.data for message in sub.next_batch(accepted + 100)]
            assert len(taken) == accepted + 50
            assert sorted(int(data[:8]) for data in taken[accepted:]) == list(range(50))

    zio.run(main)


def test_threads_that_wait_for_room_go_on_when_the_server_reads_again(
    background_runtime: object, server: NatsServer
) -> None:
    with nats_zio.connect(server.url) as nc:
        sub = nc.subscribe("a", pending_bytes=None)
        nc.flush()
        server.pause()
        accepted = _fill(nc)
        threads = [
            threading.Thread(target=nc.publish, args=("a", b"%08d" % number + b"y" * CHUNK)) for number in range(10)
        ]
        for thread in threads:
            thread.start()
        threads[0].join(0.05)
        assert nc.stats.out_msgs < accepted + 5  # the system may have found a little more room
        server.resume()
        for thread in threads:
            thread.join(LIMIT)
        nc.flush(timeout=LIMIT)
        assert len(sub.next_batch(accepted + 100)) == accepted + 10


def test_a_publish_that_waits_for_room_survives_a_reconnect(server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, reconnect_wait=0.01) as nc:
            sub = nc.subscribe("a", pending_bytes=None)
            nc.flush()
            server.pause()
            _fill(nc)
            task = zio.spawn(nc.publish, "a", b"waiting" + b"y" * CHUNK)
            zio.testing.wait_all_parked()
            zio.to_thread(server.kill)  # without a last look at what it has been sent
            zio.to_thread(server.start)
            task.join(timeout=LIMIT)
            nc.flush(timeout=LIMIT)
            taken = [message.data for message in sub.next_batch(10_000)]
            assert taken[-1].startswith(b"waiting")
            numbers = [int(data[:8]) for data in taken[:-1]]
            assert numbers == sorted(set(numbers))

    zio.run(main)


def test_what_the_system_did_not_take_whole_is_sent_after_the_reconnect(server: NatsServer) -> None:
    taken_by_system: list[int] = []

    class Counting(zio.net.SystemNetwork):
        def connect(self, host: str, port: int) -> zio.net.Stream:
            stream = super().connect(host, port)
            send = stream.send_noted

            def send_noted(data: Any, noted: list[int], allowed: Any) -> Exception | None:
                failed = send(data, noted, allowed)
                taken_by_system.extend(noted)
                return failed

            stream.send_noted = send_noted  # type: ignore[method-assign]
            return stream

    def main() -> None:
        with nats_zio.connect(server.url, reconnect_wait=0.01) as nc:
            events = nc.events()
            sub = nc.subscribe("a", pending_bytes=None)
            nc.flush()
            server.pause()
            del taken_by_system[:]
            count, size = 5000, 2000
            frame = len(b"PUB a 2000\r\n") + size + 2
            with zio.move_on_after(0.5):
                for number in range(count):
                    nc.publish("a", b"%08d" % number + b"x" * (size - 8))
            accepted = nc.stats.out_msgs
            zio.to_thread(server.kill)
            event = next_event(events, Disconnected)
            whole = sum(taken_by_system) // frame
            assert whole < accepted
            assert event.unflushed_msgs == whole
            zio.to_thread(server.start)
            nc.flush(timeout=LIMIT)
            assert [int(message.data[:8]) for message in sub.next_batch(count)] == list(range(whole, accepted))

    zio.Runtime(network=Counting()).run(main)


def test_a_request_that_waits_for_room_obeys_its_timeout(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            nc.flush()
            away(server.pause)
            try:
                _fill(nc)
                with pytest.raises(nats_zio.TimeoutError):
                    nc.request("a", b"x" * (CHUNK + 8), timeout=0.05)
                assert len(nc._core.requests) == 0
            finally:
                away(server.resume)

    run(main)


def test_a_timeout_around_a_loop_of_publishes_ends_it(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            with zio.move_on_after(0.05) as scope:
                while True:
                    nc.publish(subject, b"x")
            assert scope.expired
            count = nc.stats.out_msgs
            assert count > 0
            nc.flush()
            assert nc.stats.out_msgs == count

    run(main)


def test_a_burst_of_large_messages_arrives_whole(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    received = peer.subscribe(subject)
    sizes = [1, CHUNK - 1, CHUNK, CHUNK + 1, 3, 1 << 20, 500_000, 0, 900_000] * 5

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            for number, size in enumerate(sizes):
                nc.publish(subject, bytes([number]) * size)

    run(main)
    for number, size in enumerate(sizes):
        data = received.get(timeout=LIMIT).data
        assert data == bytes([number]) * size


def test_other_tasks_run_while_one_publishes_without_end(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:

            def publish() -> None:
                while True:
                    nc.publish(subject, b"x" * 1000)

            task = zio.spawn(publish)
            with zio.timeout(LIMIT):
                for _ in range(20):
                    zio.sleep(0.001)
            nc.rtt()
            task.cancel()

    zio.Runtime(on_unhandled=lambda task, error: None).run(main)
