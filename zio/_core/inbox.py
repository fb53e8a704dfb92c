"""What others have for a loop: calls in order, from other threads, signal handlers, finalizers.

No lock: whoever puts something in may have interrupted somebody who is just doing that, in the same thread. So each
side does one step and then looks at what the other has done: a caller appends and looks whether the loop sleeps; the
loop says that it sleeps and looks whether there is something. Each sleep has a bell of its own, which is rung before
it is marked as rung: an exception in between makes the next one ring again, and never nobody.

This relies on the interpreter's lock for the order of single steps.
"""

from __future__ import annotations

import os
from collections import deque
from time import sleep
from typing import TYPE_CHECKING, Any

from .errors import ForkedError, RuntimeClosed

if TYPE_CHECKING:
    from collections.abc import Callable

Entry = tuple["Callable[..., Any]", tuple[Any, ...], "Callable[[], None] | None"]


LOOK = 5e-5  # seconds between two looks whether somebody still wakes the loop
LOOKS = 20_000  # of them; a thread that is stuck in the middle must not keep the loop from closing


class _Bell:
    """Of one sleep of the loop."""

    __slots__ = ("rung",)

    def __init__(self) -> None:
        self.rung = False


class Inbox:
    """A queue of calls for one loop. ``watched`` counts what promises to put something in later."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._entries: deque[Entry] = deque()
        self._bell: _Bell | None = None  # while the loop sleeps
        self._ringing: list[None] = []  # one for each who is just about to wake the loop
        self._closed = False
        self._pid = os.getpid()
        self._struck: Entry | None = None  # the call that an error came out of last
        self.watched = 0

    def put(
        self, fn: Callable[..., Any], args: tuple[Any, ...], lost: Callable[[], None] | None, optional: bool
    ) -> None:
        """Add a call and wake the loop if it sleeps. From anywhere. RuntimeClosed, ForkedError unless ``optional``.

        In this frame no function of Python's own is called: where there is stack for the first step there is for all.
        """
        if not self._closed and self._pid == os.getpid():
            entry = fn, args, lost
            try:
                self._entries.append(entry)
            finally:  # if an exception strikes right behind the append, the loop must hear of the entry all the same
                bell = self._bell
                if bell is not None and not bell.rung:
                    try:
                        self._ringing.append(None)  # before the look at _closed: close goes the other way round
                        if not self._closed:
                            self._wake()
                    finally:
                        self._ringing.pop()
                    bell.rung = True
            if self._closed and lost is not None:  # meanwhile: whether close has seen it nobody knows
                lost()
            return
        if not optional:
            if self._pid != os.getpid():
                raise ForkedError("this zio runtime belongs to the parent process")
            raise RuntimeClosed("the runtime has ended")

    def __bool__(self) -> bool:
        return bool(self._entries)

    def may_sleep(self) -> bool:
        """Announce that the loop goes to sleep; False if something came in."""
        self._bell = _Bell()
        return not self._entries

    @property
    def asleep(self) -> bool:
        """Whether the loop sleeps, and nothing has woken it. From any thread."""
        bell = self._bell
        return bell is not None and not bell.rung

    def awake(self) -> None:
        self._bell = None

    def run(self) -> None:
        """Call what has come in so far, not what these calls put in themselves."""
        entries = self._entries
        for _ in range(len(entries)):
            entry = entries[0]
            try:
                entry[0](*entry[1])
            except BaseException:
                # What a signal handler raises may have struck before it had begun: it is called once more.
                if self._struck is not entry:
                    self._struck = entry
                    raise
                del entries[0]
                raise
            del entries[0]

    def close(self) -> None:
        """Take nothing more; tell the entries left over that they are lost. Afterwards nobody wakes the loop."""
        self._closed = True
        looks = LOOKS
        while self._ringing and looks:  # a system call of another thread, on a descriptor that is about to be closed
            looks -= 1
            sleep(LOOK)
        entries = self._entries
        while entries:
            lost = entries.popleft()[2]
            if lost is not None:
                lost()

    def abandon(self) -> None:
        """In a forked child: what is in here is the parent's."""
        self._closed = True
        self._entries = deque()
