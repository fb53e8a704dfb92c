"""zio.map: each call a task, the results in order, and no item taken before its time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import zio
from tests.zio.helpers_outside import Thread
from tests.zio.helpers_tasks import boom, forever
from zio.testing import run_virtual, wait_all_parked


def slow_square(number: int) -> int:
    zio.sleep(10 - number)
    return number * number


@pytest.mark.parametrize(("limit", "seconds"), [(None, 9), (1, 45), (2, 23)])
def test_the_results_are_in_the_order_of_the_items(limit: int | None, seconds: float) -> None:
    def main() -> None:
        # The last ones end first.
        assert zio.map(slow_square, range(1, 10), limit) == [number * number for number in range(1, 10)]
        assert zio.now() == seconds

    run_virtual(main)


def test_nothing_gives_nothing() -> None:
    assert zio.run(zio.map, boom, []) == []
    assert zio.run(zio.map, boom, [], 3) == []


@pytest.mark.parametrize("limit", [0, -1, 1.5])
def test_a_limit_that_is_no_count_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 up, or None, not {limit}"):
        zio.map(boom, [], limit)


def test_there_are_never_more_calls_than_the_limit_and_an_item_is_taken_only_for_a_free_one() -> None:
    def main() -> None:
        taken, ended, running = [0], [0], [0]

        def items() -> Iterator[int]:
            for number in range(20):
                assert taken[0] - ended[0] < 3
                taken[0] += 1
                yield number

        def call(number: int) -> int:
            running[0] += 1
            assert running[0] <= 3
            zio.sleep(1 + number % 3)
            running[0] -= 1
            ended[0] += 1
            return number

        assert zio.map(call, items(), limit=3) == list(range(20))

    run_virtual(main)


def test_of_endless_items_no_more_are_taken_than_there_are_calls() -> None:
    def main() -> None:
        taken: list[int] = []

        def items() -> Iterator[int]:
            while True:
                taken.append(len(taken))
                yield taken[-1]

        with zio.move_on_after(1):
            zio.map(lambda _item: forever(), items(), limit=4)
        assert taken == [0, 1, 2, 3]

    run_virtual(main)


def test_the_items_may_come_from_a_channel() -> None:
    def main() -> None:
        channel = zio.Channel[int]()
        mapping = zio.spawn(zio.map, slow_square, channel, 2)
        for number in (1, 2, 3):
            channel.send(number)
        channel.close()
        assert mapping.join() == [1, 4, 9]

    run_virtual(main)


def test_a_cancel_leaves_what_was_not_begun_in_the_channel() -> None:
    def main() -> None:
        channel = zio.Channel[int](5)
        for number in range(5):
            channel.send(number)
        with zio.move_on_after(1):
            zio.map(lambda _item: forever(), channel, limit=2)
        assert list(iter(channel.try_recv, 4)) == [2, 3]

    run_virtual(main)


def test_the_first_error_cancels_the_other_calls() -> None:
    def main() -> None:
        ended: list[int] = []

        def call(number: int) -> None:
            if number == 2:
                zio.sleep(1)
                boom()
            try:
                forever()
            finally:
                ended.append(number)

        with pytest.raises(ExceptionGroup) as caught:
            zio.map(call, range(10), limit=4)
        assert [str(error) for error in caught.value.exceptions] == ["boom"]
        assert sorted(ended) == [0, 1, 3]

    run_virtual(main)


def test_an_error_of_the_items_cancels_the_calls() -> None:
    def main() -> None:
        def items() -> Iterator[int]:
            yield 1
            boom("no more")

        with pytest.raises(ExceptionGroup) as caught:
            zio.map(lambda _item: forever(), items(), limit=2)
        assert [str(error) for error in caught.value.exceptions] == ["no more"]

    zio.run(main)


def test_a_cancel_ends_the_calls_before_it_raises() -> None:
    def main() -> None:
        ended: list[float] = []

        def call(_item: int) -> None:
            try:
                forever()
            finally:
                with zio.shield():
                    zio.sleep(1)
                ended.append(zio.now())

        task = zio.spawn(zio.map, call, range(3))
        wait_all_parked()
        task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()
        assert ended == [1, 1, 1]

    run_virtual(main)


@pytest.mark.usefixtures("background_runtime")
def test_in_a_plain_thread_the_calls_run_in_the_background_runtime() -> None:
    def call(number: int) -> tuple[int, bool]:
        return number, zio.background().call(zio.current_task) is not None and zio.current_task() is not None

    assert Thread(zio.map, call, range(3), 2).outcome() == [(number, True) for number in range(3)]


@pytest.mark.usefixtures("background_runtime")
def test_a_timeout_around_it_in_a_plain_thread_ends_the_calls() -> None:
    ended: list[int] = []

    def call(number: int) -> None:
        try:
            forever()
        finally:
            ended.append(number)

    with pytest.raises(TimeoutError), zio.timeout(0.05):
        zio.map(call, range(3))
    assert sorted(ended) == [0, 1, 2]
