"""Task groups: they end with their tasks, and the first error ends them all."""

# ruff: noqa: PT012  (a scope or group inside pytest.raises has a body of more than one statement)

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

import zio
from tests.zio.helpers_tasks import boom, forever, sleep_then
from zio.testing import run_virtual, wait_all_parked


def test_a_group_ends_when_its_tasks_have_ended() -> None:
    def main() -> None:
        with zio.TaskGroup() as group:
            tasks = [group.spawn(zio.sleep, seconds) for seconds in (1, 3, 2)]
        assert zio.now() == 3
        assert all(task.done for task in tasks)

    run_virtual(main)


def test_results_are_taken_from_the_tasks() -> None:
    def main() -> list[int]:
        with zio.TaskGroup() as group:
            tasks = [group.spawn(lambda n: n * n, n) for n in range(5)]
        return [task.result() for task in tasks]

    assert zio.run(main) == [0, 1, 4, 9, 16]


def test_tasks_of_a_group_may_spawn_into_it_while_the_block_waits() -> None:
    ran: list[int] = []

    def main() -> None:
        def spread(left: int) -> None:
            ran.append(left)
            zio.pause()
            if left:
                group.spawn(spread, left - 1)

        with zio.TaskGroup() as group:
            group.spawn(spread, 3)

    zio.run(main)
    assert ran == [3, 2, 1, 0]


def test_a_group_needs_a_zio_task() -> None:
    with pytest.raises(RuntimeError, match=r"zio\.run"), zio.TaskGroup():
        pass


def test_a_group_takes_no_task_before_and_after_its_block() -> None:
    """T9"""

    def main() -> None:
        group = zio.TaskGroup()
        with pytest.raises(RuntimeError, match="while its block runs"):
            group.spawn(forever)
        with group:
            pass
        with pytest.raises(RuntimeError, match="while its block runs"):
            group.spawn(forever)

    zio.run(main)


@pytest.mark.parametrize("by", ["its block", "another task"])
def test_a_group_that_is_entered_again_refuses_and_its_block_notices_nothing(by: str) -> None:
    def main() -> list[int]:
        def enter_again() -> None:
            with pytest.raises(RuntimeError, match=r"TaskGroup .* entered already"):
                group.__enter__()

        with zio.TaskGroup() as group:
            if by == "its block":
                enter_again()
            else:
                zio.spawn(enter_again).join()
            tasks = [group.spawn(in_turn, number) for number in range(3)]
        enter_again()
        return [task.join() for task in tasks]

    def in_turn(number: int) -> int:
        zio.pause()
        return number

    assert zio.run(main) == [0, 1, 2]


def test_a_group_that_another_task_leaves_refuses_and_its_block_notices_nothing() -> None:
    def main() -> bool:
        group = zio.TaskGroup()

        def leave() -> None:
            with pytest.raises(RuntimeError, match=r"is left in <Task leaver .*>, and was entered in <Task main"):
                group.__exit__(None, None, None)

        with group:
            event = zio.Event()
            task = group.spawn(event.wait)
            zio.spawn(leave, name="leaver").join()
            event.set()
        return task.join()

    assert zio.run(main)


def test_a_group_takes_no_task_from_another_thread() -> None:
    def main() -> None:
        with zio.TaskGroup() as group, pytest.raises(RuntimeError, match="another thread"):
            zio.to_thread(group.spawn, forever)

    zio.run(main)


def test_a_task_spawned_into_a_cancelled_group_never_runs_and_is_waited_for() -> None:
    """T9"""
    ran: list[str] = []

    def main() -> None:
        with zio.TaskGroup() as group:
            early = group.spawn(ran.append, "early")
            group.cancel()
            late = group.spawn(ran.append, "late")
        for task in (early, late):
            assert task.done
            assert isinstance(task.error, zio.Cancelled)

    zio.run(main)
    assert ran == []


def test_a_task_spawned_by_a_sibling_in_cleanup_never_runs() -> None:
    """T9: in a group that is being cancelled because of an error."""
    ran: list[str] = []

    def main() -> None:
        def sibling() -> None:
            try:
                forever()
            finally:
                group.spawn(ran.append, "late")

        with pytest.raises(ExceptionGroup), zio.TaskGroup() as group:
            group.spawn(sibling)
            wait_all_parked()
            group.spawn(boom)

    zio.run(main)
    assert ran == []


def test_the_first_error_cancels_the_siblings_and_the_block() -> None:
    """T10"""
    ended: list[str] = []

    def main() -> None:
        def sibling() -> None:
            try:
                forever()
            except zio.Cancelled:
                ended.append("sibling")
                raise

        with pytest.raises(ExceptionGroup) as caught, zio.TaskGroup() as group:
            group.spawn(sibling)
            wait_all_parked()
            group.spawn(boom)
            try:
                forever()
            finally:
                ended.append("block")
        assert [str(error) for error in caught.value.exceptions] == ["boom"]

    zio.run(main)
    assert sorted(ended) == ["block", "sibling"]


def test_all_errors_are_raised_and_no_cancelled_among_them() -> None:
    """T10"""

    def main() -> None:
        def failing_cleanup() -> None:
            try:
                forever()
            finally:
                boom("cleanup")

        with pytest.raises(ExceptionGroup) as caught, zio.TaskGroup() as group:
            group.spawn(failing_cleanup)
            group.spawn(forever)
            wait_all_parked()
            boom("block")
        assert sorted(str(error) for error in caught.value.exceptions) == ["block", "cleanup"]
        assert all(type(error) is ValueError for error in caught.value.exceptions)

    zio.run(main)


def test_an_error_of_the_block_cancels_the_tasks_and_is_raised_in_a_group() -> None:
    """T10"""

    def main() -> None:
        with pytest.raises(ExceptionGroup) as caught, zio.TaskGroup() as group:
            task = group.spawn(forever)
            wait_all_parked()
            boom("block")
        assert task.done
        assert [str(error) for error in caught.value.exceptions] == ["block"]

    zio.run(main)


def test_an_error_that_the_block_joined_is_raised_once() -> None:
    """T10: the task and the block fail with the same exception."""

    def main() -> None:
        with pytest.raises(ExceptionGroup) as caught, zio.TaskGroup() as group:
            group.spawn(boom).join()
        assert len(caught.value.exceptions) == 1

    zio.run(main)


def test_errors_keep_their_cause_and_context() -> None:
    """T10"""

    def chain() -> None:
        try:
            boom("first")
        except ValueError as error:
            raise KeyError("second") from error

    def main() -> None:
        with pytest.raises(ExceptionGroup) as caught, zio.TaskGroup() as group:
            group.spawn(chain)
        (error,) = caught.value.exceptions
        assert str(error.__cause__) == "first"
        assert error.__context__ is error.__cause__
        assert caught.value.__cause__ is None

    zio.run(main)


def test_nested_groups_raise_nested_exception_groups() -> None:
    """T10"""

    def inner() -> None:
        with zio.TaskGroup() as group:
            group.spawn(boom)

    def main() -> None:
        with pytest.raises(ExceptionGroup) as caught, zio.TaskGroup() as group:
            group.spawn(inner)
        (error,) = caught.value.exceptions
        assert isinstance(error, ExceptionGroup)
        assert isinstance(error.exceptions[0], ValueError)

    zio.run(main)


@pytest.mark.parametrize("where", ["task", "block"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboardinterrupt_and_systemexit_come_out_bare(kind: type[BaseException], where: str) -> None:
    """Design 6: they end the program, so no ``except*`` must be needed for them."""

    def leave() -> None:
        raise kind("out")

    def main() -> None:
        with zio.TaskGroup() as group:
            sibling = group.spawn(forever)
            siblings.append(sibling)
            wait_all_parked()
            if where == "task":
                group.spawn(leave)
                forever()
            leave()

    siblings: list[zio.Task[None]] = []
    with pytest.raises(kind, match="out"):
        zio.run(main)
    assert siblings[0].done


def test_cancelling_a_group_ends_it_quietly() -> None:
    def main() -> str:
        with zio.TaskGroup() as group:
            task = group.spawn(forever)
            wait_all_parked()
            group.cancel()
            group.cancel()
            assert group.cancelled
            forever()
        assert isinstance(task.error, zio.Cancelled)
        return "went on"

    assert zio.run(main) == "went on"


def test_a_task_may_cancel_its_group_while_the_block_waits() -> None:
    def main() -> str:
        with zio.TaskGroup() as group:
            group.spawn(forever)
            group.spawn(sleep_then, 1, group.cancel)
        assert zio.now() == 1
        return "went on"

    assert run_virtual(main) == "went on"


def test_a_group_can_be_cancelled_from_another_thread() -> None:
    """T18"""

    def main() -> str:
        with zio.TaskGroup() as group:
            group.spawn(forever)
            zio.to_thread(group.cancel)
        return "went on"

    assert zio.run(main) == "went on"


def test_cancelling_one_task_of_a_group_leaves_the_others_alone() -> None:
    def main() -> None:
        with zio.TaskGroup() as group:
            one, other = group.spawn(forever), group.spawn(zio.sleep, 1)
            zio.pause()
            one.cancel()
        assert isinstance(one.error, zio.Cancelled)
        assert other.error is None
        assert zio.now() == 1

    run_virtual(main)


def test_a_cancel_from_outside_goes_through_the_group_and_waits_for_its_tasks() -> None:
    def main() -> None:
        def slow_cleanup() -> None:
            try:
                forever()
            finally:
                with zio.shield():
                    zio.sleep(2)

        with zio.move_on_after(1) as scope:
            with zio.TaskGroup() as group:
                task = group.spawn(slow_cleanup)
            raise AssertionError("unreachable: the group was cancelled from outside")
        assert scope.expired
        assert task.done
        assert zio.now() == 3

    run_virtual(main)


def test_a_cancelled_task_leaves_its_own_group_only_when_its_tasks_have_ended() -> None:
    def main() -> None:
        inner: list[zio.Task[None]] = []

        def worker() -> None:
            with zio.TaskGroup() as group:
                inner.append(group.spawn(forever))

        task = zio.spawn(worker)
        wait_all_parked()
        task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()
        assert inner[0].done

    zio.run(main)


def test_errors_of_a_group_cancelled_from_outside_are_raised_not_lost() -> None:
    """T10"""

    def main() -> None:
        def failing_cleanup() -> None:
            try:
                forever()
            finally:
                boom("cleanup")

        with pytest.raises(ExceptionGroup) as caught, zio.move_on_after(1), zio.TaskGroup() as group:
            group.spawn(failing_cleanup)
        assert [str(error) for error in caught.value.exceptions] == ["cleanup"]

    run_virtual(main)


def test_a_timeout_around_a_group_is_a_plain_timeout_error() -> None:
    """T20"""

    def main() -> None:
        with pytest.raises(TimeoutError), zio.timeout(1), zio.TaskGroup() as group:
            group.spawn(forever)

    run_virtual(main)


def test_a_timeout_inside_a_task_of_a_group_stays_there() -> None:
    def main() -> None:
        def bounded() -> str:
            with zio.move_on_after(1):
                forever()
            return "in time"

        with zio.TaskGroup() as group:
            task = group.spawn(bounded)
            zio.sleep(2)
        assert task.result() == "in time"

    run_virtual(main)


def test_a_cancelled_that_nobody_asked_for_is_an_error() -> None:
    """A task that raises Cancelled without being cancelled has failed, and that must not vanish."""

    def stray() -> None:
        raise zio.Cancelled

    def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught, zio.TaskGroup() as group:
            group.spawn(stray)
        assert [type(error) for error in caught.value.exceptions] == [zio.Cancelled]

    zio.run(main)


def test_errors_of_a_group_are_not_reported_as_unhandled() -> None:
    reports: list[BaseException] = []

    def main() -> None:
        with pytest.raises(ExceptionGroup), zio.TaskGroup() as group:
            group.spawn(boom)

    zio.Runtime(on_unhandled=lambda _task, error: reports.append(error)).run(main)
    assert reports == []


def test_a_group_that_was_left_wakes_nobody_later() -> None:
    """The end of the last task and a cancel in the same tick wake the block once."""

    def main() -> None:
        for _ in range(20):
            with zio.TaskGroup() as group:
                tasks = [group.spawn(zio.sleep, 1) for _ in range(3)]
                zio.sleep(1)
                for task in tasks:
                    task.cancel()
                group.cancel()
            at = zio.now()
            zio.sleep(1)
            assert zio.now() == at + 1

    run_virtual(main)


@pytest.fixture
def only_reference_counts() -> Iterator[None]:
    """What is freed, is freed by reference counts; what the collector would have to free is found in gc.garbage."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def garbage() -> list[str]:
    """What of ours only the collector could free, in words (or the list would keep it alive)."""
    gc.collect()
    found = [repr(it) for it in gc.garbage if isinstance(it, BaseException) or type(it).__module__.startswith("zio")]
    gc.garbage.clear()
    return found


def fail_in_a_task(kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("boom")

    with zio.TaskGroup() as group:
        group.spawn(fail)


def fail_in_the_block(kind: type[BaseException]) -> None:
    with zio.TaskGroup() as group:
        group.spawn(forever)
        wait_all_parked()
        raise kind("boom")


def fail_in_both(kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("boom")

    with zio.TaskGroup() as group:
        group.spawn(fail).join()


@pytest.mark.usefixtures("only_reference_counts")
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("fail", [fail_in_a_task, fail_in_the_block, fail_in_both])
def test_errors_of_a_group_make_no_reference_cycles(fail: Any, kind: type[BaseException]) -> None:
    """T10"""
    found: list[str] = []

    def main() -> None:
        garbage()
        try:
            fail(kind)
        except BaseException:
            pass
        found.extend(garbage())

    zio.run(main)
    assert found == []


@pytest.mark.usefixtures("only_reference_counts")
def test_cancelled_scopes_and_groups_make_no_reference_cycles() -> None:
    """T10"""
    found: list[str] = []

    def main() -> None:
        garbage()
        with zio.move_on_after(0.001):
            forever()
        with zio.TaskGroup() as group:
            group.spawn(forever)
            wait_all_parked()
            group.cancel()
        try:
            with zio.timeout(0.001):
                forever()
        except TimeoutError:
            pass
        zio.spawn(zio.pause).join()
        found.extend(garbage())

    zio.run(main)
    assert found == []
