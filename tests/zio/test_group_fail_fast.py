"""TaskGroup(fail_fast=False): an error cancels nobody, and none is lost."""

from __future__ import annotations

import pytest

import zio
from tests.zio.helpers_tasks import boom, forever
from zio.testing import run_virtual


def messages(error: pytest.ExceptionInfo[BaseExceptionGroup[BaseException]]) -> list[str]:
    return sorted(str(one) for one in error.value.exceptions)


def test_the_other_tasks_and_the_block_go_on_and_all_errors_are_raised_at_the_end() -> None:
    def main() -> None:
        ended: list[str] = []

        def work(seconds: float, name: str) -> None:
            zio.sleep(seconds)
            ended.append(name)

        def block() -> None:
            with zio.TaskGroup(fail_fast=False) as group:
                group.spawn(boom, "one")
                group.spawn(work, 5, "slow")
                zio.sleep(1)
                group.spawn(boom, "two")
                assert not group.cancelled
                work(1, "block")

        with pytest.raises(ExceptionGroup) as caught:
            block()
        assert messages(caught) == ["one", "two"]
        assert ended == ["block", "slow"]

    run_virtual(main)


def test_an_error_of_the_block_cancels_no_task() -> None:
    def main() -> None:
        ended: list[float] = []

        def work() -> None:
            zio.sleep(3)
            ended.append(zio.now())
            boom("of the task")

        def block() -> None:
            with zio.TaskGroup(fail_fast=False) as group:
                group.spawn(work)
                boom("of the block")

        with pytest.raises(ExceptionGroup) as caught:
            block()
        assert messages(caught) == ["of the block", "of the task"]
        assert ended == [3]

    run_virtual(main)


def test_a_group_without_errors_ends_quietly() -> None:
    def main() -> None:
        with zio.TaskGroup(fail_fast=False) as group:
            group.spawn(zio.sleep, 1)

    run_virtual(main)


def test_it_can_be_cancelled_like_any_group_and_raises_what_had_failed() -> None:
    def main() -> None:
        def block() -> None:
            with zio.TaskGroup(fail_fast=False) as group:
                group.spawn(boom)
                group.spawn(forever)
                zio.sleep(1)
                group.cancel()

        with pytest.raises(ExceptionGroup) as caught:
            block()
        assert messages(caught) == ["boom"]

    run_virtual(main)


def test_an_exit_cancels_all_the_same_and_comes_out_bare() -> None:
    def leave() -> None:
        raise SystemExit(3)

    times: list[float] = []

    def main() -> None:
        try:
            with zio.TaskGroup(fail_fast=False) as group:
                group.spawn(leave)
                zio.sleep(3600)
        finally:
            times.append(zio.now())

    with pytest.raises(SystemExit, match="3"):
        run_virtual(main)
    assert times == [0]


def test_a_deadlock_ends_it() -> None:
    def main() -> None:
        with zio.TaskGroup(fail_fast=False) as group:
            group.spawn(zio.Event().wait)

    with pytest.raises(ExceptionGroup) as caught:
        zio.run(main)
    assert [type(error) for error in caught.value.exceptions] == [zio.Deadlock]
