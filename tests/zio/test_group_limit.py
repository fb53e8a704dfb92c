"""TaskGroup(limit=): no more tasks than so many, and who spawns waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import zio
from tests.zio.helpers_tasks import boom, forever
from zio.testing import run_virtual, wait_all_parked


@pytest.mark.parametrize("limit", [0, -1, 1.5])
def test_a_limit_that_is_no_count_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 up, or None, not {limit}"):
        zio.TaskGroup(limit)


def test_there_are_never_more_tasks_and_all_run() -> None:
    def main() -> None:
        running, most, ended = [0], [0], list[int]()

        def work(number: int) -> None:
            running[0] += 1
            most[0] = max(most[0], running[0])
            zio.sleep(1)
            running[0] -= 1
            ended.append(number)

        with zio.TaskGroup(limit=3) as group:
            for number in range(10):
                group.spawn(work, number)
        assert sorted(ended) == list(range(10))
        assert most == [3]
        assert zio.now() == 4

    run_virtual(main)


def test_spawn_goes_on_as_soon_as_one_task_has_ended_in_whatever_way() -> None:
    def main() -> None:
        with zio.TaskGroup(limit=2) as group:
            group.spawn(zio.sleep, 5)
            second = group.spawn(forever)
            zio.spawn(zio.sleep, 1)

            def cancel_later() -> None:
                zio.sleep(2)
                second.cancel()

            zio.spawn(cancel_later)
            group.spawn(zio.sleep, 10)
            assert zio.now() == 2
            group.spawn(zio.sleep, 0)
            assert zio.now() == 5

    run_virtual(main)


def test_tasks_wait_for_their_place_in_the_order_they_came() -> None:
    def main() -> None:
        started: list[int] = []
        with zio.TaskGroup() as spawners, zio.TaskGroup(limit=1) as group:
            group.spawn(zio.sleep, 1)
            for number in range(5):
                spawners.spawn(group.spawn, started.append, number)
                wait_all_parked()
        assert started == list(range(5))

    run_virtual(main)


def test_a_spawn_that_is_cancelled_while_it_waits_starts_nothing_and_takes_no_place() -> None:
    def main() -> None:
        ran: list[str] = []
        with zio.TaskGroup(limit=1) as group:
            first = group.spawn(zio.sleep, 2)
            with zio.move_on_after(1) as scope:
                group.spawn(ran.append, "cancelled")
            assert scope.expired
            first.join()
            group.spawn(ran.append, "next")
        assert ran == ["next"]

    run_virtual(main)


def test_a_spawn_in_a_cancelled_scope_raises_even_if_there_is_a_place() -> None:
    def main() -> None:
        ran: list[str] = []
        with zio.TaskGroup(limit=1) as group:
            with zio.CancelScope() as scope:
                scope.cancel()
                group.spawn(ran.append, "cancelled")
            assert scope.cancelled_caught
            group.spawn(ran.append, "next")
        assert ran == ["next"]

    zio.run(main)


def test_an_error_of_a_task_ends_the_wait_of_the_block() -> None:
    def main() -> None:
        ran: list[str] = []

        def block() -> None:
            with zio.TaskGroup(limit=1) as group:
                group.spawn(boom)
                group.spawn(ran.append, "never")

        with pytest.raises(ExceptionGroup) as caught:
            block()
        assert [str(error) for error in caught.value.exceptions] == ["boom"]
        assert ran == []

    zio.run(main)


def test_the_block_does_not_end_while_somebody_waits_to_spawn() -> None:
    def main() -> None:
        ran: list[int] = []
        with zio.TaskGroup(limit=1) as group:
            group.spawn(zio.sleep, 1)
            for number in range(3):
                zio.spawn(group.spawn, ran.append, number)
            wait_all_parked()
        assert sorted(ran) == [0, 1, 2]

    run_virtual(main)


def test_who_waits_to_spawn_when_the_group_is_cancelled_gets_a_task_that_never_runs() -> None:
    def main() -> None:
        ran: list[str] = []
        with zio.TaskGroup(limit=1) as group:
            group.spawn(forever)
            outside = [zio.spawn(group.spawn, ran.append, "never") for _ in range(3)]
            wait_all_parked()
            group.cancel()
        for task in outside:
            with pytest.raises(zio.Cancelled):
                task.join().join()
        assert ran == []

    zio.run(main)


@pytest.mark.parametrize("seed", range(20))
def test_the_block_ends_when_the_last_who_waited_to_spawn_gives_up(seed: int) -> None:
    """In whatever order the tasks run that are ready then."""

    def main() -> None:
        with zio.TaskGroup(limit=1) as group:
            first = group.spawn(forever)
            waiting = zio.spawn(group.spawn, zio.sleep, 0)
            wait_all_parked()

            def end() -> None:
                waiting.cancel()
                first.cancel()

            zio.spawn(end)
        assert waiting.cancelled

    run_virtual(main, seed=seed)


def test_start_needs_a_place_too() -> None:
    def main() -> None:
        def serve(started: object) -> None:
            assert callable(started)
            started("up")
            zio.sleep(1)

        with zio.TaskGroup(limit=1) as group:
            group.spawn(zio.sleep, 3)
            assert group.start(serve) == "up"
            assert zio.now() == 3
            group.spawn(zio.sleep, 0)
            assert zio.now() == 4

    run_virtual(main)


def test_a_start_that_fails_gives_its_place_back() -> None:
    def main() -> None:
        def fail(started: object) -> None:
            boom()

        with zio.TaskGroup(limit=1) as group:
            for _ in range(3):
                with pytest.raises(ValueError, match="boom"):
                    group.start(fail)
            group.spawn(zio.sleep, 1)

    run_virtual(main)


@pytest.mark.parametrize("call", ["spawn", "start"])
def test_a_place_that_is_got_in_the_tick_of_the_cancel_is_not_lost(call: str) -> None:
    def main() -> None:
        ran: list[str] = []

        def work(started: Callable[[], None] = lambda: None) -> None:
            ran.append("ran")
            started()

        with zio.TaskGroup(limit=1) as group:
            gate = zio.Event()
            first = group.spawn(gate.wait)
            caller = zio.spawn(getattr(group, call), work)
            wait_all_parked()
            gate.set()
            first.join()  # its end has given the place to the caller, who has not run yet
            caller.cancel()
            group.spawn(ran.append, "next").join()
        wait_all_parked()
        assert ran[-1] == "next"
        assert caller.done

    zio.run(main)


def test_a_start_that_is_cancelled_when_it_gets_its_place_waits_for_nothing() -> None:
    def main() -> None:
        ran: list[str] = []

        def never(started: object) -> None:
            ran.append("ran")
            forever()

        with zio.TaskGroup(limit=1) as group:
            gate = zio.Event()
            first = group.spawn(gate.wait)
            caller = zio.spawn(group.start, never)
            wait_all_parked()
            gate.set()
            first.join()
            caller.cancel()
            with pytest.raises(zio.Cancelled):
                caller.join()
            group.spawn(ran.append, "next")
        assert ran[-1] == "next"

    run_virtual(main)


def test_a_start_in_a_cancelled_scope_starts_nothing_and_takes_no_place() -> None:
    def main() -> None:
        ran: list[str] = []

        def work(started: Callable[[], None]) -> None:
            ran.append("ran")

        with zio.TaskGroup(limit=1) as group:
            with zio.CancelScope() as scope:
                scope.cancel()
                group.start(work)
            assert scope.cancelled_caught
            group.spawn(ran.append, "next")
        assert ran == ["next"]

    zio.run(main)
