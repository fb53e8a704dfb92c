"""What a plain thread waits on outside the loop: settled once, from any thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class ThreadLatch:
    """A value or an error that comes once. ``zio.lowlevel.wait_in_thread`` waits for it.

    ``what`` says what the thread waits on; ``on_wait`` is called when it has begun to.
    """

    __slots__ = ("_lock", "_on_wait", "error", "settled", "value", "what")

    def __init__(self, what: object = None, on_wait: Callable[[], None] | None = None) -> None:
        self.what = what
        self._on_wait = on_wait
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
        if self._on_wait is not None:
            self._on_wait()
        return self._lock.acquire(timeout=max(seconds, 0))

    def interrupt(self) -> None:
        """Have ``wait`` return."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it is about to return anyway
