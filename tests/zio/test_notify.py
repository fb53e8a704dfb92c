"""Notify: it reaches who waits, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

import zio
from tests.zio.helpers_outside import OUTSIDE, Outside, parked_calls
from zio.testing import run_virtual, wait_all_parked


def waiting(notify: zio.Notify, count: int) -> list[zio.Task[bool]]:
    """Tasks that wait, the first first."""
    tasks = []
    for _ in range(count):
        tasks.append(zio.spawn(notify.wait))
        wait_all_parked()
    return tasks


def test_a_notification_that_nobody_waits_for_is_lost() -> None:
    def main() -> None:
        notify = zio.Notify()
        notify.notify()
        notify.notify_all()
        assert notify.wait(timeout=1) is False
        assert zio.now() == 1

    run_virtual(main)


def test_notify_wakes_as_many_as_it_says_in_their_order() -> None:
    def main() -> None:
        notify = zio.Notify()
        tasks = waiting(notify, 5)
        notify.notify()
        wait_all_parked()
        assert [task.done for task in tasks] == [True, False, False, False, False]
        notify.notify(2)
        wait_all_parked()
        assert [task.done for task in tasks] == [True, True, True, False, False]
        notify.notify(9)
        assert all(task.join() is True for task in tasks)

    zio.run(main)


def test_notify_all_wakes_everybody() -> None:
    def main() -> None:
        notify = zio.Notify()
        tasks = waiting(notify, 5)
        notify.notify_all()
        assert all(task.join() is True for task in tasks)

    zio.run(main)


def test_a_count_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="n=0 must be 1 or more"):
        zio.Notify().notify(0)


def test_a_count_of_another_type_is_refused() -> None:
    count: Any = 1.5
    with pytest.raises(TypeError, match=r"n=1\.5 must be a whole number"):
        zio.Notify().notify(count)


def test_a_cancelled_waiter_takes_no_notification_from_the_next() -> None:
    def main() -> None:
        notify = zio.Notify()
        first, second = waiting(notify, 2)
        first.cancel()
        notify.notify()
        assert second.join() is True
        with pytest.raises(zio.Cancelled):
            first.join()

    zio.run(main)


def test_a_waiter_that_was_chosen_has_it_though_it_is_cancelled() -> None:
    def main() -> None:
        notify, got = zio.Notify(), list[bool]()
        first = zio.spawn(lambda: got.append(notify.wait()))
        wait_all_parked()
        notify.notify()
        first.cancel()
        first.join()
        assert got == [True]

    zio.run(main)


def test_a_notification_at_the_instant_of_the_timeout_counts() -> None:
    def main() -> None:
        notify = zio.Notify()

        def later() -> None:
            zio.sleep(1)
            notify.notify()

        zio.spawn(later)
        assert notify.wait(timeout=1) is True

    run_virtual(main)


def test_select_gets_true_and_only_if_it_waits() -> None:
    def main() -> None:
        notify = zio.Notify()
        notify.notify()
        with pytest.raises(TimeoutError):
            zio.select(notify, timeout=0)
        chosen = zio.spawn(lambda: zio.select(zio.Event(), it=notify))
        wait_all_parked()
        notify.notify()
        assert chosen.join() == ("it", True)

    zio.run(main)


def test_a_select_that_something_else_has_ended_takes_no_notification_from_the_next() -> None:
    def main() -> None:
        notify, event = zio.Notify(), zio.Event()
        chosen = zio.spawn(lambda: zio.select(notify, it=event))
        wait_all_parked()
        (task,) = waiting(notify, 1)
        event.set()
        notify.notify()
        assert task.join() is True
        assert chosen.join() == ("it", True)

    zio.run(main)


@OUTSIDE
def test_it_is_waited_for_and_notified_from_outside(outside: Outside) -> None:
    def main() -> None:
        notify = zio.Notify()
        waiter = outside(notify.wait)
        parked_calls()
        notify.notify()
        assert waiter.outcome() is True
        task = zio.spawn(notify.wait)
        wait_all_parked()
        outside(notify.notify_all).outcome()
        assert task.join() is True

    zio.run(main)
