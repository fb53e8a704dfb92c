"""drain: what came is handled, what was published goes out, then the client or the subscription ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import ClosedReason, Status
from nats_zio.events import Closed
from nats_zio.testing import NatsServer, ScriptedServer
from nats_zio.testing.scripted import Command, ServedClient
from tests.client.helpers import LIMIT, Peer, away, eventually
from zio.testing import MemoryNetwork, run_virtual

Run = Callable[..., Any]


def test_leaving_the_with_block_drains(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    received = peer.subscribe(subject)

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            for number in range(100):
                nc.publish(subject, b"%d" % number)
        assert nc.status is Status.CLOSED

    run(main)
    assert [int(received.get(timeout=LIMIT).data) for _ in range(100)] == list(range(100))


def test_leaving_the_with_block_by_an_error_closes(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)
        with pytest.raises(KeyError), nc:
            raise KeyError
        assert sub.closed_reason is ClosedReason.CLIENT_CLOSED

    run(main)


def test_handlers_finish_and_their_replies_go_out(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    replies = peer.subscribe(subject + ".reply")
    count = 50

    def main() -> None:
        def handle(message: nats_zio.Message) -> None:
            nc.rtt()  # waits, so that the rest is pending when the drain begins
            message.respond(message.data)

        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject, cb=handle)
        for number in range(count):
            nc.publish(subject, b"%d" % number, reply=subject + ".reply")
        nc.flush()
        report = nc.drain()
        assert report.unread == {}
        assert report.unread_msgs == 0
        assert not report.timed_out
        assert sub.closed_reason is ClosedReason.DRAINED
        assert sub.delivered == count

    run(main)
    assert [int(replies.get(timeout=LIMIT).data) for _ in range(count)] == list(range(count))


def test_the_handler_of_a_subscription_that_has_reached_its_limit_finishes_too(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    replies = peer.subscribe(subject + ".reply")

    def main() -> None:
        def handle(message: nats_zio.Message) -> None:
            nc.rtt()
            message.respond(message.data)

        nc = nats_zio.connect(nats_server.url)
        nc.subscribe(subject, cb=handle, max_msgs=20)
        for _ in range(20):
            nc.publish(subject, b"x", reply=subject + ".reply")
        nc.flush()
        nc.drain()

    run(main)
    for _ in range(20):
        assert replies.get(timeout=LIMIT).data == b"x"


def test_messages_on_their_way_are_still_received(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)
        nc.flush()
        peer.publish(subject, *[b"x"] * 500)
        report = nc.drain()
        assert report.unread == {sub: 500}
        assert report.unread_msgs == 500
        assert len(list(sub)) == 500

    run(main)


def test_iterators_of_other_tasks_finish_what_they_do(nats_server: NatsServer, peer: Peer, subject: str) -> None:
    replies = peer.subscribe(subject + ".reply")
    count = 20

    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)

        def serve() -> int:
            served = 0
            for message in sub:
                nc.rtt()
                message.respond(message.data)
                served += 1
            return served

        task = zio.spawn(serve)
        for number in range(count):
            nc.publish(subject, b"%d" % number, reply=subject + ".reply")
        nc.flush()
        assert nc.drain().unread == {}
        assert task.join() == count

    zio.run(main)
    assert [int(replies.get(timeout=LIMIT).data) for _ in range(count)] == list(range(count))


def test_an_iterator_at_work_on_its_last_message_can_still_respond(
    nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    replies = peer.subscribe(subject + ".reply")

    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)
        working, go_on = zio.Event(), zio.Event()

        def serve() -> None:
            for message in sub:
                working.set()
                go_on.wait()
                message.respond(b"done")

        task = zio.spawn(serve)
        nc.publish(subject, reply=subject + ".reply")
        working.wait()
        draining = zio.spawn(nc.drain)
        zio.testing.wait_all_parked()
        assert not draining.done
        go_on.set()
        assert not draining.join().timed_out
        task.join()

    zio.run(main)
    assert replies.get(timeout=LIMIT).data == b"done"


def test_iterators_of_threads_finish_what_they_do(
    background_runtime: object, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    replies = peer.subscribe(subject + ".reply")
    nc = nats_zio.connect(nats_server.url)
    sub = nc.subscribe(subject)
    served: list[bytes] = []

    def serve() -> None:
        for message in sub:
            nc.rtt()
            message.respond(message.data)
            served.append(message.data)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(20):
        nc.publish(subject, b"%d" % number, reply=subject + ".reply")
    nc.flush()
    report = nc.drain()
    for thread in threads:
        thread.join()
    assert report.unread == {}
    assert sorted(served, key=int) == [b"%d" % number for number in range(20)]
    assert {replies.get(timeout=LIMIT).data for _ in range(20)} == set(served)


def test_drain_inside_the_own_loop_does_not_wait_for_it(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)
        for number in range(5):
            nc.publish(subject, b"%d" % number)
        nc.flush()
        taken = []
        for message in sub:
            taken.append(int(message.data))
            if len(taken) == 2:
                report = nc.drain()
                assert report.unread == {sub: 3}
                assert not report.timed_out
        assert taken == [0, 1, 2, 3, 4]

    run(main)


def test_an_iterator_left_by_a_task_that_has_ended_is_not_waited_for(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)
        nc.publish(subject)
        nc.publish(subject)
        iterators = []

        def take_one() -> None:
            iterator = iter(sub)
            iterators.append(iterator)
            next(iterator)

        zio.spawn(take_one).join()
        assert nc.drain().unread == {sub: 1}

    zio.run(main)


def test_drain_inside_a_handler_does_not_wait_for_it(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        reports: list[nats_zio.DrainReport] = []
        done = zio.Event()

        def handle(message: nats_zio.Message) -> None:
            if message.data == b"end":
                reports.append(nc.drain(timeout=LIMIT))
                done.set()

        nc = nats_zio.connect(nats_server.url)
        nc.subscribe(subject, cb=handle)
        nc.publish(subject, b"x")
        nc.publish(subject, b"end")
        assert done.wait(timeout=LIMIT)
        assert nc.is_closed
        assert not reports[0].timed_out

    run(main)


def test_a_handler_that_drains_during_a_drain_does_not_hold_it_up(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        done = zio.Event()

        def handle(message: nats_zio.Message) -> None:
            nc.rtt()
            nc.drain()
            done.set()

        nc = nats_zio.connect(nats_server.url)
        nc.subscribe(subject, cb=handle)
        nc.publish(subject)
        nc.flush()
        assert not nc.drain().timed_out
        assert done.wait(timeout=LIMIT)

    run(main)


def test_a_handler_that_never_ends_is_given_up_after_the_timeout(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        started, go_on = zio.Event(), zio.Event()

        def handle(message: nats_zio.Message) -> None:
            started.set()
            go_on.wait()

        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject, cb=handle)
        nc.publish(subject, b"1")
        nc.publish(subject, b"2")
        assert started.wait(timeout=LIMIT)
        nc.flush()
        report = nc.drain(timeout=0.05)
        assert report.timed_out
        assert report.unread == {sub: 1}
        assert nc.is_closed
        go_on.set()
        eventually(lambda: sub not in nc._core.in_use)

    run(main)


def test_a_second_drain_waits_for_the_first_and_has_its_report(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)
        nc.publish(subject)
        nc.flush()
        first, second = zio.spawn(nc.drain), zio.spawn(nc.drain)
        assert first.join() == second.join()
        assert first.join().unread == {sub: 1}
        assert nc.drain().unread == {}

    zio.run(main)


def test_a_second_drain_whose_time_runs_out_first_says_so(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        working, go_on = zio.Event(), zio.Event()

        def handle(message: nats_zio.Message) -> None:
            working.set()
            go_on.wait()

        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject, cb=handle)
        nc.publish(subject)
        nc.publish(subject)
        nc.flush()
        assert working.wait(timeout=LIMIT)
        reports: list[nats_zio.DrainReport] = []
        first = threading.Thread(target=lambda: reports.append(nc.drain(timeout=None)))
        first.start()
        eventually(lambda: sub.closed, "the first drain waits for the handler")
        assert nc.drain(timeout=0.02) == nats_zio.DrainReport({sub: 1}, timed_out=True)
        assert nc.status is Status.DRAINING
        go_on.set()
        away(first.join)
        assert reports == [nats_zio.DrainReport({})]

    run(main)


def test_a_drain_takes_no_longer_than_its_timeout(caplog: pytest.LogCaptureFixture) -> None:
    """Closing has its own two seconds only where the drain has as much left."""

    def main() -> None:
        with ScriptedServer() as server:
            nc = nats_zio.connect(server.url)
            server.pong = "drop"
            nc.publish("a", b"12345")
            start = zio.now()
            assert nc.drain(timeout=0.3) == nats_zio.DrainReport({}, timed_out=True)
            assert zio.now() - start == pytest.approx(0.3)
            assert nc.is_closed

    run_virtual(main, network=MemoryNetwork())
    assert "1 messages (5 bytes)" in caplog.text


def test_a_drain_without_time_still_writes_what_was_published() -> None:
    def main() -> None:
        with ScriptedServer() as server:
            nc = nats_zio.connect(server.url)
            nc.publish("a", b"x")
            assert nc.drain(timeout=0).timed_out
            assert "PUB" in [command.verb for command in server.all_clients[0].commands]

    run_virtual(main, network=MemoryNetwork())


def test_a_drain_without_time_writes_what_gathers_while_tasks_are_busy(
    nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    """In real time: small messages wait a moment for company then."""
    received = peer.subscribe(subject)

    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        busy = True

        def work() -> None:
            while busy:
                zio.pause()

        zio.spawn(work)
        zio.pause()
        for number in range(5):
            nc.publish(subject, b"%d" % number)
        nc.drain(timeout=0)
        busy = False

    for _ in range(10):
        zio.run(main)
        assert [received.get(timeout=LIMIT).data for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("timeout", [30.0, None])
def test_the_end_of_a_drain_takes_two_seconds_at_most(timeout: float | None) -> None:
    """Of what was proved before there is nothing left to wait for."""

    def main() -> None:
        with ScriptedServer() as server:
            nc = nats_zio.connect(server.url)

            def answer_one(client: ServedClient, command: Command) -> None:
                if command.verb == "PING":
                    server.pong, pongs[:] = pongs[0], ["drop"]

            pongs = ["send"]
            server.on_command = answer_one
            start = zio.now()
            assert not nc.drain(timeout=timeout).timed_out
            assert zio.now() - start == pytest.approx(2.0)

    run_virtual(main, network=MemoryNetwork())


def test_while_draining_there_are_no_new_subscriptions(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        working, go_on = zio.Event(), zio.Event()

        def handle(message: nats_zio.Message) -> None:
            working.set()
            go_on.wait()
            nc.publish(subject + ".late", b"x")

        nc = nats_zio.connect(nats_server.url)
        nc.subscribe(subject, cb=handle)
        nc.publish(subject)
        working.wait()
        draining = zio.spawn(nc.drain)
        zio.testing.wait_all_parked()
        assert nc.status is Status.DRAINING
        with pytest.raises(nats_zio.DrainingError):
            nc.subscribe(subject)
        go_on.set()
        draining.join()
        with pytest.raises(nats_zio.ConnectionClosedError):
            nc.subscribe(subject)

    zio.run(main)


def test_drain_ends_with_the_event_closed_without_error(run: Run, nats_server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        events = nc.events()
        nc.drain()
        assert list(events) == [Closed(None)]

    run(main)


def test_a_cancelled_drain_leaves_a_client_that_can_be_closed(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        working, go_on = zio.Event(), zio.Event()

        def handle(message: nats_zio.Message) -> None:
            working.set()
            go_on.wait()

        nc = nats_zio.connect(nats_server.url)
        nc.subscribe(subject, cb=handle)
        nc.publish(subject)
        working.wait()
        with zio.move_on_after(0.01) as scope:
            nc.drain()
        assert scope.expired
        go_on.set()
        assert nc.drain().unread == {}
        assert nc.is_closed

    zio.run(main)


def test_what_was_published_while_disconnected_goes_out_with_the_drain(run: Run, server: NatsServer) -> None:
    def main() -> None:
        nc = nats_zio.connect(server.url, reconnect_wait=0.01, reconnect_max_wait=0.02)
        events = nc.events()
        away(server.kill)
        while not isinstance(events.recv(timeout=LIMIT), nats_zio.events.Disconnected):
            pass
        for _ in range(10):
            nc.publish("a", b"x")
        starter = threading.Thread(target=server.start)
        starter.start()
        assert not nc.drain(timeout=LIMIT).timed_out
        away(starter.join)
        assert server.monitor("/varz")["in_msgs"] == 10

    run(main)


# One subscription.


def test_a_subscription_drains_alone(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            drained, other = nc.subscribe(subject), nc.subscribe(subject)
            nc.flush()
            peer.publish(subject, *[b"x"] * 100)
            drained.drain()
            peer.publish(subject, b"late")
            nc.flush()
            assert drained.closed_reason is ClosedReason.DRAINED
            assert len(list(drained)) == 100
            assert other.pending_msgs == 101
            assert other.closed_reason is None
            drained.drain()
            with pytest.raises(nats_zio.SubscriptionClosedError) as caught:
                drained.next()
            assert caught.value.reason is ClosedReason.DRAINED

    run(main)


def test_a_subscription_drain_waits_for_its_handler(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        handled: list[bytes] = []

        def handle(message: nats_zio.Message) -> None:
            nc.rtt()
            handled.append(message.data)

        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=handle)
            for number in range(20):
                nc.publish(subject, b"%d" % number)
            sub.drain()
            assert len(handled) == 20

    run(main)


def test_a_subscription_drain_times_out_and_has_ended_all_the_same(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        started, go_on = zio.Event(), zio.Event()

        def handle(message: nats_zio.Message) -> None:
            started.set()
            go_on.wait()

        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=handle)
            nc.publish(subject)
            assert started.wait(timeout=LIMIT)
            with pytest.raises(nats_zio.TimeoutError):
                sub.drain(timeout=0.02)
            assert sub.closed_reason is ClosedReason.DRAINED
            go_on.set()

    run(main)


def test_a_subscription_drain_that_the_server_does_not_confirm_has_ended_it_all_the_same(
    run: Run, server: NatsServer
) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            sub = nc.subscribe("a")
            nc.flush()
            away(server.pause)
            try:
                with pytest.raises(nats_zio.TimeoutError):
                    sub.drain(timeout=0.02)
            finally:
                away(server.resume)
            assert sub.closed_reason is ClosedReason.DRAINED

    run(main)


def test_a_link_that_breaks_completes_the_drain_of_a_subscription(server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url, reconnect_wait=0.01) as nc:
            sub = nc.subscribe("a")
            nc.publish("a", b"x")
            nc.flush()
            server.pause()
            task = zio.spawn(sub.drain)
            zio.testing.wait_all_parked()
            zio.to_thread(server.kill)  # before it can confirm
            zio.to_thread(server.start)
            task.join()
            assert [message.data for message in sub] == [b"x"]
            nc.publish("a", b"late")
            nc.flush()
            assert sub.pending_msgs == 0

    zio.run(main)


def test_drain_of_a_subscription_inside_its_handler_does_not_wait_for_it(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        done = zio.Event()

        def handle(message: nats_zio.Message) -> None:
            sub.drain(timeout=LIMIT)
            done.set()

        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=handle)
            nc.publish(subject)
            assert done.wait(timeout=LIMIT)
            assert sub.closed_reason is ClosedReason.DRAINED

    run(main)


def test_drain_on_a_closed_client_does_nothing(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)
        nc.close()
        assert nc.drain() == nats_zio.DrainReport({})
        sub.drain()

    run(main)


def test_subscriptions_are_drained_in_the_order_they_were_made() -> None:
    """Not by accident of where they lie in memory: under a seed a run repeats exactly."""

    def main() -> None:
        with ScriptedServer() as server:
            nc = nats_zio.connect(server.url)
            for number in range(50):
                nc.subscribe(f"a.{number}", cb=None if number % 3 else lambda _: None)
            nc.drain()
            unsubscribed = [command.args for command in server.all_clients[0].commands if command.verb == "UNSUB"]
            assert unsubscribed == [[str(sid)] for sid in range(1, 51)]

    run_virtual(main, network=MemoryNetwork(), seed=1)


def test_threads_that_subscribe_while_another_drains_are_told_or_served(
    background_runtime: object, nats_server: NatsServer, subject: str
) -> None:
    for _ in range(10):
        nc = nats_zio.connect(nats_server.url)
        start = threading.Barrier(5)
        outcomes: list[object] = []

        def subscribe(
            nc: nats_zio.Client = nc, start: threading.Barrier = start, outcomes: list[Any] = outcomes
        ) -> None:
            start.wait()
            try:
                while True:
                    outcomes.append(nc.subscribe(subject))
            except (nats_zio.DrainingError, nats_zio.ConnectionClosedError) as exc:
                outcomes.append(exc)

        threads = [threading.Thread(target=subscribe) for _ in range(4)]
        for thread in threads:
            thread.start()
        start.wait()
        nc.drain()
        for thread in threads:
            thread.join()
        subs = [outcome for outcome in outcomes if isinstance(outcome, nats_zio.Subscription)]
        assert len(outcomes) - len(subs) == 4
        assert all(sub.closed for sub in subs)
        assert not nc._core.subscriptions
