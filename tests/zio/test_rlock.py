"""RLock: taken again by who has it, released as often."""

from __future__ import annotations

import pytest

import zio
from tests.zio.helpers_outside import OUTSIDE, Outside
from zio.testing import run_virtual, wait_all_parked


def test_its_owner_takes_it_again_and_others_get_in_when_it_is_released_as_often() -> None:
    def main() -> None:
        lock = zio.RLock()
        with lock:
            assert lock.acquire()
            assert lock.acquire(blocking=False)
            other = zio.spawn(lock.acquire)
            for _ in range(2):
                lock.release()
                wait_all_parked()
                assert not other.done
        assert other.join()

    zio.run(main)


def test_only_the_owner_releases_it_and_not_more_often_than_it_was_taken() -> None:
    def main() -> None:
        lock = zio.RLock()
        with pytest.raises(RuntimeError, match="held by nobody"):
            lock.release()

        def hold() -> None:
            with lock, lock:
                zio.sleep(1)

        holder = zio.spawn(hold)
        zio.sleep(0.5)
        with pytest.raises(RuntimeError, match="cannot release"):
            lock.release()
        holder.join()
        assert not lock.locked()

    run_virtual(main)


def test_the_next_owner_has_it_once() -> None:
    """The count of the one before is not inherited, however the lock was handed on."""

    def main() -> None:
        lock = zio.RLock()
        lock.acquire()
        lock.acquire()

        def take() -> bool:
            lock.acquire()
            lock.release()
            return lock.locked()

        next_one = zio.spawn(take)
        wait_all_parked()
        lock.release()
        lock.release()
        assert next_one.join() is False

    zio.run(main)


def test_acquire_returns_false_when_its_time_is_up() -> None:
    def main() -> None:
        lock = zio.RLock()
        lock.acquire()
        assert zio.spawn(lock.acquire, True, 2).join() is False
        assert zio.now() == 2
        assert zio.spawn(lock.acquire, False).join() is False

    run_virtual(main)


def test_taking_it_again_is_a_cancel_point_and_counts_only_if_it_returns() -> None:
    def main() -> None:
        lock = zio.RLock()
        lock.acquire()
        with zio.CancelScope() as scope:
            scope.cancel()
            lock.acquire()
        assert scope.cancelled_caught
        lock.release()
        assert not lock.locked()

    zio.run(main)


def test_who_waits_for_a_task_that_ended_with_it_gets_brokenlock() -> None:
    def main() -> None:
        lock = zio.RLock()

        def careless() -> None:
            lock.acquire()
            lock.acquire()
            lock.release()
            zio.sleep(1)

        zio.spawn(careless)
        zio.sleep(0.5)
        with pytest.raises(zio.BrokenLock, match="ended while it held"):
            lock.acquire()

    run_virtual(main)


def test_a_condition_releases_it_wholly_while_it_waits_and_takes_it_as_often_afterwards() -> None:
    def main() -> None:
        condition = zio.Condition(zio.RLock())
        ready: list[str] = []

        def wait() -> bool:
            with condition, condition:
                result = condition.wait()
                condition.release()
                assert condition.lock.locked()
                condition.acquire()
                return result

        waiter = zio.spawn(wait)
        wait_all_parked()
        with condition:
            ready.append("it")
            condition.notify()
        assert waiter.join() is True
        assert not condition.lock.locked()

    zio.run(main)


def test_a_cancelled_wait_for_a_condition_takes_it_as_often_as_before() -> None:
    def main() -> None:
        condition = zio.Condition(zio.RLock())
        with condition, condition:
            with zio.move_on_after(1) as scope:
                condition.wait()
            assert scope.expired
        assert not condition.lock.locked()

    run_virtual(main)


@OUTSIDE
def test_it_belongs_to_the_caller_outside(outside: Outside) -> None:
    def main() -> None:
        lock, held, go_on = zio.RLock(), zio.Event(), zio.Event()

        def hold() -> None:
            with lock, lock:
                held.set()
                go_on.wait()
                lock.acquire()
                lock.release()

        holder = outside(hold)
        held.wait()
        assert lock.acquire(blocking=False) is False
        go_on.set()
        assert lock.acquire()
        lock.release()
        holder.outcome()
        assert not lock.locked()

    zio.run(main)
