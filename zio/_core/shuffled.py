"""Tasks in random order, for tests."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .fiber import Fiber
from .task import Task

if TYPE_CHECKING:
    from random import Random


class ShuffledQueue(deque[Any]):
    """A ready queue that gives out a random entry: for tests, to show what relies on an order nobody promised.

    What was promised holds: a timeout waits until all that was ready before it has run.
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random

    def __getitem__(self, index: Any) -> Any:
        """The head, which is chosen now; ``del`` removes it."""
        assert index == 0
        at = self._random.randrange(len(self))
        for position, item in enumerate(self):
            if position > at:
                break
            if type(item) is not Fiber and type(item) is not Task:
                at = self._random.randrange(position) if position else 0
                break
        item = super().__getitem__(at)
        super().__delitem__(at)
        super().appendleft(item)
        return item
