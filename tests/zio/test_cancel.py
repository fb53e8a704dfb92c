"""Cancellation: level-triggered, in scopes, with shields. (Every single blocking call: test_cancel_matrix.)"""

# ruff: noqa: PT012  (a scope or group inside pytest.raises has a body of more than one statement)

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

import zio
from tests.zio.helpers_tasks import forever, sleep_then
from zio.lowlevel import here
from zio.net.sockets import SocketStream
from zio.testing import run_virtual, wait_all_parked

# Level-triggered.


def test_every_blocking_call_of_a_cancelled_scope_raises_until_it_is_left() -> None:
    """T12: not one-shot. In ``finally`` and ``except`` too."""
    raised: list[str] = []

    def main() -> None:
        channel: zio.Channel[int] = zio.Channel(1)
        calls: dict[str, Callable[[], Any]] = {
            "sleep": lambda: zio.sleep(1),
            "pause": zio.pause,
            "maybe_pause": zio.maybe_pause,
            "send": lambda: channel.send(1),
            "recv": channel.recv,
            "select": lambda: zio.select(channel, zio.after(0)),
            "lock": zio.Lock().acquire,
            "event": zio.Event().wait,
        }
        with zio.CancelScope() as scope:
            try:
                scope.cancel()
                forever()
            finally:
                for name, call in calls.items():
                    try:
                        call()
                    except zio.Cancelled:
                        raised.append(name)
                assert raised == list(calls)
        assert len(channel) == 0
        for call in (zio.pause, lambda: channel.send(1), channel.recv):
            call()  # behind the scope all is well

    zio.run(main)


def test_a_task_that_swallows_a_cancel_is_cancelled_again_at_its_next_blocking_call() -> None:
    """T16"""
    caught: list[int] = []

    def stubborn() -> None:
        for turn in range(3):
            try:
                forever()
            except BaseException:
                caught.append(turn)
        forever()

    def main() -> None:
        task = zio.spawn(stubborn)
        wait_all_parked()
        task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()

    zio.run(main)
    assert caught == [0, 1, 2]


def test_except_exception_does_not_catch_a_cancel() -> None:
    """T16"""

    def main() -> None:
        with zio.move_on_after(1) as scope:
            try:
                forever()
            except Exception as error:
                raise AssertionError("caught") from error
        assert scope.expired

    run_virtual(main)
    assert not issubclass(zio.Cancelled, Exception)


def test_a_cancel_ends_a_loop_of_calls_that_never_wait() -> None:
    """T12: calls that could complete at once raise too, the very next one."""

    def main() -> None:
        channel: zio.Channel[int] = zio.Channel(math.inf)
        with zio.CancelScope() as scope:
            channel.send(1)
            scope.cancel()
            channel.send(2)
            raise AssertionError("unreachable")
        assert scope.cancelled_caught
        assert len(channel) == 1

    zio.run(main)


def test_a_cancel_by_another_task_reaches_a_task_that_only_ever_pauses() -> None:
    def spin() -> None:
        while True:
            zio.pause()

    def main() -> None:
        task = zio.spawn(spin)
        for _ in range(10):
            zio.pause()
        task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()

    zio.run(main)


def test_a_completed_call_wins_over_a_cancel_of_the_same_tick() -> None:
    """Design 5: what was handed over is returned; the cancel comes at the next call."""

    def main() -> None:
        channel: zio.Channel[str] = zio.Channel()
        got: list[object] = []

        def receive() -> None:
            got.append(channel.recv())
            try:
                channel.recv()
            except zio.Cancelled:
                got.append("cancelled")
                raise

        task = zio.spawn(receive)
        wait_all_parked()
        channel.send("item")
        task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()
        assert got == ["item", "cancelled"]

    zio.run(main)


# Scopes.


def test_a_scope_takes_its_own_cancel_and_goes_on_behind_the_block() -> None:
    def main() -> None:
        with zio.CancelScope() as scope:
            scope.cancel()
            zio.pause()
            raise AssertionError("unreachable")
        assert scope.cancel_called
        assert scope.cancelled_caught
        assert not scope.expired
        zio.pause()

    zio.run(main)


def test_a_scope_that_was_cancelled_but_cut_nothing_short_says_so() -> None:
    def main() -> None:
        with zio.CancelScope() as scope:
            scope.cancel()
        assert scope.cancel_called
        assert not scope.cancelled_caught
        zio.pause()

    zio.run(main)


def test_a_scope_cancelled_before_it_is_entered_cancels_its_block() -> None:
    def main() -> None:
        scope = zio.CancelScope()
        scope.cancel()
        with scope:
            zio.pause()
            raise AssertionError("unreachable")
        assert scope.cancelled_caught

    zio.run(main)


def test_cancelling_the_outer_scope_is_not_taken_by_the_inner_one() -> None:
    """T15: a scope never swallows another scope's Cancelled."""

    def main() -> None:
        with zio.CancelScope() as outer:
            with zio.CancelScope() as inner:
                outer.cancel()
                zio.pause()
            raise AssertionError("unreachable")
        assert outer.cancelled_caught
        assert not inner.cancelled_caught

    zio.run(main)


def test_cancelling_the_inner_scope_leaves_the_outer_one_alone() -> None:
    def main() -> None:
        with zio.CancelScope() as outer:
            with zio.CancelScope() as inner:
                inner.cancel()
                zio.pause()
            assert inner.cancelled_caught
            zio.pause()
        assert not outer.cancel_called

    zio.run(main)


def test_both_scopes_cancelled_leave_through_the_outer_one() -> None:
    def main() -> None:
        with zio.CancelScope() as outer:
            with zio.CancelScope() as inner:
                inner.cancel()
                outer.cancel()
                zio.pause()
            raise AssertionError("unreachable")
        assert outer.cancelled_caught
        assert not inner.cancelled_caught

    zio.run(main)


def test_an_error_in_a_cancelled_scope_is_raised_not_swallowed() -> None:
    def main() -> None:
        with pytest.raises(ValueError, match="real"), zio.CancelScope() as scope:
            scope.cancel()
            try:
                zio.pause()
            finally:
                raise ValueError("real")
        zio.pause()

    zio.run(main)


def test_a_scope_takes_its_cancel_out_of_an_exception_group_and_leaves_the_errors() -> None:
    def main() -> None:
        with pytest.raises(ExceptionGroup) as caught, zio.CancelScope() as scope:
            scope.cancel()
            raise BaseExceptionGroup("mixed", [zio.Cancelled(), ValueError("real")])
        assert [str(error) for error in caught.value.exceptions] == ["real"]

        with zio.CancelScope() as scope:
            scope.cancel()
            raise BaseExceptionGroup("only cancels", [zio.Cancelled(), zio.Cancelled()])
        assert scope.cancelled_caught

    zio.run(main)


def test_a_cancelled_that_is_not_the_scopes_own_goes_through_it() -> None:
    def main() -> None:
        child = zio.spawn(forever)
        child.cancel()
        with pytest.raises(zio.Cancelled), zio.CancelScope() as scope:
            child.join()
        assert not scope.cancelled_caught

    zio.run(main)


def test_a_scope_is_entered_once() -> None:
    def main() -> None:
        with zio.CancelScope() as scope:
            pass
        with pytest.raises(RuntimeError, match="once"), scope:
            pass

    zio.run(main)


def test_cancelling_a_scope_that_was_left_does_nothing() -> None:
    """T18"""

    def main() -> None:
        with zio.CancelScope() as scope:
            pass
        scope.cancel()
        zio.pause()
        zio.spawn(zio.pause).join()

    zio.run(main)


def test_a_scope_left_out_of_order_raises_and_names_both() -> None:
    """Design 5: a scope held across the yield of a generator."""

    def held() -> Generator[None, None, None]:
        with zio.timeout(10) as scope:
            scopes.append(scope)
            yield

    scopes: list[zio.CancelScope] = []

    def main() -> None:
        outer = zio.CancelScope()
        generator = held()
        with pytest.raises(RuntimeError, match="out of order") as caught, outer:
            next(generator)
        assert repr(outer) in str(caught.value)
        assert repr(scopes[0]) in str(caught.value)
        generator.close()

    zio.run(main)


def test_a_scope_left_in_another_task_raises_and_names_both() -> None:
    """Design 5"""

    def held() -> Generator[None, None, None]:
        with zio.CancelScope():
            yield

    def main() -> None:
        generator = held()

        def hold() -> None:
            next(generator)
            forever()

        owner = zio.spawn(hold, name="owner")
        wait_all_parked()

        def leave() -> None:
            with pytest.raises(RuntimeError, match="out of order") as caught:
                generator.close()
            assert "owner" in str(caught.value)
            assert "thief" in str(caught.value)

        zio.spawn(leave, name="thief").join()
        owner.cancel()
        with pytest.raises(zio.Cancelled):
            owner.join()

    zio.run(main)


# Shields.


def test_a_shield_keeps_a_cancel_from_outside_away_until_its_end() -> None:
    """T15"""
    events: list[str] = []

    def work() -> None:
        with zio.shield():
            zio.sleep(2)
            events.append("shielded part done")
        zio.pause()
        events.append("never")

    def main() -> None:
        task = zio.spawn(work)
        zio.sleep(1)
        task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()
        assert zio.now() == 2

    run_virtual(main)
    assert events == ["shielded part done"]


def test_cleanup_under_a_shield_works_in_a_cancelled_scope() -> None:
    """T15"""

    def main() -> None:
        channel: zio.Channel[int] = zio.Channel(1)
        with zio.CancelScope() as scope:
            scope.cancel()
            try:
                forever()
            finally:
                with zio.shield():
                    channel.send(1)
                    zio.sleep(1)
                with pytest.raises(zio.Cancelled):  # and behind it all is as before
                    zio.pause()
        assert channel.recv() == 1

    run_virtual(main)


def test_a_shield_with_a_timeout_ends_at_it_and_the_cancel_comes_behind() -> None:
    """T15"""

    def main() -> None:
        with zio.CancelScope() as outer:
            outer.cancel()
            with zio.shield(timeout=2) as shield:
                forever()
            assert shield.expired
            assert zio.now() == 2
            zio.pause()
            raise AssertionError("unreachable")
        assert outer.cancelled_caught

    run_virtual(main)


def test_shields_nest() -> None:
    """T15: what is cancelled between two shields reaches what is not behind the inner one."""

    def main() -> None:
        with zio.CancelScope() as outer:
            outer.cancel()
            with zio.shield():
                zio.pause()
                with zio.CancelScope() as middle:
                    middle.cancel()
                    with zio.shield():
                        zio.pause()
                    zio.pause()
                    raise AssertionError("unreachable")
                assert middle.cancelled_caught
                zio.pause()
            with pytest.raises(zio.Cancelled):
                zio.pause()

    zio.run(main)


def test_a_shield_can_be_cancelled_itself() -> None:
    """T15: it keeps away what comes from outside only."""

    def main() -> None:
        with zio.shield() as shield:
            shield.cancel()
            zio.pause()
            raise AssertionError("unreachable")
        assert shield.cancelled_caught

    zio.run(main)


def test_a_task_of_a_group_under_a_shield_is_shielded_too() -> None:
    def main() -> None:
        with zio.move_on_after(1) as scope:
            with zio.shield(), zio.TaskGroup() as group:
                task = group.spawn(sleep_then, 2, lambda: "done")
            zio.pause()
        assert scope.expired
        assert task.result() == "done"

    run_virtual(main)


# Tasks: from where, and how often.


def test_cancel_is_idempotent() -> None:
    """T18"""
    cancels: list[int] = []

    def work() -> None:
        try:
            forever()
        except zio.Cancelled:
            cancels.append(1)
            raise

    def main() -> None:
        task = zio.spawn(work)
        wait_all_parked()
        for _ in range(3):
            task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()
        task.cancel()

    zio.run(main)
    assert cancels == [1]


def test_cancelling_a_task_that_has_ended_changes_nothing() -> None:
    """T18"""

    def main() -> zio.Task[int]:
        task = zio.spawn(lambda: 5)
        task.join()
        task.cancel()
        assert task.join() == 5
        return task

    task = zio.run(main)
    task.cancel()  # nor does it after the run, from outside
    assert task.result() == 5


def test_a_task_that_ends_normally_while_it_is_being_cancelled_keeps_its_result() -> None:
    """T18"""

    def swallow() -> str:
        try:
            forever()
        except zio.Cancelled:
            return "ended by itself"
        raise AssertionError("unreachable")

    def main() -> str:
        task = zio.spawn(swallow)
        wait_all_parked()
        task.cancel()
        return task.join()

    assert zio.run(main) == "ended by itself"


def test_a_task_may_cancel_itself() -> None:
    """T18"""

    def main() -> None:
        def work() -> None:
            zio.current_task().cancel()
            reached.append("still running")
            zio.pause()
            reached.append("never")

        reached: list[str] = []
        task = zio.spawn(work)
        with pytest.raises(zio.Cancelled):
            task.join()
        assert reached == ["still running"]

    zio.run(main)


def test_a_task_can_be_cancelled_from_a_plain_thread() -> None:
    """T18"""

    def main() -> None:
        task = zio.spawn(forever)
        wait_all_parked()
        zio.to_thread(task.cancel)
        with pytest.raises(zio.Cancelled):
            task.join()

    zio.run(main)


@pytest.mark.parametrize("call", [lambda cancel: cancel(), zio.run], ids=["thread", "loop"])
@pytest.mark.parametrize("what", ["task", "scope"])
def test_a_sleeping_loop_is_woken_by_a_cancel_from_elsewhere(what: str, call: Callable[[Any], None]) -> None:
    """T18: from a plain thread, and from a task of another loop."""

    def main() -> None:
        inbox = here().loop.inbox

        def cancel_when_asleep(cancel: Callable[[], None]) -> None:
            while not inbox.asleep:
                time.sleep(0)
            call(cancel)

        with zio.CancelScope() as scope:
            task = zio.spawn(forever)
            cancel = task.cancel if what == "task" else scope.cancel
            thread = threading.Thread(target=cancel_when_asleep, args=(cancel,))
            threads.append(thread)
            thread.start()
            if what == "task":
                with pytest.raises(zio.Cancelled):
                    task.join()
            else:
                forever()
        assert scope.cancelled_caught == (what == "scope")

    threads: list[threading.Thread] = []
    zio.run(main)
    threads[0].join()


def test_cancelling_main_ends_the_run_with_cancelled() -> None:
    def main() -> None:
        main_task = zio.current_task()
        zio.spawn(main_task.cancel)
        forever()

    with pytest.raises(zio.Cancelled):
        zio.run(main)


def test_a_cancel_reaches_tasks_in_the_order_they_were_spawned() -> None:
    """Design 14: runs are repeatable, so the tree is walked in order."""
    order: list[int] = []

    def work(number: int) -> None:
        try:
            forever()
        finally:
            order.append(number)

    def main() -> None:
        with zio.TaskGroup() as group:
            for number in range(20):
                group.spawn(work, number)
            wait_all_parked()
            group.cancel()

    runtime = zio.Runtime()
    runtime.run(main)
    assert sorted(order) == list(range(20))
    if type(runtime.loop.ready).__name__ == "deque":  # not shuffled by the environment
        assert order == list(range(20))


def test_a_cancel_storm_on_a_contended_lock_loses_no_wake() -> None:
    """T17: 200 generations of 8 tasks that lock, work and are cancelled at any moment; every generation ends."""
    finished: list[int] = []

    def main() -> None:
        lock = zio.Lock()
        rng = zio.lowlevel.here().loop.runtime.random

        def contend() -> None:
            while True:
                with lock:
                    inside.append(1)
                    assert len(inside) == 1
                    try:
                        zio.sleep(rng.choice((0, 0, 0.001)))
                    finally:
                        inside.pop()

        inside: list[int] = []
        for generation in range(200):
            tasks = [zio.spawn(contend) for _ in range(8)]
            for _ in range(rng.randrange(6)):
                zio.pause()
            rng.shuffle(tasks)
            for task in tasks:
                task.cancel()
                if rng.random() < 0.3:
                    zio.pause()
            for task in tasks:
                with pytest.raises(zio.Cancelled):
                    task.join()
            assert not lock.locked()
            with lock:  # and it is usable
                finished.append(generation)

    zio.testing.run_virtual(main, seed=7)
    assert finished == list(range(200))


# Plain threads.


def test_scopes_and_timeouts_work_in_a_plain_thread() -> None:
    with zio.move_on_after(0.001) as scope:
        zio.sleep(60)
        raise AssertionError("unreachable")
    assert scope.expired
    with pytest.raises(TimeoutError), zio.timeout(0.001):
        zio.sleep(60)
    with zio.CancelScope() as scope:
        scope.cancel()
        with zio.shield():
            zio.sleep(0.001)
        zio.sleep(60)
        raise AssertionError("unreachable")
    assert scope.cancelled_caught


def _receive() -> tuple[Callable[[], object], Callable[[], object]]:
    channel = zio.Channel[int](1)
    return channel.recv, lambda: channel.send(1)


def _acquire() -> tuple[Callable[[], object], Callable[[], object]]:
    semaphore = zio.Semaphore(0)
    return semaphore.acquire, semaphore.release


def _sleep() -> tuple[Callable[[], object], Callable[[], object]]:
    return lambda: zio.sleep(1), lambda: None


def _read() -> tuple[Callable[[], object], Callable[[], object]]:
    one, other = socket.socketpair()
    stream = SocketStream(one, here().loop)

    def wake() -> None:
        other.send(b"x")
        other.close()
        loop = here().loop
        loop.poller.poll(0, loop.ready)

    def read() -> None:
        assert stream.recv(10) == b"x"
        stream.close()

    return read, wake


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("kind", [_receive, _acquire, _sleep, _read])
@pytest.mark.parametrize("beside_others", [True, False])
def test_a_wait_that_was_won_before_the_cancel_ends_well_and_the_next_call_raises(
    kind: Callable[[], tuple[Callable[[], object], Callable[[], object]]], beside_others: bool
) -> None:
    """Whether the wait went straight to another task that was ready, or by way of the hub."""

    def main() -> None:
        wait, wake = kind()
        done: list[str] = []

        def it() -> None:
            wait()
            done.append("won")
            try:
                zio.maybe_pause()
            except zio.Cancelled:
                done.append("raised")
                raise

        def other() -> None:
            zio.pause()
            zio.pause()

        if beside_others:
            zio.spawn(other)
        task = zio.spawn(it)
        if beside_others:
            zio.pause()
        waker: list[zio.Task[None]] = []

        def ending() -> None:
            zio.sleep(1)  # ends in the same tick as the sleep above, and before it is the turn of that task
            wake()
            task.cancel()

        waker.append(zio.spawn(ending))
        waker[0].join()
        with pytest.raises(zio.Cancelled):
            task.join()
        assert done == ["won", "raised"]

    run_virtual(main)


@pytest.mark.usefixtures("in_order")
def test_a_task_that_is_cancelled_while_it_lets_another_one_run_gets_the_cancel_there() -> None:
    def main() -> None:
        def it() -> None:
            zio.pause()
            pytest.fail("the pause ended well")

        with zio.TaskGroup() as group:
            task = group.spawn(it)
            zio.pause()
            assert task.fiber is not None
            task.cancel()

    zio.run(main)
