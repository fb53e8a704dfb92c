"""subscribe: which messages come, how they are taken, and how a subscription ends."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import nats_zio
import zio
from nats_zio import ClosedReason
from nats_zio.events import CallbackError
from nats_zio.testing import NatsServer
from tests.client.helpers import LIMIT, Peer, eventually, next_event
from zio.testing import wait_all_parked

Run = Callable[..., Any]


def _numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


# Which messages come.


@pytest.mark.parametrize(
    ("pattern", "subjects", "expected"),
    [
        ("{s}.*", ["{s}.a", "{s}.b", "{s}.a.b", "{s}"], ["{s}.a", "{s}.b"]),
        ("{s}.*.c", ["{s}.a.c", "{s}.a.b", "{s}.c"], ["{s}.a.c"]),
        ("{s}.>", ["{s}.a", "{s}", "{s}.a.b.c"], ["{s}.a", "{s}.a.b.c"]),
        ("{s}.größe", ["{s}.größe", "{s}.groesse"], ["{s}.größe"]),
    ],
)
def test_wildcards_choose_the_subjects(
    run: Run, nats_server: NatsServer, subject: str, pattern: str, subjects: list[str], expected: list[str]
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(pattern.format(s=subject)) as sub:
            for item in subjects:
                nc.publish(item.format(s=subject))
            nc.flush()
            assert sub.pending_msgs == len(expected)
            assert [message.subject for message in sub.next_batch(10)] == [item.format(s=subject) for item in expected]

    run(main)


def test_a_message_of_another_library_comes_whole(run: Run, nats_server: NatsServer, peer: Peer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            nc.flush()
            peer.publish(subject, b"data", reply="back", headers={"a": "1"})
            message = sub.next()
            assert (message.subject, message.data, message.reply) == (subject, b"data", "back")
            assert message.headers == {"a": "1"}
            assert message.headers["a"] == "1"

    run(main)


def test_several_subscriptions_to_one_subject_each_get_every_message(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            subs = [nc.subscribe(subject) for _ in range(3)]
            nc.publish(subject, b"x")
            assert [sub.next().data for sub in subs] == [b"x"] * 3

    run(main)


def test_a_queue_group_shares_the_messages_among_its_members(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    count = 300

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            members = [nc.subscribe(subject, queue="workers") for _ in range(3)]
            other = nc.subscribe(subject, queue="others")
            assert members[0].queue == "workers"
            nc.flush()
            peer.publish(subject, *_numbers(count))
            nc.flush()
            taken = [[message.data for message in member.next_batch(count)] for member in members]
            assert Counter(data for part in taken for data in part) == Counter(_numbers(count))
            assert min(map(len, taken)) > count / 10
            assert other.pending_msgs == count

    run(main)


def test_a_queue_group_is_shared_by_members_of_different_clients(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    count = 300

    def main() -> None:
        with nats_zio.connect(nats_server.url) as first, nats_zio.connect(nats_server.url) as second:
            members = [nc.subscribe(subject, queue="workers") for nc in (first, second, first)]
            alone = second.subscribe(subject)
            for nc in (first, second):
                nc.flush()
            peer.publish(subject, *_numbers(count))
            for nc in (first, second):
                nc.flush()
            taken = [[message.data for message in member.next_batch(count)] for member in members]
            assert Counter(data for part in taken for data in part) == Counter(_numbers(count))
            assert min(map(len, taken)) > count / 10
            assert alone.pending_msgs == count

    run(main)


@pytest.mark.parametrize("bad", ["", "a b", "a..b", "a.>.b", "\r\n", None, 3])
def test_a_bad_subject_is_refused(run: Run, nats_server: NatsServer, bad: Any) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            with pytest.raises(nats_zio.BadSubjectError):
                nc.subscribe(bad)
            nc.flush()
            assert not nc._core.subscriptions

    run(main)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"queue": "a b"}, nats_zio.BadSubjectError),
        ({"queue": ""}, nats_zio.BadSubjectError),
        ({"queue": "a\r\nPUB b 0"}, nats_zio.BadSubjectError),
        ({"queue": b"a"}, nats_zio.BadSubjectError),
        ({"queue": "q" * 5000}, nats_zio.BadSubjectError),
        ({"cb": 3}, nats_zio.OptionError),
        ({"workers": 0, "cb": print}, nats_zio.OptionError),
        ({"workers": 1.5, "cb": print}, nats_zio.OptionError),
        ({"workers": None, "cb": print}, nats_zio.OptionError),
        ({"workers": True, "cb": print}, nats_zio.OptionError),
        ({"workers": 2}, nats_zio.OptionError),
        ({"key": 3, "cb": print}, nats_zio.OptionError),
        ({"key": len}, nats_zio.OptionError),
        ({"max_msgs": 0}, nats_zio.OptionError),
        ({"max_msgs": True}, nats_zio.OptionError),
        ({"max_msgs": "1"}, nats_zio.OptionError),
        ({"pending_msgs": 0}, nats_zio.OptionError),
        ({"pending_msgs": -1}, nats_zio.OptionError),
        ({"pending_bytes": 0}, nats_zio.OptionError),
        ({"pending_bytes": 1.5}, nats_zio.OptionError),
        ({"overflow": "none"}, nats_zio.OptionError),
        ({"overflow": ""}, nats_zio.OptionError),
        ({"overflow": True}, nats_zio.OptionError),
        ({"confirm": 1}, nats_zio.OptionError),
        ({"confirm": None}, nats_zio.OptionError),
    ],
)
def test_a_bad_option_is_refused(
    run: Run, nats_server: NatsServer, options: dict[str, Any], error: type[Exception]
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            with pytest.raises(error):
                nc.subscribe("a", **options)
            assert not nc._core.subscriptions

    run(main)


# Taking messages.


def test_iteration_yields_messages_until_the_subscription_ends(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject)
            for data in _numbers(500):
                nc.publish(subject, data)
            taken = []
            for message in sub:
                taken.append(message.data)
                if len(taken) == 500:
                    sub.unsubscribe()
            assert taken == _numbers(500)

    run(main)


def test_what_a_loop_that_breaks_has_not_taken_is_still_there(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            for data in _numbers(10):
                nc.publish(subject, data)
            nc.flush()
            for message in sub:
                if message.data == b"3":
                    break
            assert sub.pending_msgs == 6
            assert [message.data for message in sub.next_batch(100)] == _numbers(10)[4:]

    run(main)


def test_next_raises_timeout_error_after_its_timeout(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url, request_timeout=0.02) as nc, nc.subscribe(subject) as sub:
            with pytest.raises(nats_zio.TimeoutError, match=subject) as caught:
                sub.next(timeout=0.01)
            assert isinstance(caught.value, TimeoutError)
            with pytest.raises(nats_zio.TimeoutError):
                sub.next()
            with pytest.raises(nats_zio.TimeoutError):
                sub.next(timeout=0)
            nc.publish(subject, b"x")
            assert sub.next(timeout=None).data == b"x"

    run(main)


def test_try_next_returns_none_when_nothing_is_pending(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject)
            assert sub.try_next() is None
            nc.publish(subject, b"x")
            nc.flush()
            message = sub.try_next()
            assert message is not None
            assert message.data == b"x"
            assert sub.try_next() is None
            sub.unsubscribe()
            with pytest.raises(nats_zio.SubscriptionClosedError):
                sub.try_next()

    run(main)


def test_next_batch_waits_for_one_and_takes_what_is_there(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            with pytest.raises(nats_zio.TimeoutError):
                sub.next_batch(5, timeout=0.01)
            for data in _numbers(7):
                nc.publish(subject, data)
            nc.flush()
            assert [message.data for message in sub.next_batch(5)] == _numbers(5)
            assert [message.data for message in sub.next_batch(5)] == _numbers(7)[5:]
            with pytest.raises(ValueError, match="max"):
                sub.next_batch(0)

    run(main)


def test_several_tasks_waiting_in_next_each_get_one_message(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            tasks = [zio.spawn(sub.next) for _ in range(5)]
            zio.testing.wait_all_parked()
            for data in _numbers(5):
                nc.publish(subject, data)
            assert sorted(task.join().data for task in tasks) == _numbers(5)

    zio.run(main)


def test_several_threads_iterating_get_every_message_once(
    background_runtime: object, nats_server: NatsServer, subject: str
) -> None:
    with nats_zio.connect(nats_server.url) as nc:
        sub = nc.subscribe(subject)
        taken: list[bytes] = []

        def take() -> None:
            taken.extend(message.data for message in sub)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for data in _numbers(5000):
            nc.publish(subject, data)
        nc.flush()
        sub.drain()
        for thread in threads:
            thread.join()
    assert sorted(taken, key=int) == _numbers(5000)


def test_a_cancelled_next_loses_no_message(nats_server: NatsServer, subject: str) -> None:
    count = 200

    def main() -> None:
        taken: list[bytes] = []

        def take() -> None:
            taken.append(sub.next(timeout=None).data)

        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            for data in _numbers(count):
                task = zio.spawn(take)
                zio.pause()
                nc.publish(subject, data)
                ping = zio.spawn(nc.flush)
                for _ in range(int(data) % 7):
                    zio.pause()
                task.cancel()
                ping.join()
                with zio.move_on_after(LIMIT):
                    zio.select(task, priority=True) if not task.done else None
            nc.flush()
            taken += [message.data for message in sub.next_batch(count)] if sub.pending_msgs else []
            assert sorted(taken, key=int) == _numbers(count)

    zio.Runtime(on_unhandled=lambda task, error: None).run(main)


def test_a_next_that_is_cancelled_when_it_has_its_message_already_returns_it(
    nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        taken: list[bytes] = []

        def take() -> None:
            taken.append(sub.next(timeout=None).data)

        def cancel_when_told() -> None:
            first.next(timeout=None)
            task.cancel()

        with nats_zio.connect(nats_server.url) as nc:
            first, sub = nc.subscribe(subject + ".first"), nc.subscribe(subject)
            for data in _numbers(20):
                task = zio.spawn(take)
                canceller = zio.spawn(cancel_when_told)
                zio.testing.wait_all_parked()
                nc.publish(subject + ".first")  # both come in one batch
                nc.publish(subject, data)
                canceller.join()
                nc.flush()
                message = sub.try_next()
                if message is not None:
                    taken.append(message.data)
            assert taken == _numbers(20)

    zio.Runtime(on_unhandled=lambda task, error: None).run(main)


def test_a_next_that_times_out_in_a_thread_loses_no_message(
    background_runtime: object, nats_server: NatsServer, subject: str
) -> None:
    with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
        taken = []
        for data in _numbers(100):
            nc.publish(subject, data)
            try:
                taken.append(sub.next(timeout=0.0003).data)
            except TimeoutError:
                continue
        nc.flush()
        while (message := sub.try_next()) is not None:
            taken.append(message.data)
        assert taken == _numbers(100)


def test_select_takes_from_whichever_is_ready_and_leaves_the_others(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            first, second, events = nc.subscribe(subject + ".1"), nc.subscribe(subject + ".2"), nc.events()
            nc.publish(subject + ".2", b"x")
            source, message = zio.select(first, second, events, timeout=LIMIT)
            assert source is second
            assert message.data == b"x"
            assert zio.select(first, second, late=zio.after(0.01))[0] == "late"
            with pytest.raises(TimeoutError):
                zio.select(first, second, timeout=0.01)
            nc.publish(subject + ".1", b"y")
            nc.publish(subject + ".2", b"z")
            nc.flush()
            got = {zio.select(first, second, timeout=LIMIT)[1].data for _ in range(2)}
            assert got == {b"y", b"z"}
            assert first.delivered == 1
            assert second.delivered == 2
            nc.force_reconnect()
            source, event = zio.select(first, events, timeout=LIMIT)
            assert source is events
            assert isinstance(event, nats_zio.events.Disconnected)

    run(main)


def test_select_over_several_that_are_always_ready_starves_none(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            subs = [nc.subscribe(f"{subject}.{number}") for number in range(5)]
            for number in range(5):
                for _ in range(200):
                    nc.publish(f"{subject}.{number}", b"x")
            nc.flush()
            taken = Counter(zio.select(*subs, timeout=LIMIT)[0] for _ in range(100))
            assert all(taken[sub] >= 10 for sub in subs)

    run(main)


def test_select_over_an_ended_subscription_raises_with_it_as_the_source(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            open_sub, ended = nc.subscribe(subject), nc.subscribe(subject)
            ended.unsubscribe()
            with pytest.raises(zio.ChannelClosed) as caught:
                zio.select(open_sub, ended)
            assert caught.value.source is ended

    run(main)


# Handlers.


def test_a_handler_gets_the_messages_in_order_one_at_a_time(run: Run, nats_server: NatsServer, subject: str) -> None:
    count = 300

    def main() -> None:
        taken: list[bytes] = []
        inside: list[int] = []
        finished = threading.Event() if run is not zio.run else zio.Event()

        def handle(message: nats_zio.Message) -> None:
            inside.append(1)
            assert len(inside) == 1
            if int(message.data) % 50 == 0:
                nc.rtt()  # waits
            inside.pop()
            taken.append(message.data)
            if len(taken) == count:
                finished.set()

        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=handle)
            for data in _numbers(count):
                nc.publish(subject, data)
            assert finished.wait(timeout=LIMIT)
        assert taken == _numbers(count)

    run(main)


def test_an_error_in_a_handler_is_an_event_and_the_next_message_is_handled(
    run: Run, nats_server: NatsServer, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    def main() -> None:
        taken: list[bytes] = []

        def handle(message: nats_zio.Message) -> None:
            taken.append(message.data)
            if message.data == b"1":
                raise KeyError("broken")

        with nats_zio.connect(nats_server.url) as nc:
            events = nc.events()
            sub = nc.subscribe(subject, cb=handle)
            for data in _numbers(3):
                nc.publish(subject, data)
            event = next_event(events, CallbackError)
            assert event.sub is sub
            assert event.message.data == b"1"
            assert isinstance(event.error, KeyError)
        assert taken == _numbers(3)

    run(main)
    assert "handler" in caplog.text
    assert "KeyError" in caplog.text


def test_the_messages_of_a_handler_cannot_be_taken_otherwise(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=print)
            for take in (sub.next, sub.try_next, lambda: sub.next_batch(1), lambda: iter(sub), lambda: zio.select(sub)):
                with pytest.raises(nats_zio.Error, match="handler"):
                    take()

    run(main)


def test_handlers_of_several_subscriptions_run_at_the_same_time(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        order: list[str] = []
        go, done = zio.Event(), zio.Event()

        def first(message: nats_zio.Message) -> None:
            assert go.wait(timeout=LIMIT)
            order.append("first")
            done.set()

        def second(message: nats_zio.Message) -> None:
            order.append("second")
            go.set()

        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject + ".1", cb=first)
            nc.subscribe(subject + ".2", cb=second)
            nc.publish(subject + ".1")
            nc.publish(subject + ".2")
            assert done.wait(timeout=LIMIT)
        assert order == ["second", "first"]

    run(main)


def test_a_handler_may_use_its_own_client(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        answers: list[bytes] = []
        done = zio.Event()

        def ask(message: nats_zio.Message) -> None:
            answers.append(nc.request(subject + ".upper", message.data).data)
            done.set()

        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject + ".upper", cb=lambda message: message.respond(message.data.upper()))
            nc.subscribe(subject, cb=ask)
            nc.publish(subject, b"abc")
            assert done.wait(timeout=LIMIT)
        assert answers == [b"ABC"]

    run(main)


# Ending.


def test_max_msgs_ends_the_subscription_after_so_many(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, max_msgs=3)
            nc.flush()
            peer.publish(subject, *_numbers(10))
            assert [message.data for message in sub] == _numbers(3)
            assert sub.closed_reason is ClosedReason.LIMIT_REACHED
            assert sub.delivered == 3
            assert not nc._core.subscriptions
            nc.flush()
            assert nc.stats.in_msgs == 3

    run(main)


def test_unsubscribe_after_counts_from_the_beginning(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject)
            nc.flush()
            peer.publish(subject, *_numbers(2))
            nc.flush()
            sub.unsubscribe(after=4)
            nc.flush()
            assert sub.closed_reason is None
            peer.publish(subject, *_numbers(10)[2:])
            assert [message.data for message in sub] == _numbers(4)
            assert sub.closed_reason is ClosedReason.LIMIT_REACHED
            nc.flush()
            assert nc.stats.in_msgs == 4

    run(main)


def test_what_was_on_its_way_beyond_the_limit_is_not_delivered(
    nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject)
            nc.flush()
            peer.publish(subject, *_numbers(10))  # blocks the loop: they are not read yet
            sub.unsubscribe(after=4)
            assert [message.data for message in sub] == _numbers(4)
            assert (sub.closed_reason, sub.delivered) == (ClosedReason.LIMIT_REACHED, 4)

    zio.run(main)


@pytest.mark.parametrize("changes", [(5, 3), (2, 5), (4, 4), (9, 1, 3)])
def test_the_last_unsubscribe_after_counts(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str, changes: tuple[int, ...]
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, max_msgs=7)
            for after in changes:
                sub.unsubscribe(after=after)
            nc.flush()
            peer.publish(subject, *_numbers(10))
            assert [message.data for message in sub] == _numbers(changes[-1])
            assert sub.closed_reason is ClosedReason.LIMIT_REACHED

    run(main)


def test_a_limit_is_shared_by_all_who_wait(run: Run, nats_server: NatsServer, subject: str) -> None:
    waiting, limit = 12, 5

    def main() -> None:
        outcomes: list[bytes | type[BaseException]] = []

        def take() -> None:
            try:
                outcomes.append(sub.next(timeout=LIMIT).data)
            except nats_zio.Error as exc:
                outcomes.append(type(exc))

        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, max_msgs=limit)
            if run is zio.run:
                tasks = [zio.spawn(take) for _ in range(waiting)]
                wait_all_parked()
            else:
                threads = [threading.Thread(target=take) for _ in range(waiting)]
                for thread in threads:
                    thread.start()
            for data in _numbers(2 * waiting):
                nc.publish(subject, data)
            for one in tasks if run is zio.run else threads:
                one.join()
            assert sorted(outcome for outcome in outcomes if isinstance(outcome, bytes)) == _numbers(limit)
            assert outcomes.count(nats_zio.SubscriptionClosedError) == waiting - limit
            assert (sub.delivered, sub.pending_msgs) == (limit, 0)

    run(main)


def test_a_handler_is_called_for_so_many_and_no_more(
    run: Run, nats_server: NatsServer, peer: Peer, subject: str
) -> None:
    def main() -> None:
        taken: list[bytes] = []
        with nats_zio.connect(nats_server.url) as nc:
            nc.subscribe(subject, cb=lambda message: taken.append(message.data), max_msgs=4)
            nc.flush()
            peer.publish(subject, *_numbers(9))
        assert taken == _numbers(4)

    run(main)


def test_unsubscribe_after_what_has_come_already_ends_at_once_and_keeps_it(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject)
            for data in _numbers(5):
                nc.publish(subject, data)
            nc.flush()
            sub.unsubscribe(after=2)
            assert sub.closed_reason is ClosedReason.LIMIT_REACHED
            assert [message.data for message in sub] == _numbers(5)

    run(main)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_unsubscribe_after_a_bad_count_is_refused(run: Run, nats_server: NatsServer, subject: str, bad: Any) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            with pytest.raises(nats_zio.OptionError):
                sub.unsubscribe(after=bad)
            assert sub.closed_reason is None

    run(main)


def test_unsubscribe_drops_what_is_pending_and_ends_waits_and_loops(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject)
            nc.publish(subject)
            nc.flush()
            assert sub.pending_msgs == 1
            sub.unsubscribe()
            assert sub.pending_msgs == 0
            assert sub.delivered == 0
            with pytest.raises(nats_zio.SubscriptionClosedError) as caught:
                sub.next()
            assert caught.value.reason is ClosedReason.UNSUBSCRIBED
            assert caught.value.source is sub
            assert list(sub) == []
            sub.unsubscribe()

            sub = nc.subscribe(subject)
            waiting = zio.spawn(sub.next)
            looping = zio.spawn(lambda: list(sub))
            zio.testing.wait_all_parked()
            sub.unsubscribe()
            with pytest.raises(nats_zio.SubscriptionClosedError):
                waiting.join()
            assert looping.join() == []

    zio.run(main)


def test_the_server_forgets_an_unsubscribed_subscription(run: Run, server: NatsServer) -> None:
    def main() -> None:
        with nats_zio.connect(server.url) as nc:
            with nc.subscribe("one"), nc.subscribe("two"):
                nc.flush()
                assert server.monitor("/subsz?subs=1")["num_subscriptions"] >= 2
                names = {entry["subject"] for entry in server.monitor("/subsz?subs=1")["subscriptions_list"]}
                assert {"one", "two"} <= names
            nc.flush()
            names = {entry["subject"] for entry in server.monitor("/subsz?subs=1").get("subscriptions_list") or ()}
            assert not names & {"one", "two"}

    run(main)


def test_close_ends_a_subscription_keeps_what_is_pending_and_ends_loops_quietly(
    run: Run, nats_server: NatsServer, subject: str
) -> None:
    def main() -> None:
        nc = nats_zio.connect(nats_server.url)
        sub = nc.subscribe(subject)
        nc.publish(subject, b"x")
        nc.flush()
        nc.close()
        assert sub.closed_reason is ClosedReason.CLIENT_CLOSED
        assert [message.data for message in sub] == [b"x"]
        with pytest.raises(nats_zio.ConnectionClosedError) as caught:
            sub.next()
        assert isinstance(caught.value, nats_zio.SubscriptionClosedError)

    run(main)


def test_a_client_without_use_for_them_keeps_no_subscriptions(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            for _ in range(50):
                with nc.subscribe(subject, max_msgs=1) as sub:
                    nc.publish(subject)
                    sub.next()
            assert not nc._core.subscriptions

    run(main)


# Counters.


def test_the_counters_tell_what_is_pending_taken_and_dropped(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, pending_msgs=3)
            for _ in range(2):
                nc.publish(subject, b"12345")
            nc.publish(subject, b"12345", headers={"a": "b"})
            nc.publish(subject, b"1234567")
            nc.flush()
            header = len(nats_zio.protocol.encode_headers({"a": "b"}))
            assert (sub.pending_msgs, sub.pending_bytes) == (3, 15 + header)
            assert (sub.delivered, sub.dropped, sub.dropped_bytes) == (0, 1, 7)
            sub.next()
            assert (sub.pending_msgs, sub.pending_bytes) == (2, 10 + header)
            assert (sub.delivered, sub.dropped) == (1, 1)
            sub.unsubscribe()
            assert (sub.pending_msgs, sub.pending_bytes, sub.delivered, sub.dropped) == (0, 0, 1, 1)

    run(main)


def test_delivered_counts_what_a_handler_took(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject, cb=lambda message: None)
            for _ in range(10):
                nc.publish(subject)
            nc.flush()
            eventually(lambda: sub.delivered == 10)
            assert sub.pending_msgs == 0

    run(main)


def test_a_wait_that_is_cut_off_changes_no_counter(run: Run, nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        def counters() -> tuple[int, ...]:
            return sub.pending_msgs, sub.pending_bytes, sub.delivered, sub.dropped, sub.dropped_bytes

        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            for _ in range(3):
                with pytest.raises(nats_zio.TimeoutError):
                    sub.next(timeout=0.001)
                with zio.move_on_after(0.001):
                    sub.next(timeout=None)
                with zio.move_on_after(0.001):
                    list(sub)
                with zio.move_on_after(0.001):
                    zio.select(sub)
                assert counters() == (0, 0, 0, 0, 0)

    run(main)


def test_waits_that_time_out_gather_nowhere(nats_server: NatsServer, subject: str) -> None:
    def main() -> None:
        def waiters() -> int:
            gc.collect()
            return sum(isinstance(item, zio.lowlevel.Waiter) for item in gc.get_objects())

        with nats_zio.connect(nats_server.url) as nc, nc.subscribe(subject) as sub:
            before = waiters()
            for _ in range(1000):
                with pytest.raises(nats_zio.TimeoutError):
                    sub.next(timeout=0)
            assert waiters() < before + 100

    zio.run(main)


# Tracebacks.


def test_the_errors_of_a_subscription_have_no_context(run: Run, nats_server: NatsServer, subject: str) -> None:
    """An uncaught one would print the traceback of how we looked for a message as well."""

    def main() -> None:
        with nats_zio.connect(nats_server.url) as nc:
            sub = nc.subscribe(subject)
            nc.subscribe(subject + ".mute")
            replies = nc.request_many(subject + ".mute", timeout=None)
            calls: list[Callable[[], object]] = [
                lambda: sub.next(timeout=0.001),
                lambda: sub.next_batch(2, timeout=0.001),
            ]
            for call in calls:
                with pytest.raises(nats_zio.TimeoutError) as late:
                    call()
                assert late.value.__context__ is None
            sub.unsubscribe()
            ended: list[Callable[[], object]] = [sub.next, sub.try_next, lambda: zio.select(sub)]
            for call in ended:
                with pytest.raises(nats_zio.SubscriptionClosedError) as over:
                    call()
                assert over.value.__context__ is None
            # A loop and replies that the end of the client cuts short.
            refused = nc.subscribe(subject)
            refused.close(nats_zio.ClosedReason.SLOW_CONSUMER, nats_zio.SlowConsumerError(subject, 1))
            with pytest.raises(nats_zio.SlowConsumerError) as slow:
                list(refused)
            assert slow.value.__context__ is None
            nc.close()
            with pytest.raises(nats_zio.ConnectionClosedError) as closed:
                list(replies)
            assert closed.value.__context__ is None

    run(main)
