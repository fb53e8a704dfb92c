"""RLock: a lock that its owner may take again."""

from __future__ import annotations

from greenlet import getcurrent

from .._core import Fiber, current_owner
from .lock import Lock


class RLock(Lock):
    """A lock that whoever holds it may acquire again, and must release as often. Otherwise like :class:`Lock`."""

    __slots__ = ("_depth",)

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0  # of the owner, from when its acquire has returned

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock, once more if the caller has it; else wait at most ``timeout`` seconds: False if they pass.

        False also if it is taken and not ``blocking``. When it raises, Cancelled included, it was not taken once more.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.loop is not self._loop:
            return self._elsewhere(self.acquire, blocking, timeout)  # type: ignore[no-any-return]
        if self._owner is fiber.task.owner:  # type: ignore[union-attr]
            loop = fiber.loop
            if loop.budget <= 0:
                loop.checkpoint(fiber)
            else:
                loop.budget -= 1
            self._depth += 1
            return True
        if not super().acquire(blocking, timeout):
            return False
        self._depth = 1
        return True

    def _release(self, me: object) -> None:
        if self._owner is me and self._depth > 1:
            self._depth -= 1
        else:
            super()._release(me)

    def release_all(self) -> int:
        """Release it as often as the caller has acquired it; how often that was. Never blocks."""
        return self._edit(self._release_all, current_owner())  # type: ignore[no-any-return]

    def _release_all(self, me: object) -> int:
        depth, self._depth = self._depth, 1
        try:
            super()._release(me)
        except RuntimeError:  # it belongs to somebody else
            self._depth = depth
            raise
        return depth

    def acquire_again(self, times: int) -> None:
        """Take it as often as before."""
        self.acquire()
        self._edit(self._set_depth, times)

    def _set_depth(self, depth: int) -> None:
        self._depth = depth
