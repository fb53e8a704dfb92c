"""Lock: mutual exclusion, with an owner."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from greenlet import getcurrent

from .._core import WOKEN, BrokenLock, Fiber, Homed, Waiter, WaitQueue, current_owner
from .ownership import OwnerWatch, has_ended

if TYPE_CHECKING:
    from .._core import Loop


class Lock(Homed):
    """Mutual exclusion, first come first served; not re-entrant. ``with lock:`` holds it.

    The owner is a task or a plain thread, and only the owner may release. If the owner ends without
    releasing, everybody who waits or comes later gets BrokenLock.
    """

    __slots__ = ("_owner", "_waiters", "_watch")

    def __init__(self) -> None:
        super().__init__()
        self._owner: Any = None
        self._waiters = WaitQueue()  # their waiters carry the future owner as value until claimed
        self._watch: OwnerWatch | None = None

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock, waiting for it at most ``timeout`` seconds; False if they pass (or if ``not blocking``).

        RuntimeError if the caller holds it already. When it raises, Cancelled included, the lock was not taken.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.acquire, blocking, timeout)  # type: ignore[no-any-return]
        loop = fiber.loop
        budget = loop.budget
        if budget <= 0:
            loop.checkpoint(fiber)
        else:
            loop.budget = budget - 1
        task = fiber.task
        assert task is not None
        me = task if task.parent is not loop.calls else task.owner  # written out: the property takes 35 ns
        owner = self._owner
        if owner is None:
            self._owner = me
            return True
        if owner is me:
            raise RuntimeError(f"{self!r} is held by {me!r} already; it is not re-entrant")
        self._raise_if_broken()
        if not blocking:
            return False
        self._watch_owner()
        waiter = Waiter(fiber, self)
        waiter.value = me
        try:
            take = partial(self._take, me)
            return loop.wait(waiter, timeout, self._waiters.discard, self._waiters.items, take)
        except BaseException:
            if waiter.state == WOKEN and self._owner is me:  # struck by an error when it had the lock already
                self._pass_on()
            raise

    def _take(self, me: Any) -> bool:
        """Whether it could be taken for ``me``: a signal handler may have released it just now."""
        if self._owner is None:
            self._owner = me
        return self._owner is me

    def release(self) -> None:
        """Give the lock to the first who waits. RuntimeError if the caller does not hold it. Never blocks."""
        fiber = getcurrent()
        if type(fiber) is Fiber and fiber.loop is self._loop:
            self._release(fiber.task.owner)  # type: ignore[union-attr]
        else:
            self._edit(self._release, current_owner())

    def _release(self, me: Any) -> None:
        if self._owner is not me:
            held = "nobody" if self._owner is None else repr(self._owner)
            raise RuntimeError(f"{self!r} is held by {held}, so {me!r} cannot release it")
        self._pass_on()

    def _pass_on(self) -> None:
        if self._watch is not None:
            self._watch.stand_down(self._owner)
            self._watch = None
        waiter = self._waiters.peek()
        if waiter is None:
            self._owner = None
        else:
            before, self._owner = self._owner, waiter.value
            try:
                self._waiters.wake_one()
            except BaseException:
                if not waiter.state:
                    self._owner = before
                raise
            if self._waiters:
                self._watch_owner()

    # For a condition, which takes an RLock too.

    def release_all(self) -> int:
        """Release it as often as the caller has acquired it; how often that was. Never blocks."""
        self.release()
        return 1

    def acquire_again(self, times: int) -> None:
        """Take it as often as before."""
        self.acquire()

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._owner is not None

    def held_by(self, owner: object) -> bool:
        """Whether that task or thread holds it."""
        return self._owner is owner

    # An owner that ends without releasing.

    def _watch_owner(self) -> None:
        if self._watch is None:
            self._watch = OwnerWatch(self)
            self._watch.stand_by(self._owner)

    @property
    def home(self) -> Loop:
        """The loop whose thread edits it; known as soon as somebody waits."""
        assert self._loop is not None
        return self._loop

    def owner_ended(self, owner: object) -> None:
        """Called in the home loop when the owner watched has ended."""
        if self._owner is owner:
            self._watch = None
            self._waiters.fail_all(self._broken)

    def _broken(self) -> BrokenLock:
        return BrokenLock(f"{self._owner!r} ended while it held {self!r}")

    def _raise_if_broken(self) -> None:
        if has_ended(self._owner):
            raise self._broken()

    def __enter__(self) -> Self:
        held = self._owner is not None and self._owner is current_owner()
        try:
            self.acquire()
            return self
        except BaseException:
            if not held and self._owner is current_owner():  # struck by an error when it had the lock already
                self.release()
            raise

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.release()
        except BaseException:
            if self._owner is not None and self._owner is current_owner():  # struck before it was released
                self.release()
            raise

    def __repr__(self) -> str:
        held = "free" if self._owner is None else f"held by {self._owner!r}"
        return f"<{type(self).__name__} {held} at {id(self):#x}>"
