"""What a plain thread waits on outside the loop: settled once, from any thread."""

from __future__ import annotations

import threading
from typing import Any


class ThreadLatch:
    """A value or an error that comes once. ``zio.lowlevel.wait_in_thread`` waits for it."""

    __slots__ = ("_lock", "error", "settled", "value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.settled = False
        self.value: Any = None
        self.error: BaseException | None = None

    def wake(self, value: Any = None, source: object = None) -> bool:
        """Settle it with a value. Named and shaped like a waiter's ``wake``."""
        self.value = value
        self.settled = True
        self.interrupt()
        return True

    def fail(self, error: BaseException) -> bool:
        """Settle it with an error."""
        self.error = error
        self.settled = True
        self.interrupt()
        return True

    def wait(self, seconds: float) -> bool:
        """Until it is settled or interrupted, at most ``seconds``."""
        return self._lock.acquire(timeout=max(seconds, 0))

    def interrupt(self) -> None:
        """Have ``wait`` return."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it is about to return anyway
