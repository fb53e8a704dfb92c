"""The ready queue of a loop in a forked child, where nothing runs it."""

from __future__ import annotations

from collections import deque
from typing import Any

from .task import Task


class AbandonedQueue(deque[Any]):
    """Refuses tasks with ForkedError, since they would never run; so that who spawns need not ask.

    Wake-ups it forgets: what others wait for can be closed in the child.
    """

    def append(self, item: Any) -> None:
        if type(item) is Task:
            del item.parent.kids[item]  # type: ignore[union-attr]
            item.loop.check_usable()

    def appendleft(self, item: Any) -> None:
        self.append(item)
