"""Deadlines of requests: one entry in the loop's heap for all, on the virtual clock."""

from __future__ import annotations

from collections.abc import Iterable

import zio
from nats_zio.requests.deadlines import PAUSE, Deadlines
from zio.lowlevel import TIMED_OUT, WOKEN, Waiter, here


class Table:
    """What a client does with its requests, without the requests."""

    def __init__(self) -> None:
        self.loop = here().loop
        self.entries: dict[str, tuple[Waiter, float]] = {}
        self.deadlines = Deadlines(self.loop, self.entries)

    def wait(self, name: str, seconds: float) -> int:
        deadline = zio.now() + seconds
        waiter = Waiter(here(), name)
        self.entries[name] = waiter, deadline
        if deadline < self.deadlines.next:
            self.deadlines.start(deadline)
        state = self.loop.park(waiter)
        self.entries.pop(name, None)
        return state

    def wake(self, name: str) -> None:
        self.entries.pop(name)[0].wake()


def ends(seconds: Iterable[float]) -> list[tuple[float, float]]:
    """Start waits of so many seconds each, at once; (the seconds, when it ended) in the order of their ends."""
    table = Table()
    ended: list[tuple[float, float]] = []

    def wait(number: int, left: float) -> None:
        assert table.wait(str(number), left) == TIMED_OUT
        ended.append((left, zio.now()))

    with zio.TaskGroup() as group:
        for number, left in enumerate(seconds):
            group.spawn(wait, number, left)
    return ended


def test_each_wait_ends_at_its_deadline_whatever_the_order_they_began_in() -> None:
    def main() -> None:
        start = zio.now()
        ended = ends([3, 1, 2, 1, 5, 4])
        assert [left for left, _ in ended] == [1, 1, 2, 3, 4, 5]
        for left, at in ended:
            assert 0 <= at - start - left <= 6 * PAUSE

    zio.testing.run_virtual(main)


def test_of_many_close_together_none_is_later_than_a_pause_for_each() -> None:
    def main() -> None:
        start = zio.now()
        ended = ends(1 + number * PAUSE / 10 for number in range(500))
        # Those that one look ends do so at one moment, in the order of the ready queue, which a seed shuffles.
        moments = [at for _, at in sorted(ended)]
        assert moments == sorted(moments)
        for left, at in ended:
            assert 0 <= at - start - left <= 501 * PAUSE

    zio.testing.run_virtual(main)


def test_a_wake_in_the_same_tick_as_the_deadline_wins() -> None:
    def main() -> None:
        table = Table()
        task = zio.spawn(table.wait, "a", 1)
        zio.sleep(1)
        table.wake("a")
        assert task.join() == WOKEN

    zio.testing.run_virtual(main)


def test_when_all_are_answered_no_timer_keeps_the_clock_moving_and_a_later_wait_has_one_again() -> None:
    def main() -> None:
        table = Table()
        task = zio.spawn(table.wait, "a", 1)
        zio.testing.wait_all_parked()
        table.wake("a")
        assert task.join() == WOKEN
        start = zio.now()
        assert table.loop.timers.next_deadline() is None
        assert table.wait("b", 10) == TIMED_OUT
        assert zio.now() == start + 10

    zio.testing.run_virtual(main)


def test_a_deadline_that_has_passed_ends_the_wait_at_once() -> None:
    def main() -> None:
        start = zio.now()
        assert [at for _, at in ends([0, -1])] == [start, start]

    zio.testing.run_virtual(main)
