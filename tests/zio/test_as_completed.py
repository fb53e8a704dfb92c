"""zio.as_completed: tasks and futures in the order in which they end."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import zio
from tests.zio.helpers_outside import OUTSIDE, Outside, in_other_loop, parked_calls
from tests.zio.helpers_tasks import boom, forever, sleep_then
from zio.testing import run_virtual, wait_all_parked


def test_they_come_in_the_order_in_which_they_end() -> None:
    def main() -> None:
        tasks = [zio.spawn(sleep_then, seconds, lambda seconds=seconds: seconds) for seconds in (3, 1, 2)]
        times = []
        for task in zio.as_completed(tasks):
            assert task.done
            times.append((zio.now(), task.join()))
        assert times == [(1, 1), (2, 2), (3, 3)]

    run_virtual(main)


def test_what_has_ended_before_comes_first() -> None:
    def main() -> None:
        ended = zio.spawn(lambda: "ended")
        ended.join()
        running = zio.spawn(sleep_then, 1, lambda: "later")
        assert list(zio.as_completed([running, ended])) == [ended, running]

    run_virtual(main)


def test_futures_are_taken_too() -> None:
    def main() -> None:
        future, task = zio.Future[str](), zio.spawn(zio.sleep, 2)
        zio.spawn(sleep_then, 1, lambda: future.set_result("done"))
        sources: list[zio.Task[None] | zio.Future[str]] = [task, future]
        assert list(zio.as_completed(sources)) == [future, task]

    run_virtual(main)


def test_nothing_gives_nothing() -> None:
    assert list(zio.as_completed([])) == []


def test_tasks_of_a_run_that_has_ended_can_be_asked() -> None:
    task = zio.run(lambda: zio.spawn(lambda: 7))
    assert [t.error for t in zio.as_completed([task])] == [task.error]


def test_what_is_neither_is_refused() -> None:
    with pytest.raises(TypeError, match="tasks and futures, not 5"):
        zio.as_completed([5])  # type: ignore[type-var]


def test_failed_ones_come_like_any_and_their_error_is_raised_by_join() -> None:
    def main() -> None:
        (task,) = zio.as_completed([zio.spawn(boom)])
        with pytest.raises(ValueError, match="boom"):
            task.join()

    zio.run(main)


def unhandled(main: Any) -> list[str]:
    reported: list[str] = []
    zio.Runtime(on_unhandled=lambda _task, error: reported.append(str(error))).run(main)
    return reported


def test_an_error_is_not_reported_as_unhandled_if_the_loop_waits_for_it() -> None:
    def main() -> None:
        assert len(list(zio.as_completed([zio.spawn(boom)]))) == 1

    assert unhandled(main) == []


def test_an_error_is_reported_if_nobody_waits_in_the_loop() -> None:
    """It may never be asked for: better twice than never."""

    def main() -> None:
        task = zio.spawn(boom)
        ended = zio.as_completed([task])
        wait_all_parked()
        assert list(ended) == [task]

    assert unhandled(main) == ["boom"]


def test_leaving_the_loop_leaves_the_tasks_alone_and_their_errors_to_be_reported() -> None:
    def main() -> None:
        for _ in zio.as_completed([zio.spawn(zio.sleep, 0), failing := zio.spawn(sleep_then, 0.01, boom)]):
            break
        gc.collect()
        while not failing.done:
            zio.sleep(0.001)

    assert unhandled(main) == ["boom"]


def test_a_cancel_takes_nothing() -> None:
    def main() -> None:
        task = zio.spawn(zio.sleep, 2)
        ended = zio.as_completed([task])
        with zio.move_on_after(1) as scope:
            next(ended)
        assert scope.expired
        assert list(ended) == [task]

    run_virtual(main)


def test_tasks_that_share_it_share_what_comes_and_all_end() -> None:
    def main() -> None:
        tasks = [zio.spawn(zio.sleep, seconds) for seconds in range(5)]
        ended = zio.as_completed(tasks)
        takers: list[zio.Task[list[zio.Task[None]]]] = [zio.spawn(list, ended) for _ in range(7)]
        shares = [taker.join() for taker in takers]
        assert sorted(id(task) for share in shares for task in share) == sorted(map(id, tasks))

    run_virtual(main)


def test_of_two_runs_at_once_is_refused() -> None:
    def main() -> None:
        gate, theirs = zio.Event(), zio.Future[zio.Task[None]]()

        def other() -> None:
            theirs.set_result(zio.spawn(forever))
            gate.wait()

        loop = in_other_loop(other)
        with pytest.raises(zio.WrongLoop, match=r"loops: <Task forever .*> belongs to <loop of Runtime \d+, in"):
            zio.as_completed([zio.spawn(forever), theirs.result()])
        gate.set()
        loop.outcome()

    zio.run(main)


@OUTSIDE
def test_it_is_used_from_outside(outside: Outside) -> None:
    def main() -> None:
        gates = [zio.Event(), zio.Event()]
        tasks = [zio.spawn(gate.wait) for gate in gates]
        ended = outside(zio.as_completed, tasks).outcome()
        taker = outside(list, ended)
        for gate in reversed(gates):
            parked_calls()
            gate.set()
            wait_all_parked()
        assert taker.outcome() == tasks[::-1]

    zio.run(main)
