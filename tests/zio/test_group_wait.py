"""Waiting for a group to have no task: wait() and select."""

from __future__ import annotations

import pytest

import zio
from tests.zio.helpers_outside import OUTSIDE, Outside, parked_calls
from tests.zio.helpers_tasks import forever, sleep_then
from zio.testing import run_virtual, wait_all_parked


def test_wait_returns_when_all_tasks_have_ended_and_the_group_goes_on() -> None:
    def main() -> None:
        with zio.TaskGroup() as group:
            assert group.wait() is True
            for _ in range(2):
                group.spawn(zio.sleep, 1)
                group.spawn(zio.sleep, 2)
                start = zio.now()
                assert group.wait() is True
                assert zio.now() - start == 2

    run_virtual(main)


def test_tasks_that_come_while_it_waits_count() -> None:
    def main() -> None:
        with zio.TaskGroup() as group:
            group.spawn(sleep_then, 1, lambda: group.spawn(zio.sleep, 2))
            group.wait()
            assert zio.now() == 3

    run_virtual(main)


def test_wait_returns_false_when_its_time_is_up() -> None:
    def main() -> None:
        with zio.TaskGroup() as group:
            group.spawn(zio.sleep, 2)
            assert group.wait(timeout=1) is False
            assert zio.now() == 1
            assert group.wait(timeout=1) is True  # what happens when the time is up counts

    run_virtual(main)


def test_a_scope_around_the_wait_is_no_task() -> None:
    def main() -> None:
        with zio.TaskGroup() as group, zio.timeout(10):
            group.spawn(zio.sleep, 1)
            assert group.wait() is True
            assert zio.now() == 1

    run_virtual(main)


def test_select_completes_when_the_group_has_no_task() -> None:
    def main() -> None:
        with zio.TaskGroup() as group:
            assert zio.select(zio.Event(), idle=group) == ("idle", None)
            group.spawn(zio.sleep, 2)
            assert zio.select(group, tick=zio.after(1))[0] == "tick"
            assert zio.select(zio.Event(), idle=group) == ("idle", None)
            assert zio.now() == 2

    run_virtual(main)


def test_a_task_of_the_group_cannot_wait_for_itself() -> None:
    def main() -> None:
        with zio.TaskGroup() as group:

            def inner() -> None:
                for wait in (group.wait, lambda: zio.select(group)):
                    with pytest.raises(RuntimeError, match="cannot wait for itself"):
                        wait()

            def outer() -> None:
                inner()
                with zio.TaskGroup() as nested:
                    nested.spawn(inner)

            group.spawn(outer)

    zio.run(main)


def test_a_group_that_has_not_begun_cannot_be_waited_for() -> None:
    def main() -> None:
        for wait in (zio.TaskGroup().wait, lambda: zio.select(zio.TaskGroup())):
            with pytest.raises(RuntimeError, match="only when its block has begun"):
                wait()

    zio.run(main)


def test_others_wait_for_a_group_too_and_it_may_be_left_meanwhile() -> None:
    def main() -> None:
        with zio.TaskGroup() as group:
            group.spawn(forever)
            waiter = zio.spawn(group.wait)
            wait_all_parked()
            group.cancel()
        assert waiter.join() is True
        assert group.wait() is True

    zio.run(main)


@OUTSIDE
def test_it_is_waited_for_from_outside(outside: Outside) -> None:
    def main() -> None:
        gate = zio.Event()
        with zio.TaskGroup() as group:
            group.spawn(gate.wait)
            waiting, selecting = outside(group.wait), outside(lambda: zio.select(it=group))
            parked_calls(2)
            gate.set()
            assert waiting.outcome() is True
            assert selecting.outcome() == ("it", None)

    zio.run(main)
