"""``select``: one winner, and the losers lose nothing (T24, T34 to T38)."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import pytest

import zio
from zio import Channel, ChannelClosed, Event, Future, WouldBlock, select
from zio.testing import run_virtual, wait_all_parked

# Which one wins.


def test_priority_takes_the_first_ready_in_the_order_given() -> None:
    """T34."""

    def main() -> None:
        first, second = Channel[int](10), Channel[int](10)
        for item in range(10):
            first.send(item)
            second.send(item)
        for item in range(10):
            assert select(first, second, priority=True) == (first, item)
        assert select(first, second, priority=True) == (second, 0)

    zio.run(main)


def channels_with(count: int, *, items: int) -> list[Channel[int]]:
    channels = [Channel[int](items) for _ in range(count)]
    for channel in channels:
        for item in range(items):
            channel.send(item)
    return channels


def test_ready_sources_take_turns() -> None:
    """T34: nobody starves."""

    def main() -> None:
        channels = channels_with(3, items=600)
        winners = [select(*channels)[0] for _ in range(600)]
        for channel in channels:
            assert 150 < winners.count(channel) < 250

    zio.Runtime(seed=1).run(main)


@pytest.mark.parametrize("pattern", ["by turns", "the second when the first has won"])
def test_no_source_starves_whatever_else_the_task_selects_on(pattern: str) -> None:
    def main() -> None:
        first, second, third, fourth = channels = channels_with(4, items=600)
        served = dict.fromkeys(channels, 0)
        for _ in range(600):
            winner = select(first, second)[0]
            served[winner] += 1
            if pattern == "by turns" or winner is first:
                served[select(third, fourth)[0]] += 1
        assert min(served.values()) > 70, served.values()

    zio.Runtime(seed=1).run(main)


def test_who_is_served_depends_on_the_seed_alone() -> None:
    def main() -> list[int]:
        channels = channels_with(3, items=100)
        return [channels.index(select(*channels)[0]) for _ in range(100)]

    def winners(seed: int) -> list[int]:
        return zio.Runtime(seed=seed).run(main)

    assert winners(1) == winners(1)
    assert winners(1) != winners(2)


def test_a_named_source_is_told_by_its_name() -> None:
    """T34."""

    def main() -> None:
        news, stop = Channel[str](1), Event()
        news.send("hello")
        assert select(news=news, stop=stop) == ("news", "hello")
        stop.set()
        assert select(news=news, stop=stop) == ("stop", True)

    zio.run(main)


def test_each_kind_of_source_gives_its_value() -> None:
    """T34: ready before the call, and completing while it waits."""

    def main() -> None:
        gate = Event()
        received, room, future, event = Channel[str](1), Channel[str](1), Future[str](), Event()
        room.send("in the way")
        task = zio.spawn(lambda: gate.wait() and "result")
        completions: list[tuple[Any, Any, Any]] = [
            (received, lambda: received.send("item"), "item"),
            (room.send_op("offer"), room.recv, None),
            (task, gate.set, "result"),
            (future, lambda: future.set_result("value"), "value"),
            (event, event.set, True),
        ]
        never = Channel[str]()
        for source, complete, value in completions:
            waiting = zio.spawn(select, never, source)
            wait_all_parked()
            assert not waiting.done
            complete()
            assert waiting.join() == (source, value)
        assert room.recv() == "offer"
        for source, value in ((task, "result"), (future, "value"), (event, True)):
            assert select(never, source) == (source, value)

    zio.run(main)


def test_after_completes_at_its_time_and_stays_ready() -> None:
    """T34."""

    def main() -> None:
        tick = zio.after(3)
        assert select(Channel[int](), tick) == (tick, 3)
        assert zio.now() == 3
        assert select(tick) == (tick, 3)
        assert zio.now() == 3

    run_virtual(main)


def test_after_made_before_a_run_counts_from_there() -> None:
    tick = zio.after(100)

    def main() -> float:
        assert select(Event(), tick)[0] is tick
        assert select(tick)[0] is tick  # it stays ready
        return zio.now()

    assert 90 < run_virtual(main) <= 100


def test_what_is_left_of_after_is_waited_for_in_the_next_run() -> None:
    def first() -> zio.selecting.After:
        tick = zio.after(100)
        with pytest.raises(TimeoutError):
            select(tick, timeout=40)
        return tick

    def second(tick: zio.selecting.After) -> float:
        select(tick)
        return zio.now()

    tick = run_virtual(first)
    assert run_virtual(second, tick) == 60


def test_after_is_felt_in_every_loop_that_waits_for_it() -> None:
    both_wait = threading.Barrier(2)

    def main(tick: zio.selecting.After) -> bool:
        zio.spawn(zio.to_thread, both_wait.wait, 10)
        return select(zio.Channel[int](), tick)[0] is tick

    def another_run() -> None:
        felt.append(zio.run(main, tick))

    felt: list[bool] = []
    tick = zio.after(0.3)
    thread = threading.Thread(target=another_run, daemon=True)
    thread.start()
    felt.append(zio.run(main, tick))
    thread.join(10)
    assert felt == [True, True]


# The losers.


def test_losers_have_nobody_waiting_left() -> None:
    """T34."""

    def main() -> None:
        with ExitStack() as stack:
            check(stack)

    def check(stack: ExitStack) -> None:
        winner, loser, offered = Channel[int](), Channel[int](), Channel[int]()
        event, future, gate = Event(), Future[int](), Event()
        task, moment = zio.spawn(gate.wait), zio.after(1000)
        notify, broadcast, group = zio.Notify(), zio.Broadcast[int](1), stack.enter_context(zio.TaskGroup())
        group.spawn(gate.wait)
        receiver = broadcast.subscribe()
        losers = loser, offered.send_op(1), event, future, task, moment, notify, receiver, group
        waiting = zio.spawn(select, winner, *losers)
        wait_all_parked()
        assert group._idlers is not None
        assert len(loser._receivers) == 1  # it was there
        winner.send(1)
        assert waiting.join() == (winner, 1)
        queues = winner._receivers, loser._receivers, offered._senders, event._waiters, future._waiters
        for queue in (*queues, notify._waiters, receiver._waiters, group._idlers):
            assert len(queue.items) == 0
        assert not broadcast._awaited
        assert task._waiters == []
        assert not moment._armed
        gate.set()

    zio.run(main)


def test_a_losing_channel_keeps_its_item() -> None:
    """T34."""

    def main() -> None:
        first, second = Channel[str](1), Channel[str](1)
        first.send("first")
        second.send("second")
        assert select(first, second, priority=True) == (first, "first")
        assert second.recv() == "second"

    zio.run(main)


def test_a_losing_send_offers_nothing_any_more() -> None:
    """T34."""

    def main() -> None:
        event, channel = Event(), Channel[str]()
        waiting = zio.spawn(select, event, channel.send_op("item"))
        wait_all_parked()
        event.set()
        waiting.join()
        with pytest.raises(WouldBlock):
            channel.try_recv()

    zio.run(main)


def test_a_losing_waiter_does_not_take_an_item_from_the_next() -> None:
    """T34: what comes after the select goes to those who wait still."""

    def main() -> None:
        event, channel = Event(), Channel[str]()
        waiting = zio.spawn(select, event, channel)
        wait_all_parked()
        receiver = zio.spawn(channel.recv)
        wait_all_parked()
        event.set()
        channel.try_send("item")
        assert waiting.join() == (event, True)
        assert receiver.join() == "item"

    zio.run(main)


@pytest.mark.slow
def test_two_channels_ready_at_once_lose_and_double_nothing() -> None:
    """T35: 100,000 times."""

    def main() -> None:
        count = 50_000
        channels = Channel[int](1), Channel[int]()
        received: dict[Channel[int], list[int]] = {channel: [] for channel in channels}

        def produce(channel: Channel[int]) -> None:
            for item in range(count):
                channel.send(item)

        for channel in channels:
            zio.spawn(produce, channel)
        for _ in range(2 * count):
            channel, item = select(*channels)
            received[channel].append(item)
        for channel in channels:
            assert received[channel] == list(range(count))
            with pytest.raises(WouldBlock):
                channel.try_recv()

    zio.run(main)


@pytest.mark.parametrize("seed", range(20))
def test_selects_that_compete_over_both_ends_lose_and_double_nothing(seed: int) -> None:
    """T35: receivers and senders in select, cut short now and then."""

    def main() -> None:
        left, right = Channel[int](), Channel[int](1)
        random = zio.lowlevel.here().loop.runtime.random
        sent: list[int] = []
        received: list[int] = []

        def produce(first: int) -> None:
            for item in range(first, first + 50):
                with zio.move_on_after(random.choice([None, 0.001])):
                    select(left.send_op(item), right.send_op(item))
                    sent.append(item)

        def consume() -> None:
            while True:
                with zio.move_on_after(random.choice([None, 0.001])):
                    try:
                        received.append(select(left, right, timeout=random.choice([None, 0.001]))[1])
                    except TimeoutError:
                        zio.sleep(0.001)
                    except ChannelClosed:
                        return

        consumers = [zio.spawn(consume) for _ in range(3)]
        with zio.TaskGroup() as producers:
            for number in range(3):
                producers.spawn(produce, number * 100)
        received.extend(right.try_recv() for _ in range(len(right)))
        left.close()
        right.close()
        for consumer in consumers:
            consumer.join()
        assert sorted(received) == sorted(sent)

    run_virtual(main, seed=seed)


def test_of_two_that_complete_in_one_tick_the_first_wins_and_wakes_once() -> None:
    """T36: the second finds the waiter claimed."""

    def main() -> None:
        event, future, log = Event(), Future[str](), list[object]()

        def wait() -> None:
            log.append(select(event, future))
            began = zio.now()
            zio.sleep(10)
            log.append(zio.now() - began)

        waiting = zio.spawn(wait)
        wait_all_parked()
        event.set()
        future.set_result("late")
        waiting.join()
        assert log == [(event, True), 10]
        assert select(future) == (future, "late")

    run_virtual(main)


# Cancels and timeouts beside the winner.


@pytest.mark.parametrize("order", ["item first", "cancel first"])
def test_a_cancel_beside_the_item_loses_nothing(order: str) -> None:
    """T36: the item is either returned or still in the channel."""

    def main() -> None:
        channel, scope, got = Channel[str](1), zio.CancelScope(), []

        def wait() -> None:
            with scope:
                got.append(select(channel, Event()))

        waiting = zio.spawn(wait)
        wait_all_parked()
        moves = [lambda: channel.try_send("item"), scope.cancel]
        for move in moves if order == "item first" else reversed(moves):
            move()
        waiting.join()
        if order == "item first":
            assert got == [(channel, "item")]
            assert len(channel) == 0
        else:
            assert got == []
            assert channel.try_recv() == "item"

    zio.run(main)


def test_a_cancel_beside_a_taken_offer_has_sent_it() -> None:
    """T36, for a send."""

    def main() -> None:
        channel, scope, sent = Channel[str](), zio.CancelScope(), []

        def wait() -> None:
            with scope:
                offer = channel.send_op("item")
                sent.append(select(offer, Event())[0] is offer)

        waiting = zio.spawn(wait)
        wait_all_parked()
        assert channel.try_recv() == "item"
        scope.cancel()
        waiting.join()
        assert sent == [True]

    zio.run(main)


def test_a_result_beside_the_timeout_wins() -> None:
    """T24, T38: for each kind of source."""

    def main() -> None:
        def at(seconds: float, act: Any, *args: Any) -> None:
            def later() -> None:
                zio.sleep(seconds)
                act(*args)

            zio.spawn(later)

        never = Channel[int]()
        channel, event, future, full = Channel[str](1), Event(), Future[str](), Channel[str](1)
        full.send("in the way")
        offer = full.send_op("offer")
        at(1, channel.try_send, "item")
        assert select(never, channel, timeout=1) == (channel, "item")
        at(1, event.set)
        assert select(never, event, timeout=1) == (event, True)
        at(1, future.set_result, "value")
        assert select(never, future, timeout=1) == (future, "value")
        at(1, full.try_recv)
        assert select(never, offer, timeout=1) == (offer, None)
        task = zio.spawn(zio.sleep, 1)
        assert select(never, task, timeout=1) == (task, None)
        assert zio.now() == 5

    run_virtual(main)


@pytest.mark.parametrize("seed", range(10))
def test_a_result_beside_the_timeout_wins_in_any_order_of_ready_tasks(seed: int) -> None:
    """T38."""

    def main() -> None:
        for _ in range(20):
            event = Event()

            def set_it(event: Event = event) -> None:
                zio.sleep(1)
                event.set()

            task = zio.spawn(set_it)
            assert select(event, timeout=1) == (event, True)
            task.join()

    run_virtual(main, seed=seed)


def test_a_timeout_raises_and_takes_nothing() -> None:
    """T38."""

    def main() -> None:
        channel = Channel[str]()
        with pytest.raises(TimeoutError):
            select(channel, Event(), timeout=2)
        assert zio.now() == 2
        with pytest.raises(WouldBlock):
            channel.try_send("to nobody")

    run_virtual(main)


def test_a_timeout_of_zero_polls_once() -> None:
    """T38."""

    def main() -> None:
        channel = Channel[str](1)
        with pytest.raises(TimeoutError):
            select(channel, timeout=0)
        channel.send("item")
        assert select(channel, timeout=0) == (channel, "item")

    zio.run(main)


# What fails.


def test_the_own_task_is_no_source() -> None:
    """T37: it would wait for itself."""

    def main() -> None:
        with pytest.raises(RuntimeError, match="itself"):
            select(zio.current_task(), timeout=1)

    zio.run(main)


def test_a_closed_channel_raises_and_is_named() -> None:
    """T34: whether it was closed before or while select waits, for receiving and for sending."""

    def main() -> None:
        before, meanwhile = Channel[int](), Channel[int]()
        before.close()
        for source in (before, before.send_op(1)):
            with pytest.raises(ChannelClosed) as raised:
                select(Event(), source)
            assert raised.value.source is before
        waiting = [zio.spawn(select, Event(), meanwhile), zio.spawn(select, Event(), meanwhile.send_op(1))]
        wait_all_parked()
        # Sender and receiver in two selects meet: that is a winner for both.
        assert [task.done for task in waiting] == [True, True]
        waiting = [zio.spawn(select, Event(), meanwhile) for _ in range(2)]
        wait_all_parked()
        meanwhile.close()
        for task in waiting:
            with pytest.raises(ChannelClosed) as raised:
                task.join()
            assert raised.value.source is meanwhile

    zio.run(main)


def test_a_failed_task_or_future_raises_its_error() -> None:
    """T34."""

    def main() -> None:
        def fail() -> None:
            zio.sleep(1)
            raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            select(Event(), zio.spawn(fail))
        future = Future[int]()
        future.set_exception(KeyError("gone"))
        with pytest.raises(KeyError, match="gone"):
            select(Event(), future)

    run_virtual(main)


@pytest.mark.parametrize("source", [None, 1, "channel", object()])
def test_what_is_no_source_is_refused(source: object) -> None:
    """T34."""

    def main() -> None:
        with pytest.raises(TypeError, match="cannot select"):
            select(Event(), source)

    zio.run(main)


def test_select_without_sources_is_refused() -> None:
    """T34."""

    def main() -> None:
        with pytest.raises(ValueError, match="at least one"):
            select(timeout=1)

    zio.run(main)


def test_the_same_channel_twice_is_taken_from_once() -> None:
    """T34: for receiving, and for receiving and sending at once."""

    def main() -> None:
        channel = Channel[str](2)
        waiting = zio.spawn(select, channel, channel)
        wait_all_parked()
        channel.send("one")
        channel.send("two")
        assert waiting.join() == (channel, "one")
        assert channel.recv() == "two"
        direct = Channel[str]()
        both = zio.spawn(select, direct, direct.send_op("own"))
        wait_all_parked()
        assert direct.recv() == "own"
        assert both.join()[1] is None

    zio.run(main)


def test_a_select_that_is_refused_leaves_nothing_armed() -> None:
    """T34: two sends to one channel in one select are an error, and the sources before it take no harm."""

    def main() -> None:
        first: zio.Channel[int] = zio.Channel(1)
        full: zio.Channel[int] = zio.Channel(0)
        with pytest.raises(ValueError, match="two sends"):
            zio.select(first, full.send_op(1), full.send_op(2))
        first.send(7)  # nobody waits: it stays in the buffer
        assert len(first) == 1
        with pytest.raises(zio.WouldBlock):
            full.try_recv()

    zio.run(main)
