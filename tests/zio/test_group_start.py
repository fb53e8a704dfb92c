"""TaskGroup.start: it returns when the task says that it has begun."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

import zio
from tests.zio.helpers_outside import Thread
from tests.zio.helpers_tasks import boom, forever
from zio.testing import VirtualClock, run_virtual, wait_all_parked

Started = Callable[..., None]


def test_start_returns_what_the_task_says_and_the_task_goes_on() -> None:
    def main() -> None:
        ended: list[str] = []

        def serve(name: str, *, started: Started) -> None:
            zio.sleep(1)
            started(f"{name} is up")
            zio.sleep(1)
            ended.append(name)

        with zio.TaskGroup() as group:
            assert group.start(serve, "server") == "server is up"
            assert (zio.now(), ended) == (1, [])
        assert (zio.now(), ended) == (2, ["server"])

    run_virtual(main)


def test_nothing_need_be_said_but_that_it_has_started() -> None:
    def main() -> None:
        with zio.TaskGroup() as group:
            assert group.start(lambda started: started()) is None

    zio.run(main)


def test_the_task_is_named_after_its_function_or_as_told() -> None:
    def main() -> None:
        def serve(started: Started) -> None:
            started(repr(zio.current_task()))

        with zio.TaskGroup() as group:
            assert "serve" in group.start(serve)
            assert "<Task web " in group.start(serve, name="web")

    zio.run(main)


def test_an_error_before_is_raised_by_start_alone() -> None:
    """The group goes on: it is the caller who decides what a failed start means."""

    def main() -> None:
        def fail(started: Started) -> None:
            boom()

        with zio.TaskGroup() as group:
            sibling = group.spawn(zio.sleep, 1)
            with pytest.raises(ValueError, match="boom"):
                group.start(fail)
            assert not group.cancelled
            sibling.join()

    reported: list[BaseException] = []
    zio.Runtime(on_unhandled=lambda _task, error: reported.append(error), clock=VirtualClock()).run(main)
    assert reported == []


def test_an_error_afterwards_is_one_of_the_group() -> None:
    def main() -> None:
        def fail(started: Started) -> None:
            started()
            boom()

        def block() -> None:
            with zio.TaskGroup() as group:
                group.start(fail)
                forever()

        with pytest.raises(ExceptionGroup) as caught:
            block()
        assert [str(error) for error in caught.value.exceptions] == ["boom"]

    zio.run(main)


def test_a_task_that_ends_without_a_word_is_an_error() -> None:
    def main() -> None:
        def forget(started: Started) -> None:
            zio.sleep(1)

        with (
            zio.TaskGroup() as group,
            pytest.raises(RuntimeError, match=r"forget.* ended without having called started"),
        ):
            group.start(forget)

    run_virtual(main)


def test_started_is_called_once() -> None:
    def main() -> None:
        def twice(started: Started) -> None:
            started(1)
            with pytest.raises(RuntimeError, match="called twice"):
                started(2)

        with zio.TaskGroup() as group:
            assert group.start(twice) == 1

    zio.run(main)


def test_started_is_not_called_when_the_task_has_ended() -> None:
    def main() -> None:
        kept: list[Started] = []

        with zio.TaskGroup() as group:
            with pytest.raises(RuntimeError, match="ended without"):
                group.start(lambda started: kept.append(started))
            with pytest.raises(RuntimeError, match="called when the task had ended"):
                kept[0]()

    zio.run(main)


def test_a_cancel_of_start_cancels_the_task_and_waits_for_its_end() -> None:
    def main() -> None:
        cleaned: list[float] = []

        def slow(started: Started) -> None:
            try:
                forever()
            finally:
                with zio.shield():
                    zio.sleep(2)
                cleaned.append(zio.now())

        with zio.TaskGroup() as group:
            with zio.move_on_after(1) as scope:
                group.start(slow)
            assert scope.expired
            assert cleaned == [3]
            assert not group.cancelled

    run_virtual(main)


def test_an_error_of_a_task_whose_start_was_cancelled_is_not_lost() -> None:
    def main() -> None:
        def slow(started: Started) -> None:
            try:
                forever()
            finally:
                boom()

        with pytest.raises(ExceptionGroup) as caught, zio.TaskGroup() as group, zio.move_on_after(1):
            group.start(slow)
        assert [str(error) for error in caught.value.exceptions] == ["boom"]

    run_virtual(main)


def test_a_task_that_says_so_when_its_start_has_been_cancelled_ends_all_the_same() -> None:
    def main() -> None:
        said: list[str] = []

        def late(started: Started) -> None:
            try:
                forever()
            finally:
                started("late")
                said.append("late")

        with zio.TaskGroup() as group:
            with zio.move_on_after(1) as scope:
                group.start(late)
            assert scope.expired
            assert said == ["late"]

    run_virtual(main)


def test_a_start_that_has_succeeded_returns_though_it_is_cancelled_in_the_same_tick() -> None:
    def main() -> None:
        results: list[str] = []
        scope = zio.CancelScope()

        def serve(started: Started) -> None:
            started("up")
            scope.cancel()
            zio.sleep(1)
            results.append("served")

        with zio.TaskGroup() as group:
            with scope:
                results.append(group.start(serve))
            wait_all_parked()
        assert results == ["up", "served"]

    run_virtual(main)


def test_a_start_from_outside_learns_that_the_group_was_cancelled() -> None:
    def main() -> None:
        def slow(started: Started) -> None:
            forever()

        with zio.TaskGroup() as group:
            starter = zio.spawn(group.start, slow)
            wait_all_parked()
            group.cancel()
        with pytest.raises(RuntimeError, match=r"slow.* was cancelled before it called started"):
            starter.join()

    zio.run(main)


def test_the_block_does_not_end_while_a_task_starts() -> None:
    def main() -> None:
        def slow(started: Started) -> None:
            zio.sleep(2)
            started()
            zio.sleep(2)

        with zio.TaskGroup() as group:
            zio.spawn(group.start, slow)
            zio.sleep(1)
        assert zio.now() == 4

    run_virtual(main)


def test_a_thread_may_say_that_it_has_started() -> None:
    def main() -> None:
        def serve(started: Started) -> None:
            Thread(started, "from a thread").outcome()

        with zio.TaskGroup() as group:
            assert group.start(serve) == "from a thread"

    zio.run(main)


def test_it_needs_a_block_that_runs() -> None:
    def main() -> None:
        group = zio.TaskGroup()
        with pytest.raises(RuntimeError, match="only while its block runs"):
            group.start(lambda started: started())
        with group:
            pass
        with pytest.raises(RuntimeError, match="only while its block runs"):
            group.start(lambda started: started())

    zio.run(main)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_error_makes_no_reference_cycle(when: str) -> None:
    def main() -> None:
        def fail(started: Started) -> None:
            if when == "after":
                started()
            boom()

        def attempt() -> None:
            try:
                with zio.TaskGroup() as group:
                    group.start(fail)
            except ExceptionGroup:
                return

        attempt()
        gc.collect()
        gc.disable()
        try:
            attempt()
            assert gc.collect() == 0
        finally:
            gc.enable()

    zio.run(main)
