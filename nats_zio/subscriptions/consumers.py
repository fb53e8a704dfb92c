"""Who is at work on the messages of a subscription: its handler, and loops. A drain waits until they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from zio.lowlevel import CANCELLED, Fiber, Waiter, WaitQueue, current_holder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core import Core
    from .handlers import HandlerRunner
    from .subscription import Subscription


class Consumers:
    """The consumers of one subscription."""

    def __init__(self, core: Core) -> None:
        self.runner: HandlerRunner | None = None  # of its handler
        self._core = core
        self._loops: dict[object, Any] = {}  # those under way, with the task or thread that began them
        self._watchers = WaitQueue()  # who waits until all is consumed

    def loop_began(self, sub: Subscription) -> object:
        """A loop over the messages begins; returns what names it."""
        name = object()
        self._loops[name] = current_holder()
        self._core.in_use[sub] = None
        return name

    def loop_ended(self, sub: Subscription, name: object) -> None:
        """That loop has ended. From any thread."""
        self._loops.pop(name, None)
        if not self._loops:
            self._core.in_use.pop(sub, None)
        loop = self._core.loop
        if self._watchers.items and not loop.closed and not loop.forked:
            loop.urgent(self.look_again)

    def emptied(self) -> None:
        """A plain thread has found nothing pending."""
        if self._watchers.items:
            self._core.loop.post(self.look_again, optional=True)

    def look_again(self) -> None:
        """Have those who wait until it is settled look at it again. At home."""
        self._watchers.wake_all()

    def settled(self) -> bool:
        """Whether nobody but the caller has anything left to do with it."""
        excused = self._core.draining.excused
        if self.runner is not None:
            return self.runner.idle(excused)
        return all(owner in excused or getattr(owner, "done", False) for owner in list(self._loops.values()))

    def at_rest(self) -> bool:
        """Whether no handler is at work but the caller's."""
        return self.runner is None or self.runner.at_rest(self._core.draining.excused)

    def wait_settled(self, sub: Subscription, seconds: float | None) -> bool:
        """Wait until ``settled``; False after ``seconds``."""
        return self._wait_until(self.settled, sub, seconds)

    def wait_at_rest(self, sub: Subscription, seconds: float | None) -> bool:
        """Wait until ``at_rest``; False after ``seconds``."""
        return self._wait_until(self.at_rest, sub, seconds)

    def _wait_until(self, reached: Callable[[], bool], sub: Subscription, seconds: float | None) -> bool:
        fiber = getcurrent()
        assert type(fiber) is Fiber
        clock = fiber.loop.clock
        deadline = None if seconds is None else clock.now() + seconds
        while True:
            waiter = Waiter(fiber, sub)
            self._watchers.push(waiter)  # before the look: a thread that empties the queue then sees it
            left = None if deadline is None else deadline - clock.now()
            is_reached = reached()
            if is_reached or (left is not None and left <= 0):
                waiter.state = CANCELLED
                self._watchers.discard(waiter)
                return is_reached
            fiber.loop.wait(waiter, left, self._watchers.discard)
