"""What other threads have for a loop: calls in order, with one wake-up for all that come while it sleeps.

The handshake between going to sleep and waking needs an order that bare flags do not give, so both sides
hold a lock; a signal handler may interrupt the holder of that very lock, so handlers use a queue of their
own (``deque.append`` is atomic) and always wake.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from .errors import ForkedError, RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable

Entry = tuple["Callable[..., Any]", tuple[Any, ...], "Callable[[], None] | None"]


class Inbox:
    """A queue of calls for one loop. ``watched`` counts what promises to put something in later."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()
        self._urgent: deque[Callable[[], Any]] = deque()
        self._sleeping = False
        self._closed = False
        self._forked = False
        self.watched = 0

    def put(
        self, fn: Callable[..., Any], args: tuple[Any, ...], lost: Callable[[], None] | None, optional: bool
    ) -> None:
        with self._lock:
            if not self._closed:
                self._entries.append((fn, args, lost))
                if self._sleeping:
                    self._sleeping = False
                    self._wake()  # under the lock, so that close cannot take the fd away meanwhile
                return
        if not optional:
            if self._forked:
                raise ForkedError("this zio runtime belongs to the parent process")
            raise RuntimeClosed("the runtime has ended")

    def put_urgent(self, fn: Callable[[], Any]) -> None:
        self._urgent.append(fn)
        if not self._closed:
            self._wake()

    def __bool__(self) -> bool:
        return bool(self._entries or self._urgent)

    def may_sleep(self) -> bool:
        """Announce that the loop goes to sleep; False if something came in."""
        with self._lock:
            if self._entries or self._urgent:
                return False
            self._sleeping = True
            return True

    @property
    def asleep(self) -> bool:
        """Whether the loop sleeps, and nothing has woken it. From any thread."""
        return self._sleeping

    def awake(self) -> None:
        self._sleeping = False

    def run(self) -> None:
        """Call what has come in so far, not what these calls put in themselves."""
        urgent = self._urgent
        for _ in range(len(urgent)):
            urgent.popleft()()
        entries = self._entries
        for _ in range(len(entries)):
            fn, args, _lost = entries.popleft()
            fn(*args)

    def close(self) -> None:
        """Take nothing more; tell the entries left over that they are lost."""
        with self._lock:
            self._closed = True
            entries, self._entries = self._entries, deque()
        for _fn, _args, lost in entries:
            if lost is not None:
                lost()

    def abandon(self) -> None:
        """In a forked child: the lock may be held by a thread that does not exist here."""
        self._lock = threading.Lock()
        self._closed = self._forked = True
        self._entries = deque()
        self._urgent = deque()
