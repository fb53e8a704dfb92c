"""close: what was accepted goes out, nothing is left behind, and later calls say so."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import Status
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, Peer, away

Run = Callable[..., Any]


def test_close_sends_what_was_accepted(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    received = peer.subscribe(subject)

    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        for _ in range(200):
            nc.publish(subject, b"x" * 10_000)
        nc.close()

    run(main)
    for _ in range(200):
        assert len(received.get(timeout=LIMIT).data) == 10_000


def test_a_cancel_does_not_cut_a_close_short(nats_server: NatsServer, peer: Peer, subject: str) -> None:
    received = peer.subscribe(subject)

    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        with zio.move_on_after(LIMIT) as scope:
            nc.publish(subject, b"x")
            scope.cancel()
            nc.close()
        assert nc.is_closed

    zio.run(main)
    assert received.get(timeout=LIMIT).data == b"x"


def test_close_may_be_repeated(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        for _ in range(3):
            nc.close()
            assert nc.status is Status.CLOSED

    run(main)


def test_a_second_close_returns_when_the_client_is_closed(server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url)
        server.pause()
        first = zio.spawn(nc.close)
        zio.testing.wait_all_parked()
        second = zio.spawn(nc.close)
        zio.testing.wait_all_parked()
        assert not second.done
        server.resume()
        second.join()
        assert nc.is_closed
        first.join()

    zio.run(main)


@pytest.mark.parametrize(
    "call",
    [
        lambda nc: nc.publish("a", b"x"),
        lambda nc: nc.publish("a", b"x", headers={"a": "b"}),
        lambda nc: nc.request("a"),
        lambda nc: nc.subscribe("a"),
        lambda nc: nc.flush(),
        lambda nc: nc.rtt(),
        lambda nc: nc.force_reconnect(),
    ],
    ids=["publish", "publish-headers", "request", "subscribe", "flush", "rtt", "force_reconnect"],
)
def test_calls_on_a_closed_client_raise_connection_closed_error(
    run: Run, nats_server: NatsServer, call: Callable[[nats_zio.Client], object]
) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        nc.publish("a")
        nc.close()
        with pytest.raises(nats_zio.ConnectionClosedError) as caught:
            call(nc)
        assert isinstance(caught.value, ConnectionError)
        depths = set()
        for _ in range(3):  # each error is a new one, whose traceback does not grow
            try:
                call(nc)
            except nats_zio.ConnectionClosedError as exc:
                depths.add(len(traceback.extract_tb(exc.__traceback__)))
        assert len(depths) == 1

    run(main)


@pytest.mark.slow
def test_close_with_a_silent_server_is_bounded_and_says_what_is_lost(
    run: Run, server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url, name="losing")
        nc.flush()
        away(server.pause)
        try:
            for _ in range(3):
                nc.publish("a", b"12345")
            with caplog.at_level(logging.WARNING, "nats_zio"):
                nc.close()
        finally:
            away(server.resume)

    run(main)
    assert "losing" in caplog.text
    assert "3 messages (15 bytes)" in caplog.text


def test_a_clean_close_logs_nothing(
    run: Run, nats_server: NatsServer, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        nc.publish(subject, b"x")
        nc.close()

    run(main)
    assert caplog.text == ""


def test_close_releases_everybody_who_waits(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub, _unanswered = nc.subscribe(subject), nc.subscribe(subject + ".unanswered")
        events = nc.events()

        def outcome(fn: Callable[[], object]) -> object:
            try:
                return fn()
            except Exception as exc:
                return type(exc)

        tasks = [
            zio.spawn(outcome, lambda: sub.next(timeout=None)),
            zio.spawn(outcome, lambda: zio.select(sub)),
            zio.spawn(outcome, lambda: list(sub)),
            zio.spawn(outcome, lambda: nc.request(subject + ".unanswered", timeout=None)),
            zio.spawn(outcome, lambda: [type(event) for event in events]),
        ]
        zio.testing.wait_all_parked()
        nc.close()
        lost = nats_zio.errors.SubscriptionLostError
        assert [task.join() for task in tasks] == [
            lost,
            lost,
            [],
            nats_zio.ConnectionClosedError,
            [nats_zio.events.Closed],
        ]
        assert issubclass(lost, nats_zio.ConnectionClosedError)

    zio.run(main)


def test_close_in_a_handler_ends_the_client(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        done = zio.Event()

        def handle(message: nats_zio.Message) -> None:
            nc.close()
            done.set()

        nc = nats_zio.connect(nats_server.url)
        nc.subscribe(subject, cb=handle)
        nc.publish(subject)
        assert done.wait(timeout=LIMIT)
        assert nc.is_closed

    run(main)


def test_a_client_left_open_is_closed_at_the_end_of_the_run(nats_server: NatsServer, peer: Peer, subject: str) -> None:
    received = peer.subscribe(subject)

    def main() -> nats_zio.Client:
        nc = nats_zio.connect(nats_server.url)
        nc.publish(subject, b"x")
        return nc

    nc = zio.run(main)
    assert nc.is_closed
    assert received.get(timeout=LIMIT).data == b"x"


def test_tasks_cancelled_at_the_end_of_the_run_may_still_publish(
    nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    received = peer.subscribe(subject)

    def main() -> None:
        nc = nats_zio.connect(nats_server.url)

        def worker() -> None:
            try:
                zio.sleep(3600)
            finally:
                with zio.shield():
                    nc.publish(subject, b"goodbye")

        zio.spawn(worker)
        zio.testing.wait_all_parked()

    zio.run(main)
    assert received.get(timeout=LIMIT).data == b"goodbye"


def test_threads_that_publish_while_another_closes_lose_no_accepted_message(
    background_runtime: object, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    received = peer.subscribe(subject)
    nc = nats_zio.connect(nats_server.url)
    accepted: list[int] = []

    def publish() -> None:
        count = 0
        try:
            while True:
                nc.publish(subject, b"x")
                count += 1
        except nats_zio.ConnectionClosedError:
            accepted.append(count)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    received.get(timeout=LIMIT)
    nc.close()
    for thread in threads:
        thread.join()
    peer.do(peer.nc.flush(60))
    assert nc.stats.out_msgs == sum(accepted)
