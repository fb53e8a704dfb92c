"""Timeouts: as blocks and as arguments; who wins when two things happen at the same instant."""

# ruff: noqa: PT012  (a scope or group inside pytest.raises has a body of more than one statement)

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import zio
from tests.zio.helpers_tasks import forever, sleep_then
from zio.testing import run_virtual, wait_all_parked

# Blocks.


def test_timeout_raises_timeouterror_where_the_block_is_left() -> None:
    def main() -> None:
        with pytest.raises(TimeoutError, match=r"timed out after 2 s") as caught:
            with zio.timeout(2):
                forever()
            raise AssertionError("unreachable")
        assert zio.now() == 2
        assert caught.value.__cause__ is None
        zio.pause()

    run_virtual(main)


def test_move_on_after_leaves_the_block_quietly_and_says_that_it_expired() -> None:
    """T26"""

    def main() -> None:
        with zio.move_on_after(2) as scope:
            forever()
            raise AssertionError("unreachable")
        assert scope.expired
        assert zio.now() == 2

    run_virtual(main)


def test_a_block_that_ends_in_time_has_not_expired() -> None:
    """T26"""

    def main() -> None:
        with zio.move_on_after(2) as scope:
            zio.sleep(1)
        assert not scope.expired
        with zio.timeout(2) as scope:
            zio.sleep(1)
        assert not scope.expired
        assert zio.now() == 2

    run_virtual(main)


def test_a_block_that_is_cancelled_by_hand_has_not_expired() -> None:
    """T26"""

    def main() -> None:
        with zio.move_on_after(2) as scope:
            scope.cancel()
            forever()
        assert scope.cancelled_caught
        assert not scope.expired
        with zio.timeout(2) as timeout:  # nor is it a TimeoutError
            timeout.cancel()
            forever()
        assert timeout.cancelled_caught

    run_virtual(main)


def test_an_error_of_the_block_is_raised_as_it_is() -> None:
    def main() -> None:
        with pytest.raises(ValueError, match="real"), zio.timeout(1):
            raise ValueError("real")

    run_virtual(main)


def test_the_inner_timeout_earlier_is_raised_by_the_inner_block_only() -> None:
    """T20"""

    def main() -> None:
        with zio.timeout(10) as outer:
            with pytest.raises(TimeoutError, match="after 1 s"), zio.timeout(1):
                forever()
            zio.sleep(1)
        assert not outer.cancel_called
        assert zio.now() == 2

    run_virtual(main)


def test_the_outer_timeout_earlier_goes_through_the_inner_block() -> None:
    """T20: the inner one does not swallow it, nor turn it into a TimeoutError of its own."""

    def main() -> None:
        passed: list[BaseException] = []
        with pytest.raises(TimeoutError, match="after 1 s"), zio.timeout(1):
            try:
                with zio.timeout(10) as inner, zio.move_on_after(20) as innermost:
                    forever()
            except BaseException as error:
                passed.append(error)
                raise
        assert [type(error) for error in passed] == [zio.Cancelled]
        assert not inner.expired
        assert not innermost.expired

    run_virtual(main)


def test_two_timeouts_at_the_same_instant_are_raised_by_the_outer_block() -> None:
    """T20"""

    def main() -> None:
        with pytest.raises(TimeoutError), zio.timeout(1):
            with zio.move_on_after(1):
                forever()
            forever()

    run_virtual(main)


def limited_by_a_block() -> None:
    with zio.timeout(1):
        forever()


def limited_by_an_argument() -> None:
    zio.Channel[int]().recv(timeout=1)


@pytest.mark.parametrize("work", [limited_by_a_block, limited_by_an_argument])
@pytest.mark.parametrize("canceller_first", [True, False])
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_cancel_and_a_timeout_at_the_same_instant_are_a_cancel(
    work: Callable[[], None], canceller_first: bool, seed: int | None
) -> None:
    """T21: Cancelled wins over TimeoutError, whichever timer was set first."""

    def main() -> None:
        tasks: list[zio.Task[None]] = []

        def cancel() -> None:
            zio.sleep(1)
            tasks[0].cancel()

        if canceller_first:
            zio.spawn(cancel)
            wait_all_parked()
        tasks.append(zio.spawn(work))
        wait_all_parked()
        if not canceller_first:
            zio.spawn(cancel)
        with pytest.raises(zio.Cancelled):
            tasks[0].join()
        assert zio.now() == 1

    run_virtual(main, seed=seed)


@pytest.mark.parametrize(
    "wait",
    [
        lambda: zio.Event().wait(timeout=1),
        lambda: zio.Semaphore(0).acquire(timeout=1),
        lambda: zio.Channel[int]().recv(timeout=1),
        lambda: zio.Channel[int]().send(1, timeout=1),
        lambda: zio.Future[int]().result(timeout=1),
        lambda: zio.spawn(forever).join(timeout=1),
        lambda: zio.select(zio.Event(), timeout=1),
    ],
    ids=["event", "semaphore", "recv", "send", "future", "join", "select"],
)
def test_a_timeout_that_has_come_but_was_not_seen_yet_gives_way_to_a_cancel(wait: Callable[[], Any]) -> None:
    """T21: as when a thread cancels between the loop's look at its timers and the task's turn."""

    def main() -> None:
        task = zio.spawn(wait)
        wait_all_parked()
        assert task.fiber is not None
        assert task.fiber.waiter is not None
        task.fiber.waiter.expire()
        task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()

    run_virtual(main)


@pytest.mark.parametrize("seed", range(3))
def test_leaving_a_block_when_its_timeout_fires_leaves_no_stray_exception(seed: int) -> None:
    """T22: a thousand blocks that end just before, at and just after their deadline, in any order."""

    def main() -> None:
        rng = random.Random(seed)
        outcomes = set()

        def one() -> None:
            limit = rng.choice((1, 2))
            try:
                with zio.timeout(limit) as scope:
                    zio.sleep(rng.choice((1, 2)))
                    if rng.random() < 0.5:
                        zio.pause()
                outcomes.add("in time")
                assert not scope.expired
            except TimeoutError:
                outcomes.add("too late")
                assert scope.expired
            for _ in range(3):
                zio.pause()
                zio.sleep(1)

        with zio.TaskGroup() as group:
            for _ in range(1000):
                group.spawn(one)
        assert outcomes == {"in time", "too late"}

    run_virtual(main, seed=seed)


def test_leaving_a_block_when_its_timeout_fires_leaves_no_stray_exception_in_real_time() -> None:
    """T22"""

    def main() -> None:
        for turn in range(300):
            try:
                with zio.timeout(turn % 7 * 1e-5):
                    zio.sleep(3e-5)
            except TimeoutError:
                pass
            zio.pause()
            zio.maybe_pause()

    zio.run(main)


# A wake and a timeout at the same instant.


def event_wait(wakers: list[Callable[[], Any]]) -> Any:
    event = zio.Event()
    wakers.append(event.set)
    return event.wait(timeout=1)


def condition_wait(wakers: list[Callable[[], Any]]) -> Any:
    condition = zio.Condition()

    def notify() -> None:
        with condition:
            condition.notify()

    wakers.append(notify)
    with condition:
        return condition.wait(timeout=1)


def semaphore_acquire(wakers: list[Callable[[], Any]]) -> Any:
    semaphore = zio.Semaphore(0)
    wakers.append(semaphore.release)
    taken = semaphore.acquire(timeout=1)
    assert semaphore.value == 0
    return taken


def lock_acquire(wakers: list[Callable[[], Any]]) -> Any:
    lock = zio.Lock()
    opened = zio.Event()

    def hold() -> None:
        with lock:
            opened.wait()

    holder = zio.spawn(hold)
    zio.pause()
    while not lock.locked():
        zio.pause()

    def let_go() -> None:
        opened.set()
        holder.join()

    wakers.append(let_go)
    taken = lock.acquire(timeout=1)
    if taken:
        lock.release()
    return taken


def channel_recv(wakers: list[Callable[[], Any]]) -> Any:
    channel: zio.Channel[bool] = zio.Channel()
    wakers.append(lambda: channel.send(True, timeout=5))
    return channel.recv(timeout=1)


def channel_send(wakers: list[Callable[[], Any]]) -> Any:
    channel: zio.Channel[int] = zio.Channel()
    got: list[int] = []
    wakers.append(lambda: got.append(channel.recv(timeout=5)))
    channel.send(1, timeout=1)
    zio.pause()
    return True


def future_result(wakers: list[Callable[[], Any]]) -> Any:
    future: zio.Future[bool] = zio.Future()
    wakers.append(lambda: future.set_result(True))
    return future.result(timeout=1)


def task_join(wakers: list[Callable[[], Any]]) -> Any:
    event = zio.Event()
    task = zio.spawn(event.wait)

    def end_it() -> None:
        event.set()
        task.join()

    wakers.append(end_it)
    return task.join(timeout=1)


def select_timeout(wakers: list[Callable[[], Any]]) -> Any:
    channel: zio.Channel[bool] = zio.Channel()
    wakers.append(lambda: channel.send(True, timeout=5))
    return zio.select(channel, zio.Event(), timeout=1)[1]


def notify_wait(wakers: list[Callable[[], Any]]) -> Any:
    notify = zio.Notify()
    wakers.append(notify.notify)
    return notify.wait(timeout=1)


def barrier_wait(wakers: list[Callable[[], Any]]) -> Any:
    barrier = zio.Barrier(2)
    wakers.append(barrier.wait)
    return barrier.wait(timeout=1) == 0


def broadcast_recv(wakers: list[Callable[[], Any]]) -> Any:
    broadcast = zio.Broadcast[bool](1)
    receiver = broadcast.subscribe()
    wakers.append(lambda: broadcast.send(True))
    return receiver.recv(timeout=1)


def rwlock_acquire(wakers: list[Callable[[], Any]]) -> Any:
    lock, opened = zio.RWLock(), zio.Event()

    def hold() -> None:
        with lock.write():
            opened.wait()

    holder = zio.spawn(hold)
    while not lock.locked():
        zio.pause()

    def let_go() -> None:
        opened.set()
        holder.join()

    wakers.append(let_go)
    taken = lock.read().acquire(timeout=1)
    if taken:
        lock.read().release()
    assert lock.write().acquire()
    return taken


WAITS = [
    *(event_wait, semaphore_acquire, channel_recv, channel_send, future_result, select_timeout),
    *(notify_wait, barrier_wait, broadcast_recv),
]


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
@pytest.mark.parametrize("waker_first", [True, False])
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_wake_at_the_instant_of_the_timeout_wins(
    wait: Callable[..., Any], waker_first: bool, seed: int | None
) -> None:
    """T24: whether the timer or the waker's timer was set first, and in every order of the ready queue."""

    def main() -> None:
        wakers: list[Callable[[], Any]] = []

        def wake() -> None:
            zio.sleep(1)
            wakers[0]()

        with zio.TaskGroup() as group:
            if waker_first:
                group.spawn(wake)
                zio.pause()
            waiting = group.spawn(wait, wakers)
            if not waker_first:
                while not wakers:
                    zio.pause()
                zio.pause()
                group.spawn(wake)
        assert waiting.result() is True
        assert zio.now() == 1

    run_virtual(main, seed=seed)


@pytest.mark.parametrize(
    "wait", [condition_wait, lock_acquire, rwlock_acquire, task_join], ids=lambda wait: wait.__name__
)
def test_a_wake_at_the_instant_of_the_timeout_by_way_of_another_task_loses_nothing(wait: Callable[..., Any]) -> None:
    """T24: the wake takes another step or two, so either may win; nothing may hang or be raised by accident."""

    def main() -> None:
        wakers: list[Callable[[], Any]] = []

        def wake() -> None:
            zio.sleep(1)
            wakers[0]()

        def limited() -> bool:
            try:
                return bool(wait(wakers))
            except TimeoutError:
                return False

        with zio.TaskGroup() as group:
            waiting = group.spawn(limited)
            group.spawn(wake)
        assert waiting.result() in (True, False)
        assert zio.now() == 1

    run_virtual(main)


def test_a_wake_at_the_instant_of_a_blocks_timeout_wins() -> None:
    """T24: the item is not lost, and the block is left without an error if nothing else waits in it."""

    def main() -> None:
        channel: zio.Channel[str] = zio.Channel()
        sender = zio.spawn(sleep_then, 1, lambda: channel.send("item", timeout=5))
        with zio.timeout(1):
            item = channel.recv()
        assert item == "item"
        sender.join()
        zio.pause()

    run_virtual(main)


def test_a_permit_whose_waiter_times_out_stays_with_the_semaphore() -> None:
    """T24"""

    def main() -> None:
        semaphore = zio.Semaphore(0)
        assert semaphore.acquire(timeout=1) is False
        semaphore.release()
        assert semaphore.value == 1
        assert semaphore.acquire(timeout=1) is True

    run_virtual(main)


# Particular numbers.


@pytest.mark.parametrize("seconds", [0, 0.0, -1, -math.inf])
def test_a_block_with_no_time_is_cancelled_at_its_first_blocking_call(seconds: float) -> None:
    """T25"""

    def main() -> None:
        reached: list[str] = []
        with pytest.raises(TimeoutError), zio.timeout(seconds):
            reached.append("in")
            zio.pause()
            reached.append("never")
        with zio.move_on_after(seconds) as scope:
            reached.append("in")
            forever()
        assert scope.expired
        assert reached == ["in", "in"]
        with zio.timeout(seconds):  # what does not block is not disturbed
            reached.append("out")

    zio.run(main)


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
def test_a_wait_with_no_time_takes_what_is_there_and_else_ends_at_once(seconds: float) -> None:
    """T25: it polls once."""

    def main() -> None:
        channel: zio.Channel[int] = zio.Channel(1)
        with pytest.raises(TimeoutError):
            channel.recv(timeout=seconds)
        channel.send(1)
        assert channel.recv(timeout=seconds) == 1
        event = zio.Event()
        assert event.wait(timeout=seconds) is False
        event.set()
        assert event.wait(timeout=seconds) is True
        assert zio.Semaphore(1).acquire(timeout=seconds) is True
        assert zio.Semaphore(0).acquire(timeout=seconds) is False
        with pytest.raises(TimeoutError):
            zio.select(channel, timeout=seconds)
        broadcast = zio.Broadcast[int](1)
        receiver = broadcast.subscribe()
        with pytest.raises(TimeoutError):
            receiver.recv(timeout=seconds)
        broadcast.send(1)
        assert receiver.recv(timeout=seconds) == 1
        assert zio.Notify().wait(timeout=seconds) is False
        assert zio.RLock().acquire(timeout=seconds) is True
        lock = zio.RWLock()
        assert lock.write().acquire(timeout=seconds) is True
        assert zio.spawn(lock.read().acquire, True, seconds).join() is False
        assert zio.Barrier(1).wait(timeout=seconds) == 0
        with pytest.raises(zio.BrokenBarrierError):
            zio.Barrier(2).wait(timeout=seconds)
        with zio.TaskGroup() as group:
            assert group.wait(timeout=seconds) is True
            gate = zio.Event()
            group.spawn(gate.wait)
            assert group.wait(timeout=seconds) is False
            gate.set()
        zio.sleep(seconds)
        assert zio.now() == 0

    run_virtual(main)


@pytest.mark.parametrize("seconds", [None, math.inf])
def test_no_limit_is_no_limit(seconds: float | None) -> None:
    """T25"""

    def main() -> None:
        event = zio.Event()
        zio.spawn(sleep_then, 1e9, event.set)
        with zio.timeout(seconds), zio.move_on_after(seconds), zio.shield(timeout=seconds):
            assert event.wait(timeout=seconds) is True
        assert zio.now() == 1e9

    run_virtual(main)


@pytest.mark.parametrize("seconds", [1e7, 1e10, 1e300, sys.float_info.max, sys.maxsize])
def test_very_long_times_do_not_overflow(seconds: float) -> None:
    """T25: on the real clock, with the loop asleep in its poll meanwhile."""

    def main() -> None:
        event = zio.Event()
        sleeper = zio.spawn(zio.sleep, seconds)
        waiter = zio.spawn(event.wait, seconds)
        selecter = zio.spawn(zio.select, event, zio.after(seconds))
        with zio.timeout(seconds), zio.move_on_after(seconds):
            zio.to_thread(time.sleep, 0.01)
        event.set()
        assert waiter.join() is True
        assert selecter.join() == (event, True)
        assert not sleeper.done

    zio.run(main)


def held_for_ever(lock: zio.RWLock) -> None:
    with lock.write():
        forever()


@pytest.mark.parametrize("bad", [math.nan, "5"], ids=["nan", "str"])
def test_a_timeout_that_is_no_number_is_refused_and_leaves_no_waiter_behind(bad: Any) -> None:
    """T25: the object works on as if the call had never been."""

    def main() -> None:
        channel: zio.Channel[int] = zio.Channel()
        event, semaphore = zio.Event(), zio.Semaphore(0)
        future: zio.Future[int] = zio.Future()
        task = zio.spawn(forever)
        lock, barrier, notify = zio.RWLock(), zio.Barrier(2), zio.Notify()
        holder = zio.spawn(held_for_ever, lock)
        wait_all_parked()
        broadcast = zio.Broadcast[int](1)
        receiving = broadcast.subscribe()
        calls: list[Callable[[], Any]] = [
            lambda: channel.recv(timeout=bad),
            lambda: channel.send(1, timeout=bad),
            lambda: event.wait(timeout=bad),
            lambda: semaphore.acquire(timeout=bad),
            lambda: future.result(timeout=bad),
            lambda: task.join(timeout=bad),
            lambda: lock.read().acquire(timeout=bad),
            lambda: lock.write().acquire(timeout=bad),
            lambda: notify.wait(timeout=bad),
            lambda: receiving.recv(timeout=bad),
            lambda: zio.sleep(bad),
            lambda: zio.select(channel, event, timeout=bad),
            lambda: zio.after(bad),
            lambda: zio.timeout(bad),
            lambda: zio.move_on_after(bad),
            lambda: zio.shield(timeout=bad),
        ]
        for call in calls:
            with pytest.raises((ValueError, TypeError)):
                call()
        receiver = zio.spawn(channel.recv)
        wait_all_parked()
        channel.send(7)  # goes to the receiver, not to a wait that was refused
        assert receiver.join() == 7
        semaphore.release()
        assert semaphore.value == 1
        notify.notify_all()
        broadcast.send(8)
        assert receiving.recv() == 8
        with pytest.raises((ValueError, TypeError)):
            barrier.wait(timeout=bad)
        assert barrier.n_waiting == 0
        assert not barrier.broken
        holder.cancel()
        wait_all_parked()
        assert lock.write().acquire(timeout=1)
        event.set()
        future.set_result(1)
        task.cancel()
        wait_all_parked()
        assert task.done

    zio.run(main)
