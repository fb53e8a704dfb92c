"""The loop: who runs when, fairness, how little is switched and polled, and what runs before every poll."""

from __future__ import annotations

import contextlib
import gc
import math
import resource
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import greenlet
import pytest

import zio
from zio.lowlevel import Fiber, Loop, Waiter, here
from zio.testing import run_virtual, wait_all_parked


def loopback() -> tuple[zio.net.Stream, zio.net.Stream]:
    """Both ends of a TCP connection; what is sent at one is readable at the other at once."""
    with zio.net.listen("127.0.0.1", 0) as listener:
        accepted = zio.spawn(listener.accept)
        return zio.net.connect("127.0.0.1", listener.port), accepted.join()


@contextlib.contextmanager
def counted_polls(loop: Loop) -> Iterator[list[float | None]]:
    """The timeouts of the polls (each a system call) that the loop makes meanwhile; the real poller does the work."""
    polls: list[float | None] = []
    poll = loop.poller.poll

    def counted(timeout: float | None, ready: deque[Any]) -> None:
        polls.append(timeout)
        poll(timeout, ready)

    loop.poller.poll = counted  # type: ignore[method-assign]
    try:
        yield polls
    finally:
        loop.poller.poll = poll  # type: ignore[method-assign]


def ping_pong(turns: int) -> None:
    there: zio.Channel[int] = zio.Channel()
    back: zio.Channel[int] = zio.Channel()

    def pong() -> None:
        for item in there:
            back.send(item)

    task = zio.spawn(pong)
    for turn in range(turns):
        there.send(turn)
        assert back.recv() == turn
    there.close()
    task.join()


# Order and fairness.


def test_tasks_start_in_the_order_they_were_spawned() -> None:
    order: list[int] = []

    def main() -> bool:
        for number in range(100):
            zio.spawn(order.append, number)
        wait_all_parked()
        return type(here().loop.ready) is deque

    in_order = zio.run(main)
    assert sorted(order) == list(range(100))
    if in_order:  # not shuffled by the environment
        assert order == list(range(100))


def test_spawn_does_not_run_the_task_before_the_spawner_waits() -> None:
    def main() -> None:
        ran: list[int] = []
        task = zio.spawn(ran.append, 1)
        assert ran == []
        task.join()
        assert ran == [1]

    zio.run(main)


def test_pause_lets_every_ready_task_run() -> None:
    def main() -> None:
        counts = [0] * 3

        def count(number: int) -> None:
            while True:
                counts[number] += 1
                zio.pause()

        with zio.TaskGroup() as group:
            for number in range(3):
                group.spawn(count, number)
            for _ in range(3000):
                zio.pause()
            group.cancel()
        assert min(counts) > 2000

    zio.run(main)


def test_every_single_pause_lets_the_other_task_run() -> None:
    """Also the one that finds the budget spent."""
    order: list[str] = []

    def main() -> bool:
        def turns(name: str) -> None:
            for _ in range(1000):
                order.append(name)
                zio.pause()

        with zio.TaskGroup() as group:
            group.spawn(turns, "a")
            group.spawn(turns, "b")
        return type(here().loop.ready) is deque

    if zio.run(main):  # shuffled, the same task may have the next turn too
        assert order == ["a", "b"] * 1000
    assert sorted(order) == ["a"] * 1000 + ["b"] * 1000


def test_with_a_seed_the_order_is_random_and_repeatable() -> None:
    """T7"""

    def order(seed: int | None) -> list[int]:
        ran: list[int] = []

        def main() -> None:
            for number in range(20):
                zio.spawn(ran.append, number)
            wait_all_parked()

        run_virtual(main, seed=seed)
        return ran

    orders = [order(seed) for seed in range(5)]
    assert orders == [order(seed) for seed in range(5)]
    assert len({tuple(ran) for ran in orders}) == 5
    assert all(sorted(ran) == list(range(20)) for ran in orders)


def spin_on_a_socket(done: list[Any]) -> None:
    one, other = loopback()
    with one, other:
        while not done:
            one.send_all(b"x")
            assert other.recv(10) == b"x"


def spin_on_a_channel(done: list[Any]) -> None:
    channel: zio.Channel[int] = zio.Channel(1)
    while not done:
        channel.send(1)
        channel.recv()


def spin_on_locks(done: list[Any]) -> None:
    lock, event, semaphore = zio.Lock(), zio.Event(), zio.Semaphore()
    event.set()
    while not done:
        with lock, semaphore:
            event.wait()


def spin_on_joins(done: list[Any]) -> None:
    ended = zio.spawn(lambda: 1)
    while not done:
        ended.join()


def spin_on_maybe_pause(done: list[Any]) -> None:
    while not done:
        zio.maybe_pause()


def spin_on_pause(done: list[Any]) -> None:
    while not done:
        zio.pause()


def spin_on_select(done: list[Any]) -> None:
    event = zio.Event()
    event.set()
    while not done:
        zio.select(event)


def spin_on_sends(done: list[Any]) -> None:
    channel: zio.Channel[int] = zio.Channel(math.inf)
    while not done:
        channel.send(1)


def spin_on_send_and_try_recv(done: list[Any]) -> None:
    channel: zio.Channel[int] = zio.Channel(4)
    while not done:
        channel.send(1)
        channel.try_recv()


def spin_on_new_channels(done: list[Any]) -> None:
    while not done:
        zio.Channel[int](1).send(1)


def two_tasks_that_wake_each_other(done: list[Any]) -> None:
    there: zio.Channel[int] = zio.Channel()

    def echo() -> None:
        while True:
            there.recv()

    task = zio.spawn(echo)
    while not done:
        there.send(1)
    task.cancel()


def two_tasks_with_a_primitive_of_their_own(done: list[Any]) -> None:
    """Made of waiters alone, which take nothing from the budget before they wait."""
    parked: list[Waiter] = []

    def turns() -> None:
        loop = here().loop
        while not done:
            if parked:
                parked.pop().wake()
            waiter = Waiter(here(), "my turn")
            parked.append(waiter)
            loop.park(waiter)
        if parked:
            parked.pop().wake()

    other = zio.spawn(turns)
    turns()
    other.join()


SPINNERS = [
    spin_on_a_socket,
    spin_on_a_channel,
    spin_on_locks,
    spin_on_joins,
    spin_on_maybe_pause,
    spin_on_pause,
    spin_on_select,
    spin_on_sends,
    spin_on_send_and_try_recv,
    spin_on_new_channels,
    two_tasks_that_wake_each_other,
    two_tasks_with_a_primitive_of_their_own,
]


@pytest.mark.parametrize("spin", SPINNERS, ids=lambda spin: spin.__name__)
def test_a_task_whose_calls_always_succeed_at_once_starves_no_timer(spin: Callable[[list[Any]], None]) -> None:
    """T5: without a budget the timer would never fire."""

    def main() -> None:
        done: list[Any] = []
        spinner = zio.spawn(spin, done)
        for _ in range(5):
            zio.sleep(0.01)
        done.append(True)
        spinner.join()

    zio.run(main)


@pytest.mark.parametrize("spin", SPINNERS, ids=lambda spin: spin.__name__)
def test_a_task_whose_calls_always_succeed_at_once_starves_no_ready_task(spin: Callable[[list[Any]], None]) -> None:
    """T5"""

    def main() -> None:
        done: list[Any] = []
        spinner = zio.spawn(spin, done)
        for _ in range(100):
            zio.pause()
        done.append(True)
        spinner.join()

    zio.run(main)


@pytest.mark.parametrize("spin", SPINNERS, ids=lambda spin: spin.__name__)
def test_a_task_whose_calls_always_succeed_at_once_starves_no_socket(spin: Callable[[list[Any]], None]) -> None:
    """T6: an exchange over TCP goes on meanwhile."""

    def main() -> None:
        done: list[Any] = []
        one, other = loopback()
        with one, other:

            def echo() -> None:
                while data := other.recv(100):
                    other.send_all(data)

            echoing = zio.spawn(echo)
            spinner = zio.spawn(spin, done)
            for turn in range(20):
                one.send_all(b"%d" % turn)
                assert one.recv(100) == b"%d" % turn
            done.append(True)
            spinner.join()
            one.shutdown_write()
            echoing.join()

    zio.run(main)


# How little is done.


def count_fibers() -> int:
    """The fibers of this loop, those in the pool included."""
    loop = here().loop
    return sum(type(thing) is Fiber and thing.loop is loop for thing in gc.get_objects())


def test_two_tasks_that_hand_over_to_each_other_switch_directly_and_use_no_more_memory() -> None:
    """T3: a hundred thousand exchanges are about two switches each, hardly any of them by way of the hub."""
    turns = 100_000
    switches = [0, 0]

    def trace(event: str, args: tuple[Any, Any]) -> None:
        switches[0] += 1
        switches[1] += type(args[1]) is not Fiber

    def main() -> tuple[int, int]:
        ping_pong(100)
        fibers = count_fibers()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        greenlet.settrace(trace)
        try:
            ping_pong(turns)
        finally:
            greenlet.settrace(None)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert count_fibers() == fibers
        return before, after

    before, after = zio.run(main)
    assert switches[0] < 2.1 * turns * 1.05
    assert switches[1] < 0.2 * turns  # to the hub
    assert after - before < 4 * 1024 * (1024 if sys.platform == "darwin" else 1)  # 4 MiB; kilobytes, on a Mac bytes


def test_new_fibers_are_started_by_the_hub_so_that_stacks_stay_shallow() -> None:
    """Design 1, T4: never from the stack of a task, which the new one would have below its own for good."""
    known: set[int] = set()
    starters: list[type] = []

    def trace(event: str, args: tuple[Any, Any]) -> None:
        origin, target = args
        if type(target) is Fiber and id(target) not in known:
            known.add(id(target))
            starters.append(type(origin))

    def link(left: int) -> None:
        if left:
            zio.spawn(link, left - 1).join()

    greenlet.settrace(trace)
    try:
        zio.run(link, 200)
    finally:
        greenlet.settrace(None)
    assert len(starters) > 200
    assert Fiber not in starters


def test_pure_channel_work_makes_no_system_call() -> None:
    """Design 7: the loop polls only if somebody waits for a socket."""

    def main() -> None:
        loop = here().loop
        with counted_polls(loop) as polls:
            ping_pong(10_000)
        assert polls == []

    zio.run(main)


def test_pausing_makes_no_system_call_while_nobody_waits_for_a_socket() -> None:
    """Design 7"""

    def main() -> None:
        with counted_polls(here().loop) as polls:
            for _ in range(10_000):
                zio.pause()
        assert polls == []

    zio.run(main)


def test_work_beside_a_waiting_socket_polls_far_less_often_than_it_switches() -> None:
    """Design 7: past about 100 µs or 64 switches, not with every one."""

    def main() -> None:
        one, other = loopback()
        with one, other:
            reader = zio.spawn(one.recv, 10)
            wait_all_parked()
            with counted_polls(here().loop) as polls:
                ping_pong(5_000)
            assert 1 <= len(polls) <= 5_000 * 2 / 16
            assert set(polls) == {0}
            reader.cancel()
            with pytest.raises(zio.Cancelled):
                reader.join()

    zio.run(main)


def test_the_loop_sleeps_until_the_next_deadline_and_not_in_between() -> None:
    def main() -> None:
        with counted_polls(here().loop) as polls:
            zio.sleep(0.05)
        assert len(polls) <= 3

    zio.run(main)


# The end of the tick.


def test_the_tick_end_hook_runs_before_the_loop_goes_to_sleep() -> None:
    """Design 8"""
    events: list[str] = []

    def main() -> None:
        loop = here().loop
        poll = loop.poller.poll

        def noted(timeout: float | None, ready: deque[Any]) -> None:
            events.append("poll")
            poll(timeout, ready)

        loop.poller.poll = noted  # type: ignore[method-assign]
        loop.tick_end.append(lambda: events.append("hook"))
        zio.sleep(0.001)
        del loop.poller.poll

    zio.run(main)
    assert events[:2] == ["hook", "poll"]
    assert events.count("hook") == 1


def test_the_tick_end_hook_runs_before_polls_of_a_spent_budget_too() -> None:
    """Design 8: a task that never waits does not hold back what the others have to send."""

    def main() -> None:
        loop = here().loop
        one, other = loopback()
        with one, other:
            reader = zio.spawn(one.recv, 10)
            wait_all_parked()
            order: list[str] = []
            poll = loop.poller.poll

            def noted(timeout: float | None, ready: deque[Any]) -> None:
                order.append("poll")
                poll(timeout, ready)

            loop.poller.poll = noted  # type: ignore[method-assign]
            try:
                loop.tick_end.append(lambda: order.append("hook"))
                while not order:
                    zio.maybe_pause()
            finally:
                loop.poller.poll = poll  # type: ignore[method-assign]
            reader.cancel()
        assert order[0] == "hook"

    zio.run(main)


def test_a_hook_set_by_a_task_in_every_tick_runs_in_every_tick() -> None:
    """Design 8: each is run once, and sees all that the tasks of its tick did."""

    def main() -> None:
        loop = here().loop
        out: list[int] = []
        writes: list[list[int]] = []

        def flush() -> None:
            writes.append(out[:])
            out.clear()

        def publish(number: int) -> None:
            if not out:
                loop.tick_end.append(flush)
            out.append(number)

        for tick in range(3):
            with zio.TaskGroup() as group:
                for number in range(5):
                    group.spawn(publish, tick * 5 + number)
            zio.sleep(0.001)
        assert [sorted(write) for write in writes] == [list(range(tick * 5, tick * 5 + 5)) for tick in range(3)]

    zio.run(main)


def test_a_hook_may_wake_tasks_and_set_another_hook() -> None:
    """Design 8"""

    def main() -> None:
        loop = here().loop
        event = zio.Event()
        calls: list[int] = []

        def again() -> None:
            calls.append(1)
            if len(calls) < 3:
                loop.tick_end.append(again)
            else:
                event.set()

        loop.tick_end.append(again)
        assert event.wait(timeout=30)
        assert len(calls) == 3

    zio.run(main)


def test_a_waiter_that_was_left_armed_ends_the_run_instead_of_losing_a_task() -> None:
    """Woken when its task has ended: whoever runs on that fiber next must not be lost with it, and nobody told."""
    left: list[Waiter] = []

    def careless() -> None:
        left.append(Waiter(here(), "something"))

    def main() -> None:
        zio.spawn(careless).join()
        left[0].wake()
        zio.sleep(0)
        zio.spawn(zio.sleep, 0).join()

    with pytest.raises(RuntimeError, match="neither waited for nor disarmed"):
        zio.run(main)
