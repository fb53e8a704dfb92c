"""Sequencer: blocks of several tasks in the order of their numbers."""

from __future__ import annotations

from typing import Any

import pytest

import zio
from tests.zio.helpers_streams import in_turn
from zio.testing import Sequencer, run_virtual, wait_all_parked


@pytest.mark.parametrize("seed", range(5))
def test_blocks_run_in_the_order_of_their_numbers(seed: int) -> None:
    def main() -> list[int]:
        seq, log = Sequencer(), list[int]()

        def worker(*numbers: int) -> None:
            for number in numbers:
                with seq(number):
                    zio.sleep(1.0 / (number + 1))  # others could overtake it
                    log.append(number)

        with zio.TaskGroup() as group:
            group.spawn(worker, 2, 3, 7)
            group.spawn(worker, 1, 5, 6)
            group.spawn(worker, 0, 4)
        return log

    assert run_virtual(main, seed=seed) == list(range(8))


def test_a_block_that_raises_has_ended() -> None:
    def main() -> list[str]:
        seq, log = Sequencer(), list[str]()
        with pytest.raises(ValueError, match="mine"), seq(0):
            raise ValueError("mine")
        with seq(1):
            log.append("the next one")
        return log

    assert zio.run(main) == ["the next one"]


def test_a_number_is_for_one_block() -> None:
    def main() -> None:
        seq = Sequencer()
        with seq(0), pytest.raises(ValueError, match=r"block 0 .* already"), seq(0):
            pass
        waiting = zio.spawn(in_turn(seq(2).__enter__))
        wait_all_parked()
        with pytest.raises(ValueError, match=r"block 2 .* already"), seq(2):
            pass
        waiting.cancel()

    zio.run(main)


def test_a_cancelled_wait_gives_its_number_back() -> None:
    def main() -> str:
        seq = Sequencer()

        def block(number: int, text: str) -> str:
            with seq(number):
                return text

        first = zio.spawn(block, 1, "cancelled")
        wait_all_parked()
        first.cancel()
        with pytest.raises(zio.Cancelled):
            first.join()
        second = zio.spawn(block, 1, "tried again")
        with seq(0):
            pass
        return second.join()

    assert zio.run(main) == "tried again"


@pytest.mark.parametrize(
    ("number", "error", "text"),
    [(-1, ValueError, "0 or more, not -1"), ("1", TypeError, "not str"), (True, TypeError, "not bool")],
)
def test_a_number_that_is_none_is_refused(number: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Sequencer()(number)


def test_a_block_whose_predecessor_never_comes_is_a_deadlock() -> None:
    def main() -> None:
        with Sequencer()(1):
            pass

    with pytest.raises(zio.Deadlock):
        zio.run(main)
