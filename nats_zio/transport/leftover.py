"""What a stream had no room for, and the task that sends it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import zio
from zio.lowlevel import Waiter, WaitQueue

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from zio.lowlevel import Fiber, Loop
    from zio.net import Stream

_NOTHING = memoryview(b"")


class Leftover:
    """The way to ``raw`` for what must go out whole once it has begun.

    ``send`` and ``full`` are used under ``lock``, by any thread. Once the raw stream was full, only a task of the loop
    writes to it until all is out, then what ``owed()`` returns, until that is nothing. Closing the raw stream ends it.
    """

    def __init__(self, raw: Stream, loop: Loop, lock: threading.Lock, owed: Callable[[], bytes]) -> None:
        self.error: Exception | None = None  # why nothing more goes out
        self._raw = raw
        self._loop = loop
        self._lock = lock
        self._owed = owed
        self._unsent = _NOTHING
        self._room = WaitQueue()

    @property
    def full(self) -> bool:
        """Whether something is left over. A task sees to it."""
        return bool(self._unsent)

    def send(self, data: bytes) -> bool:
        """Send ``data`` while nothing is left over; False if not all of it found room. Errors of the raw stream."""
        try:
            sent = self._raw.send_some(data)
        except (OSError, zio.Closed) as exc:
            self.error = exc
            raise
        except BaseException:  # what a signal handler has raised, say: a part may be out, so nothing more may follow
            self.error = ConnectionAbortedError(errno.ECONNABORTED, "cut off in a frame")
            raise
        if sent == len(data):
            return True
        self._unsent = memoryview(data)[sent:]
        self._loop.post(self._start, optional=True)
        return False

    def wait(self, fiber: Fiber, what: object) -> None:
        """Wait while something is left over."""
        with self._lock:
            if not self._unsent:
                return
            waiter = Waiter(fiber, what)
            self._room.push(waiter)
        self._loop.wait(waiter, None, self._room.discard)

    def _start(self) -> None:
        self._loop.spawn_system(self._send_rest, name="websocket push")

    def _send_rest(self) -> None:
        """A task. It tries before it waits, since the room may have come before it began."""
        try:
            while True:
                with self._lock:
                    self._unsent = self._unsent[self._raw.send_some(self._unsent) :] or memoryview(self._owed())
                    if not self._unsent:
                        break
                self._raw.wait_writable()
        except Exception as exc:
            self._fail(exc)
        except BaseException:  # the runtime ends: a part is out, so nothing more may follow
            self._fail(ConnectionAbortedError(errno.ECONNABORTED, "cut off in a frame"))
            raise
        finally:
            self._room.wake_all()

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self.error = self.error or error
            self._unsent = _NOTHING
