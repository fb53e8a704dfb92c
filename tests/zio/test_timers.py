"""Deadlines: moved, cancelled and fired, by the thousand and at the same instant."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

import zio
from tests.zio.helpers_tasks import forever, sleep_then
from zio.lowlevel import here
from zio.testing import run_virtual, wait_all_parked


def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    woken: list[int] = []

    def main() -> None:
        with zio.TaskGroup() as group:
            for seconds in (3, 1, 2, 5, 4):
                group.spawn(sleep_then, seconds, partial(woken.append, seconds))

    run_virtual(main)
    assert woken == [1, 2, 3, 4, 5]


def test_sleep_lasts_at_least_as_long_as_told() -> None:
    def main() -> None:
        for seconds in (0.001, 0.01, 0.02):
            start = zio.now()
            zio.sleep(seconds)
            assert zio.now() - start >= seconds

    zio.run(main)


def test_a_deadline_can_be_put_off_while_the_block_runs() -> None:
    """T26"""

    def main() -> None:
        with zio.move_on_after(1) as scope:
            zio.sleep(0.5)
            assert scope.deadline == 1
            scope.deadline = 3
            zio.sleep(2)
            scope.deadline += 1
            forever()
        assert zio.now() == 4
        assert scope.expired

    run_virtual(main)


def test_a_deadline_can_be_brought_forward_while_the_block_waits() -> None:
    """T26: by another task."""

    def main() -> None:
        scopes: list[zio.CancelScope] = []

        def hurry() -> None:
            zio.sleep(1)
            scopes[0].deadline = 2

        zio.spawn(hurry)
        with zio.move_on_after(100) as scope:
            scopes.append(scope)
            forever()
        assert zio.now() == 2
        assert scope.expired

    run_virtual(main)


def test_a_deadline_moved_into_the_past_cancels_at_once() -> None:
    """T25, T26"""

    def main() -> None:
        zio.sleep(5)
        with zio.move_on_after(100) as scope:
            scope.deadline = 3
            zio.pause()
            raise AssertionError("unreachable")
        assert scope.expired
        assert zio.now() == 5

    run_virtual(main)


def test_a_deadline_can_be_lifted() -> None:
    """T26"""

    def main() -> None:
        with zio.timeout(1) as scope:
            scope.deadline = None
            zio.sleep(10)
        with zio.CancelScope() as other:
            other.deadline = zio.now() + 1
            forever()
        assert other.expired
        assert zio.now() == 11

    run_virtual(main)


def test_a_deadline_put_off_by_another_task_at_the_very_instant_it_passes_does_not_count() -> None:
    """T23: the timer has left the heap already, its effect has not come yet."""

    def main() -> None:
        scopes: list[zio.CancelScope] = []

        def put_off() -> None:
            zio.sleep(1)
            scopes[0].deadline = 3

        with zio.TaskGroup() as group:
            group.spawn(put_off)
            wait_all_parked()
            with zio.move_on_after(1) as scope:
                scopes.append(scope)
                forever()
        assert zio.now() == 3
        assert scope.expired

    run_virtual(main)


def test_a_scope_left_at_the_very_instant_its_deadline_passes_has_not_expired() -> None:
    """T22, T23"""

    def main() -> None:
        with zio.timeout(1) as scope:
            zio.sleep(1)
        assert not scope.expired
        zio.pause()
        zio.sleep(1)
        assert not scope.cancel_called

    run_virtual(main)


def test_a_timer_cancelled_by_the_one_that_fires_with_it_does_not_fire() -> None:
    """T23"""

    def main() -> None:
        victim = zio.spawn(zio.select, zio.Event(), zio.after(1))

        def stop() -> None:
            zio.sleep(1)
            victim.cancel()

        stopper = zio.spawn(stop)
        stopper.join()
        with pytest.raises(zio.Cancelled):
            victim.join()
        assert zio.now() == 1

    run_virtual(main)


def test_a_timer_set_again_whenever_it_fires_ticks_on() -> None:
    """T23"""

    def main() -> None:
        ticks: list[float] = []
        with zio.CancelScope() as scope:
            while True:
                scope.deadline = zio.now() + 10
                zio.sleep(1)
                ticks.append(zio.now())
                if len(ticks) == 1000:
                    scope.deadline = zio.now()
        assert ticks == [float(n) for n in range(1, 1001)]
        assert scope.expired

    run_virtual(main)


def heap_size() -> int:
    return len(here().loop.timers.heap)


def test_a_hundred_thousand_timers_that_ended_early_do_not_stay_in_the_heap() -> None:
    """T23: at any moment fewer than twice the live ones plus 1,000."""

    def main() -> None:
        live = 100
        for _ in range(live):
            zio.spawn(zio.sleep, 1e6)
        wait_all_parked()
        most = 0
        channel: zio.Channel[int] = zio.Channel()

        def serve() -> None:
            while True:
                channel.send(1, timeout=1e6)

        zio.spawn(serve)
        for turn in range(50_000):
            channel.recv(timeout=1e6)
            with zio.timeout(1e6):
                pass
            if turn % 100 == 0:
                most = max(most, heap_size())
        assert most < 2 * (live + 2) + 1000

    run_virtual(main)


def test_ten_thousand_sleeps_that_were_cut_short_do_not_stay_in_the_heap() -> None:
    """T23"""

    def main() -> None:
        most = 0
        for _ in range(10_000):
            sleeper = zio.spawn(zio.sleep, 1e6)
            zio.pause()
            sleeper.cancel()
            zio.pause()
            most = max(most, heap_size())
        assert most < 1010

    run_virtual(main)


def test_a_deadline_moved_a_hundred_thousand_times_does_not_fill_the_heap() -> None:
    """T23"""

    def main() -> None:
        most = 0
        with zio.timeout(1e6) as scope:
            for turn in range(100_000):
                scope.deadline = 1e6 + turn
                if turn % 100 == 0:
                    most = max(most, heap_size())
        assert most < 1002

    run_virtual(main)


def test_no_limit_sets_no_timer() -> None:
    """T25: so a wait without end is seen to be one."""

    def main() -> None:
        before = heap_size()
        waiting: list[zio.Task[Any]] = [zio.spawn(zio.sleep, math.inf), zio.spawn(zio.Event().wait, math.inf)]
        with zio.timeout(math.inf), zio.move_on_after(None):
            wait_all_parked()
            assert heap_size() == before
            with pytest.raises(zio.Deadlock):
                zio.select(zio.after(math.inf), timeout=math.inf)
        for task in waiting:
            task.cancel()

    run_virtual(main)


def test_a_deadline_set_after_the_block_was_left_sets_no_timer() -> None:
    def main() -> None:
        with zio.timeout(1e6) as scope:
            pass
        before = heap_size()
        scope.deadline = 5
        assert heap_size() == before
        zio.sleep(10)
        assert not scope.cancel_called

    run_virtual(main)


def test_a_deadline_that_is_no_number_is_refused() -> None:
    """It would put the heap out of order for everybody."""

    def main() -> None:
        with pytest.raises(ValueError, match="NaN"):
            zio.CancelScope(deadline=math.nan)
        with zio.timeout(1) as scope:
            with pytest.raises(ValueError, match="NaN"):
                scope.deadline = math.nan
            assert scope.deadline == 1

    run_virtual(main)


def test_cancelled_timers_do_not_keep_time_running() -> None:
    """The virtual clock jumps to deadlines that matter only, and a run with none left is a deadlock."""

    def main() -> None:
        with zio.timeout(1000):
            zio.sleep(1)
        zio.spawn(zio.sleep, 500).cancel()
        with pytest.raises(zio.Deadlock):
            forever()
        assert zio.now() == 1

    run_virtual(main)


@pytest.mark.parametrize("count", [1, 1000])
def test_many_sleepers_of_one_deadline_all_wake_at_it(count: int) -> None:
    def main() -> None:
        tasks = [zio.spawn(sleep_then, 7, zio.now) for _ in range(count)]
        assert {task.join() for task in tasks} == {7}

    run_virtual(main)
