"""overflow="block": nothing is dropped; a subscription that is too full holds the reader."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import ClosedReason, events
from nats_zio.events import SlowConsumer
from nats_zio.testing import NatsServer, ScriptedServer
from tests.client.helpers import LIMIT, Peer, away, eventually, next_event
from zio.testing import SimNetwork, run_virtual, wait_all_parked

Run = Callable[..., Any]


def _numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


class Sim:
    """A client under test, and another one that publishes, on a simulated network."""

    def __init__(self, server: ScriptedServer, nc: nats_zio.Client, other: nats_zio.Client) -> None:
        self.server = server
        self.nc = nc
        self.other = other
        self.seen = nc.events()

    def publish(self, subject: str, *payloads: bytes) -> None:
        """Each message arrives by itself, before this returns."""
        for data in payloads:
            self.other.publish(subject, data)
            self.other.flush()
            zio.sleep(0.1)

    def fill(self, sub: nats_zio.Subscription, count: int = 50) -> None:
        """Publish more than a subscription takes in before the reader is held."""
        self.publish(sub.subject, *_numbers(count))
        assert sub.pending_msgs < count


def simulated(test: Callable[[Sim], None], **options: Any) -> None:
    def main() -> None:
        with (
            ScriptedServer("s1", 4222, ping_interval=5) as server,
            nats_zio.connect(server.url, **options) as nc,
            nats_zio.connect(server.url) as other,
        ):
            test(Sim(server, nc, other))

    run_virtual(main, network=SimNetwork(1), seed=1)


# Nothing is dropped.


def _by_next(sub: nats_zio.Subscription, count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield sub.next(timeout=LIMIT).data


def _by_loop(sub: nats_zio.Subscription, count: int) -> Iterator[bytes]:
    for message in sub:
        yield message.data
        count -= 1
        if not count:
            return


def _by_batch(sub: nats_zio.Subscription, count: int) -> Iterator[bytes]:
    while count:
        batch = sub.next_batch(7, timeout=LIMIT)
        count -= len(batch)
        yield from (message.data for message in batch)


def _by_select(sub: nats_zio.Subscription, count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield zio.select(sub, timeout=LIMIT)[1].data


@pytest.mark.parametrize("take", [_by_next, _by_loop, _by_batch, _by_select])
@pytest.mark.parametrize("limits", [{"pending_msgs": 10}, {"pending_msgs": None, "pending_bytes": 200}])
def test_a_slow_consumer_gets_every_message_in_order(
    run: Run,
    nats_server: NatsServer,
    peer: Peer,
    subject: str,
    take: Callable[[nats_zio.Subscription, int], Iterator[bytes]],
    limits: dict[str, Any],
) -> None:
    count = 3000
    payloads = [b"%-1000d" % number for number in range(count)]

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject, overflow="block", **limits) as sub:
            nc.flush()
            away(peer.publish, subject, *payloads)
            taken = []
            for data in take(sub, count):
                taken.append(int(data))
                if len(taken) % 500 == 0:
                    zio.sleep(0.01)
            assert taken == list(range(count))
            assert (sub.dropped, sub.delivered, sub.pending_msgs) == (0, count, 0)

    run(main)


@pytest.mark.parametrize(
    "options", [{}, {"workers": 3}, {"workers": 3, "key": lambda message: message.data}], ids=["one", "three", "keyed"]
)
def test_a_slow_handler_gets_every_message(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str, options: dict[str, Any]
) -> None:
    count = 2000
    payloads = [b"%-1000d" % number for number in range(count)]

    def main() -> None:
        taken: list[int] = []

        def handle(message: nats_zio.Message) -> None:
            if int(message.data) % 200 == 0:
                zio.sleep(0.01)
            taken.append(int(message.data))

        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=handle, overflow="block", pending_msgs=10, **options)
            nc.flush()
            away(peer.publish, subject, *payloads)
            eventually(lambda: len(taken) == count)
            assert (sub.dropped, sub.pending_msgs) == (0, 0)
        assert (sorted(taken) if options else taken) == list(range(count))

    run(main)


def test_several_threads_share_what_they_hold_the_reader_for(
    background_runtime: object, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    count = 5000
    with nats_zio.connect(nats_server.url) as nc:
        sub = nc.subscribe(subject, overflow="block", pending_msgs=5)
        nc.flush()
        taken: list[bytes] = []

        def take() -> None:
            taken.extend(message.data for message in sub)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        peer.publish(subject, *_numbers(count))
        eventually(lambda: len(taken) == count)
        sub.drain()
        for thread in threads:
            thread.join()
    assert sorted(taken, key=int) == _numbers(count)


# The reader is held.


@pytest.mark.parametrize(
    ("limits", "most"), [({"pending_msgs": 4}, 9), ({"pending_msgs": None, "pending_bytes": 10}, 16)]
)
def test_no_more_is_read_when_twice_the_limit_is_pending(limits: dict[str, Any], most: int) -> None:
    def test(sim: Sim) -> None:
        sub, other = sim.nc.subscribe("a", overflow="block", **limits), sim.nc.subscribe("b")
        sim.nc.flush()
        sim.fill(sub)
        assert sub.pending_msgs == most
        sim.publish("b", b"x")
        assert other.pending_msgs == 0
        taken = [sub.next().data for _ in range(50)]
        assert taken == _numbers(50)
        assert other.next().data == b"x"

    simulated(test)


def test_it_is_read_on_when_what_is_pending_is_within_the_limit() -> None:
    def test(sim: Sim) -> None:
        sub = sim.nc.subscribe("a", overflow="block", pending_msgs=4)
        sim.nc.flush()
        sim.fill(sub)
        for pending in (8, 7, 6, 5):
            sub.next()
            zio.sleep(1)
            assert sub.pending_msgs == pending
        sub.next()
        zio.sleep(1)
        assert sub.pending_msgs > 8

    simulated(test)


def test_what_is_kept_is_bounded_and_the_rest_waits_at_the_server(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    count, size = 2000, 10_000

    def main() -> None:
        with (
            nats_zio.connect(nats_server.url) as nc,
            nc.subscribe(subject, overflow="block", pending_bytes=100_000) as sub,
        ):
            nc.flush()
            away(peer.publish, subject, *[bytes(size)] * count)
            eventually(lambda: sub.pending_bytes > 200_000)
            held = nc.stats.in_bytes
            for _ in range(5):
                zio.sleep(0.01)
                assert nc.stats.in_bytes == held
            assert held < 200_000 + 2 * (512 << 10)  # and what one read brought
            assert sum(len(message.data) for message in _messages(sub, count)) == count * size

    run(main)


def _messages(sub: nats_zio.Subscription, count: int) -> Iterator[nats_zio.Message]:
    for _ in range(count):
        yield sub.next(timeout=LIMIT)


def test_a_message_larger_than_the_limit_passes() -> None:
    def test(sim: Sim) -> None:
        sub = sim.nc.subscribe("a", overflow="block", pending_bytes=3)
        sim.nc.flush()
        sim.publish("a", b"large enough", b"more", b"and more")
        assert [sub.next().data for _ in range(3)] == [b"large enough", b"more", b"and more"]
        sim.publish("a", b"x")
        assert sub.next().data == b"x"

    simulated(test)


def test_the_policy_may_be_that_of_the_client() -> None:
    def test(sim: Sim) -> None:
        sub = sim.nc.subscribe("a")
        sim.nc.flush()
        sim.fill(sub)
        assert [sub.next().data for _ in range(50)] == _numbers(50)
        assert sub.dropped == 0

    simulated(test, overflow="block", pending_msgs=4)


def test_it_is_told_once_per_episode(caplog: pytest.LogCaptureFixture) -> None:
    def test(sim: Sim) -> None:
        sub = sim.nc.subscribe("a", overflow="block", pending_msgs=4)
        sim.nc.flush()
        sim.publish("a", *_numbers(8))
        assert len(sim.seen) == 0
        for _ in range(2):
            sim.fill(sub)
            event = sim.seen.recv()
            assert isinstance(event, SlowConsumer)
            assert event.sub is sub
            assert event.dropped == 0
            while sub.pending_msgs:
                sub.next()
                zio.sleep(0.2)
            sim.publish("a", b"x")
            sub.next()
        assert len(sim.seen) == 0

    simulated(test)
    assert caplog.text.count("slow consumer") == 2


@pytest.mark.parametrize("seconds", [3600])
def test_neither_side_gives_the_other_up_while_the_reader_is_held(seconds: float) -> None:
    def test(sim: Sim) -> None:
        sub = sim.nc.subscribe("a", overflow="block", pending_msgs=4)
        sim.nc.flush()
        sim.fill(sub)
        assert isinstance(sim.seen.recv(), SlowConsumer)
        client = sim.server.clients[0]
        before = len(client.commands)
        zio.sleep(seconds)
        assert len(sim.seen) == 0
        assert not client.gone
        assert {command.verb for command in client.commands[before:]} == {"PONG"}
        assert seconds / 2 < len(client.commands) - before < seconds * 2
        sim.nc.publish("other")  # publishing goes on
        zio.sleep(1)
        assert "PUB" in {command.verb for command in client.commands[-4:]}
        assert [sub.next().data for _ in range(50)] == _numbers(50)
        zio.sleep(seconds)
        assert not client.gone
        assert len(sim.seen) == 0

    simulated(test, ping_interval=0.7, max_outstanding_pings=1)


def test_signs_of_life_are_sent_also_while_others_wait_for_messages() -> None:
    def test(sim: Sim) -> None:
        sub, other = sim.nc.subscribe("a", overflow="block", pending_msgs=4), sim.nc.subscribe("b")
        sim.nc.flush()
        sim.fill(sub)
        client = sim.server.clients[0]
        for _ in range(300):
            with pytest.raises(nats_zio.TimeoutError):
                other.next(timeout=0.4)
        assert not client.gone
        assert isinstance(sim.seen.recv(), SlowConsumer)
        assert len(sim.seen) == 0

    simulated(test)


@pytest.mark.slow
def test_a_real_server_keeps_a_client_whose_reader_is_held(run: Run) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc, nats_zio.connect(server.url) as other:
            seen = nc.events()
            sub = nc.subscribe("a", overflow="block", pending_msgs=1)
            nc.flush()
            for data in _numbers(3):
                other.publish("a", data)
            eventually(lambda: sub.pending_msgs == 3)
            zio.sleep(4.5)  # it gives up a client after three seconds of silence, two PINGs that nobody answers
            assert [type(event) for event in (seen.recv() for _ in range(len(seen)))] == [SlowConsumer]
            assert [sub.next().data for _ in range(3)] == _numbers(3)
            nc.flush()
            assert nc.stats.reconnects == 0

    with NatsServer(config='ping_interval: "1s"\nping_max: 2') as server:
        run(main)


def test_after_being_held_the_silence_of_the_server_counts_anew() -> None:
    def test(sim: Sim) -> None:
        sub = sim.nc.subscribe("a", overflow="block", pending_msgs=4)
        sim.nc.flush()
        sim.fill(sub)
        zio.sleep(100)
        for connection in zio.lowlevel.here().loop.runtime.network.connections[:1]:
            connection.down.vanish()
        assert [sub.next().data for _ in range(50)] == _numbers(50)
        start = zio.now()
        sim.seen.recv()
        event = sim.seen.recv(timeout=100)
        assert isinstance(event, events.Disconnected)
        assert isinstance(event.error, nats_zio.StaleConnectionError)
        assert 20 <= zio.now() - start <= 40

    simulated(test, ping_interval=10, max_outstanding_pings=2)


# Letting go of it.


@pytest.mark.parametrize(
    "let_go",
    [
        lambda sim, sub: sub.unsubscribe(),
        lambda sim, sub: sub.unsubscribe(after=1),
        lambda sim, sub: sub.drain(),
        lambda sim, sub: sub.set_pending_limits(1000, None),
        lambda sim, sub: sub.set_pending_limits(None, None),
    ],
    ids=["unsubscribe", "after", "drain", "limits", "no limits"],
)
def test_the_reader_goes_on_when_the_subscription_holds_it_no_longer(
    let_go: Callable[[Sim, nats_zio.Subscription], None],
) -> None:
    def test(sim: Sim) -> None:
        sub, other = sim.nc.subscribe("a", overflow="block", pending_msgs=4), sim.nc.subscribe("b")
        sim.nc.flush()
        sim.fill(sub)
        sim.publish("b", b"x")
        assert other.pending_msgs == 0
        let_go(sim, sub)
        assert other.next().data == b"x"

    simulated(test)


def test_smaller_limits_hold_it_earlier() -> None:
    def test(sim: Sim) -> None:
        sub = sim.nc.subscribe("a", overflow="block", pending_msgs=1000)
        sim.nc.flush()
        sub.set_pending_limits(4, None)
        sim.fill(sub)
        assert sub.pending_msgs == 9

    simulated(test)


def test_a_limit_of_messages_that_is_reached_ends_the_holding() -> None:
    def test(sim: Sim) -> None:
        sub, other = sim.nc.subscribe("a", overflow="block", pending_msgs=4, max_msgs=9), sim.nc.subscribe("b")
        sim.nc.flush()
        sim.publish("a", *_numbers(20))
        sim.publish("b", b"x")
        assert sub.closed_reason is ClosedReason.LIMIT_REACHED
        assert other.next().data == b"x"
        assert [message.data for message in sub] == _numbers(9)

    simulated(test)


def test_several_subscriptions_may_hold_the_reader() -> None:
    def test(sim: Sim) -> None:
        first, second = (sim.nc.subscribe(name, overflow="block", pending_msgs=4) for name in "ab")
        sim.nc.flush()
        for data in _numbers(50):
            sim.other.publish("a", data)
            sim.other.publish("b", data)
        sim.other.flush()
        zio.sleep(1)
        pending = second.pending_msgs
        assert first.pending_msgs == pending == 50  # they came together
        while first.pending_msgs:
            first.next()
        sim.publish("a", b"x")
        assert first.pending_msgs == 0
        while second.pending_msgs:
            second.next()
        assert first.next().data == b"x"

    simulated(test)


@pytest.mark.parametrize("end", ["close", "drain"])
def test_the_client_ends_in_time_though_the_reader_is_held(
    run: Run, nats_server: NatsServer, subject: str, end: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as other:
            nc = nats_zio.connect(nats_server.url)
            sub = nc.subscribe(subject, overflow="block", pending_msgs=1)
            nc.flush()
            for _ in range(100):
                other.publish(subject)
            other.flush()
            eventually(lambda: sub.pending_msgs > 2)
            with zio.timeout(LIMIT):
                getattr(nc, end)()
            assert nc.is_closed

    run(main)


@pytest.mark.parametrize("how", ["force_reconnect", "kill"])
def test_a_connection_that_is_lost_meanwhile_is_made_again(how: str) -> None:
    def test(sim: Sim) -> None:
        sub = sim.nc.subscribe("a", overflow="block", pending_msgs=4)
        sim.nc.flush()
        sim.fill(sub)
        start = zio.now()
        if how == "kill":
            sim.server.clients[0].abort()  # a PONG finds out
        else:
            sim.nc.force_reconnect()
        next_event(sim.seen, events.Disconnected)
        next_event(sim.seen, events.Reconnected)
        assert zio.now() - start < (2.5 if how == "kill" else 0.05)
        zio.sleep(1)
        pending = sub.pending_msgs
        assert pending == 9
        sim.publish("a", b"x", b"y")
        taken = [sub.next().data for _ in range(11)]
        assert taken == [*_numbers(9), b"x", b"y"]

    simulated(test)


# Who waits for an answer does not wait in vain.


def _answer(nc: nats_zio.Client) -> None:
    nc.subscribe("svc", cb=lambda message: message.respond(b"answer"))
    nc.flush()


CALLS: dict[str, Callable[[nats_zio.Client], object]] = {
    "request": lambda nc: nc.request("svc", timeout=3),
    "retried request": lambda nc: nc.request("svc", timeout=3, retry_on_disconnect=True),
    "request_many": lambda nc: next(iter(nc.request_many("svc", timeout=3, max_msgs=1))),
    "flush": lambda nc: nc.flush(timeout=3),
    "rtt": lambda nc: nc.rtt(timeout=3),
    "confirm": lambda nc: nc.subscribe("other", confirm=True).unsubscribe(),
    "drain": lambda nc: nc.subscribe("other").drain(timeout=3),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_handler_that_holds_the_reader_has_its_answer(call: str) -> None:
    def test(sim: Sim) -> None:
        handled: list[bytes] = []
        go = zio.Event()

        def handle(message: nats_zio.Message) -> None:
            go.wait()
            CALLS[call](sim.nc)
            handled.append(message.data)

        _answer(sim.other)
        sub = sim.nc.subscribe("a", cb=handle, overflow="block", pending_msgs=4)
        sim.nc.flush()
        sim.fill(sub)
        start = zio.now()
        go.set()
        while len(handled) < 50:
            zio.sleep(0.1)
        assert handled == _numbers(50)
        assert zio.now() - start < 5
        assert not any(isinstance(sim.seen.recv(), events.CallbackError) for _ in range(len(sim.seen)))

    simulated(test)


@pytest.mark.parametrize("call", CALLS)
def test_a_handler_on_a_thread_that_holds_the_reader_has_its_answer(
    run: Run, nats_server: NatsServer, subject: str, call: str
) -> None:
    def main() -> None:
        handled: list[bytes] = []

        def handle(message: nats_zio.Message) -> None:
            CALLS[call](nc)
            handled.append(message.data)

        with (
            nats_zio.connect(nats_server.url) as other,
            nats_zio.connect(nats_server.url, run_callbacks="thread") as nc,
        ):
            svc = other.subscribe("svc", queue=subject, cb=lambda message: message.respond(b"answer"))
            other.flush()
            seen = nc.events()
            sub = nc.subscribe(subject, cb=handle, overflow="block", pending_msgs=1)
            nc.flush()
            for data in _numbers(30):
                other.publish(subject, data)
                other.flush()
            eventually(lambda: len(handled) == 30)
            assert handled == _numbers(30)
            assert sub.dropped == 0
            assert not any(isinstance(seen.recv(), events.CallbackError) for _ in range(len(seen)))
            svc.drain()

    run(main)


@pytest.mark.parametrize("call", CALLS)
def test_a_loop_that_holds_the_reader_has_its_answer(call: str) -> None:
    def test(sim: Sim) -> None:
        _answer(sim.other)
        sub = sim.nc.subscribe("a", overflow="block", pending_msgs=4)
        sim.nc.flush()
        sim.fill(sub)
        start = zio.now()
        taken = []
        for message in sub:
            taken.append(message.data)
            CALLS[call](sim.nc)
            if len(taken) == 50:
                break
        assert taken == _numbers(50)
        assert zio.now() - start < 5

    simulated(test)


@pytest.mark.parametrize("call", CALLS)
def test_another_task_has_its_answer_too(call: str) -> None:
    """The consumer may wait for it: with a task for each message, say, and so many at most."""

    def test(sim: Sim) -> None:
        _answer(sim.other)
        sub = sim.nc.subscribe("a", overflow="block", pending_msgs=4)
        sim.nc.flush()
        sim.fill(sub)
        start = zio.now()
        CALLS[call](sim.nc)
        assert zio.now() - start < 0.05

    simulated(test)


def test_when_nobody_waits_any_more_the_reader_is_held_again() -> None:
    def test(sim: Sim) -> None:
        sub = sim.nc.subscribe("a", overflow="block", pending_msgs=4)
        sim.nc.flush()
        sim.fill(sub)
        sim.nc.flush()
        pending = sub.pending_msgs
        assert pending == 50
        sim.publish("a", *_numbers(10))
        assert sub.pending_msgs == pending

    simulated(test)


def test_a_request_that_was_given_up_does_not_keep_the_reader_going() -> None:
    def test(sim: Sim) -> None:
        sim.other.subscribe("mute")
        sim.other.flush()
        sub = sim.nc.subscribe("a", overflow="block", pending_msgs=4)
        sim.nc.flush()
        with pytest.raises(nats_zio.TimeoutError):
            sim.nc.request("mute", timeout=0.5)
        sim.server.pong = "drop"
        with pytest.raises(nats_zio.TimeoutError):
            sim.nc.flush(timeout=0.5)
        sim.server.pong = "send"
        for _ in sim.nc.request_many("mute", timeout=0.5):
            pass
        sim.fill(sub)
        assert sub.pending_msgs == 9

    simulated(test)


# A consumer that waits for another subscription.


def _next(sub: nats_zio.Subscription) -> bytes:
    return sub.next(timeout=3).data


def _select(sub: nats_zio.Subscription) -> bytes:
    return zio.select(sub, zio.after(3))[1].data  # type: ignore[no-any-return]


def _loop(sub: nats_zio.Subscription) -> bytes:
    for message in sub:
        return message.data
    raise AssertionError


@pytest.mark.parametrize("take_first", [_next, _select, _loop])
@pytest.mark.parametrize("take_second", [_next, _select, _loop])
def test_a_consumer_may_wait_for_another_subscription(
    take_first: Callable[[nats_zio.Subscription], bytes], take_second: Callable[[nats_zio.Subscription], bytes]
) -> None:
    def test(sim: Sim) -> None:
        first, second = sim.nc.subscribe("a", overflow="block", pending_msgs=4), sim.nc.subscribe("b")
        sim.nc.flush()
        sim.fill(first)
        sim.publish("b", b"x")
        take_first(first)
        start = zio.now()
        assert take_second(second) == b"x"
        assert zio.now() - start < 0.05

    simulated(test)


def test_one_that_has_waited_for_its_first_message_counts_as_a_consumer() -> None:
    def test(sim: Sim) -> None:
        first, second = sim.nc.subscribe("a", overflow="block", pending_msgs=4), sim.nc.subscribe("b")
        sim.nc.flush()
        taken: list[bytes] = []
        full = zio.Event()

        def consume() -> None:
            first.next(timeout=None)
            full.wait()
            taken.append(second.next(timeout=3).data)

        task = zio.spawn(consume)
        wait_all_parked()
        sim.fill(first)
        sim.publish("b", b"x")
        full.set()
        task.join()
        assert taken == [b"x"]

    simulated(test)


def test_a_consumer_in_a_thread_may_wait_for_another_subscription(
    background_runtime: object, nats_server: NatsServer, subject: str
) -> None:
    with nats_zio.connect(nats_server.url) as nc, nats_zio.connect(nats_server.url) as other:
        first, second = nc.subscribe(subject, overflow="block", pending_msgs=1), nc.subscribe(subject + ".b")
        nc.flush()
        for number in range(100):
            for data in _numbers(5):
                other.publish(subject, data)
                other.flush()
            eventually(lambda: first.pending_msgs > 2)
            other.publish(subject + ".b", b"%d" % number)
            other.flush()
            first.next()
            assert second.next(timeout=LIMIT).data == b"%d" % number
            while first.delivered < 5 * (number + 1):
                first.next()


def test_one_that_takes_no_more_may_wait_for_what_it_likes() -> None:
    def test(sim: Sim) -> None:
        first, second = sim.nc.subscribe("a", overflow="block", pending_msgs=4), sim.nc.subscribe("b")
        sim.nc.flush()
        sim.publish("a", b"x")

        def once() -> None:
            first.next()
            second.next(timeout=None)

        task = zio.spawn(once)
        wait_all_parked()
        sim.publish("a", *_numbers(6))
        for _ in range(6):
            first.next()
        sim.fill(first)
        assert first.pending_msgs == 9
        task.cancel()

    simulated(test)
