"""Barrier: all or none."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import zio
from tests.zio.helpers_outside import OUTSIDE, Outside
from zio.testing import run_virtual, wait_all_parked


def test_nobody_goes_on_before_the_last_has_come() -> None:
    def main() -> None:
        barrier = zio.Barrier(3)
        tasks = []
        for count in range(2):
            assert barrier.n_waiting == count
            tasks.append(zio.spawn(barrier.wait))
            wait_all_parked()
        assert not any(task.done for task in tasks)
        assert barrier.wait() == 2
        assert sorted(task.join() for task in tasks) == [0, 1]
        assert barrier.n_waiting == 0

    zio.run(main)


def test_each_round_has_one_leader() -> None:
    def main() -> None:
        barrier = zio.Barrier(4)
        leaders: list[int] = []

        def party() -> None:
            leaders.extend(number for number in range(10) if barrier.wait() == 0)

        with zio.TaskGroup() as group:
            for _ in range(4):
                group.spawn(party)
        assert sorted(leaders) == list(range(10))

    zio.run(main)


def test_a_barrier_for_one_waits_for_nobody() -> None:
    def main() -> None:
        barrier = zio.Barrier(1)
        assert [barrier.wait(), barrier.wait()] == [0, 0]

    zio.run(main)


@pytest.mark.parametrize("parties", [0, -1, 1.5])
def test_a_number_of_parties_that_is_none_is_refused(parties: int) -> None:
    with pytest.raises(ValueError, match=f"parties from 1 up, not {parties}"):
        zio.Barrier(parties)


def test_a_party_that_is_cancelled_breaks_it_for_all_and_for_ever() -> None:
    def main() -> None:
        barrier = zio.Barrier(3)
        first, second = zio.spawn(barrier.wait), zio.spawn(barrier.wait)
        wait_all_parked()
        first.cancel()
        with pytest.raises(zio.BrokenBarrierError):
            second.join()
        with pytest.raises(zio.Cancelled):
            first.join()
        assert barrier.broken
        with pytest.raises(zio.BrokenBarrierError):
            barrier.wait()

    zio.run(main)


def test_a_party_cancelled_in_the_tick_of_the_last_one_lets_nobody_through() -> None:
    """It has not run since, but it will not come: so all get the error, and not some of them."""

    def main() -> None:
        barrier = zio.Barrier(3)
        first, second = zio.spawn(barrier.wait), zio.spawn(barrier.wait)
        wait_all_parked()
        first.cancel()
        with pytest.raises(zio.BrokenBarrierError, match="was cancelled"):
            barrier.wait()
        with pytest.raises(zio.BrokenBarrierError):
            second.join()

    zio.run(main)


def test_a_party_that_was_let_through_goes_on_though_it_is_cancelled_in_the_same_tick() -> None:
    def main() -> None:
        barrier = zio.Barrier(2)
        numbers: list[int] = []
        first = zio.spawn(lambda: numbers.append(barrier.wait()))
        wait_all_parked()
        assert barrier.wait() == 1
        first.cancel()
        first.join()
        assert numbers == [0]
        assert not barrier.broken

    zio.run(main)


def test_a_party_cancelled_before_it_waits_breaks_nothing() -> None:
    def main() -> None:
        barrier = zio.Barrier(2)
        with zio.CancelScope() as scope:
            scope.cancel()
            barrier.wait()
        assert not barrier.broken

    zio.run(main)


def test_a_party_whose_time_is_up_breaks_it() -> None:
    def main() -> None:
        barrier = zio.Barrier(3)
        other = zio.spawn(barrier.wait)
        with pytest.raises(zio.BrokenBarrierError, match="within 2 s"):
            barrier.wait(timeout=2)
        assert zio.now() == 2
        with pytest.raises(zio.BrokenBarrierError):
            other.join()

    run_virtual(main)


@pytest.mark.parametrize("end", [zio.Barrier.abort, zio.Barrier.reset])
def test_abort_and_reset_send_away_who_waits(end: Callable[[zio.Barrier], None]) -> None:
    def main() -> None:
        barrier = zio.Barrier(2)
        task = zio.spawn(barrier.wait)
        wait_all_parked()
        end(barrier)
        with pytest.raises(zio.BrokenBarrierError):
            task.join()
        assert barrier.broken == (end is zio.Barrier.abort)

    zio.run(main)


def test_reset_mends_it() -> None:
    def main() -> None:
        barrier = zio.Barrier(2)
        barrier.abort()
        barrier.reset()
        task = zio.spawn(barrier.wait)
        assert sorted([barrier.wait(), task.join()]) == [0, 1]

    zio.run(main)


def test_a_party_cancelled_in_the_round_before_a_reset_does_not_break_the_next() -> None:
    def main() -> None:
        barrier = zio.Barrier(2)
        late = zio.spawn(barrier.wait)
        wait_all_parked()
        late.cancel()
        barrier.reset()
        task = zio.spawn(barrier.wait)
        wait_all_parked()
        assert not barrier.broken
        barrier.wait()
        task.join()

    zio.run(main)


def test_its_error_is_that_of_threading() -> None:
    assert zio.BrokenBarrierError is threading.BrokenBarrierError


@OUTSIDE
def test_threads_and_loops_take_part(outside: Outside) -> None:
    def main() -> None:
        barrier = zio.Barrier(3)
        others = [outside(barrier.wait) for _ in range(2)]
        numbers = [barrier.wait(), *(other.outcome() for other in others)]
        assert sorted(numbers) == [0, 1, 2]
        waiting = outside(barrier.wait)
        while not barrier.n_waiting:
            zio.sleep(0.001)
        barrier.abort()
        with pytest.raises(zio.BrokenBarrierError):
            waiting.outcome()

    zio.run(main)
