"""Plain threads that wait for messages: they are told that there is something, and take it themselves.

So nothing is lost when one is interrupted: what it was roused for is still in the queue.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from zio.lowlevel import wait_in_thread

from .latch import ThreadLatch

if TYPE_CHECKING:
    from collections.abc import Callable


class Sleepers(deque[ThreadLatch]):
    """The threads asleep, in order of their coming."""

    def sleep(
        self,
        ready: Callable[[], bool],
        seconds: float | None,
        what: object = None,
        on_wait: Callable[[], None] | None = None,
    ) -> bool:
        """Block this plain thread until roused, or return at once if it is ``ready()``; False after ``seconds``.

        ``what`` and ``on_wait`` are those of a latch. Raises Cancelled, or whatever interrupts the thread: then another
        one is roused in its place.
        """
        latch = ThreadLatch(what, on_wait)
        self.append(latch)
        # Only now a look at what there is: the loop adds to it first, and then looks for sleepers.
        try:
            roused = ready() or wait_in_thread(latch, seconds)
        except BaseException:
            if not self._forget(latch) and ready():
                self.rouse(1)  # what this one was woken for is for the next
            raise
        self._forget(latch)
        return roused

    def rouse(self, count: int) -> None:
        """Wake so many of them. From any thread."""
        try:
            for _ in range(count):
                self.popleft().wake()
        except IndexError:
            return  # no more of them

    def _forget(self, latch: ThreadLatch) -> bool:
        """Whether it was still asleep."""
        try:
            self.remove(latch)
        except ValueError:
            return False
        return True
