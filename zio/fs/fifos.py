"""Opening a named pipe: the system waits for the other side, and here that wait can be cancelled.

A thread that waits in ``open`` cannot be interrupted, but it can be given what it waits for: who is cancelled opens the
other side for a moment, without waiting, and what the thread gets by that is closed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import threading
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from ..threads import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 0.001  # seconds between two attempts to reach a thread that is on its way into ``open``
ATTEMPTS = 1000


def opening_waits(path: Any, mode: str) -> bool:
    """Whether opening ``path`` may wait for another program. In a thread."""
    if isinstance(path, int) or "+" in mode:
        return False
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116
    except (OSError, TypeError, ValueError):
        return False  # opening it says what is wrong


def open_fifo(path: Any, mode: str, *options: Any) -> IO[Any]:
    """``io.open`` of a named pipe, in a thread. Cancelled, it ends at once and leaves nothing open."""
    opening = _Opening(path, mode, options)
    try:
        to_thread(opening.run, abandon_on_cancel=True)
    except BaseException:
        opening.give_up()
        raise
    opening.close_place()
    return opening.made.pop()


class _Opening:
    def __init__(self, path: Any, mode: str, options: tuple[Any, ...]) -> None:
        self.made: list[IO[Any]] = []
        self._path = path
        self._mode = mode
        self._options = options
        self._turn = [None]  # who takes it decides whether the thread begins
        self._place: list[int] = []  # the same pipe, whatever its name stands for meanwhile (Linux)
        self._over = threading.Event()
        self._given_up = False

    def run(self) -> None:
        """In the thread."""
        if not _took(self._turn):
            return
        try:
            if hasattr(os, "O_PATH"):
                self._place.append(os.open(self._path, os.O_PATH | os.O_CLOEXEC))
            make: Callable[..., IO[Any]] = partial(io.open, opener=self._open)
            self.made.append(make(self._path, self._mode, *self._options))
        finally:
            if self._given_up:
                self._dispose()
            self._over.set()

    def _open(self, path: str, flags: int) -> int:
        return os.open(f"/proc/self/fd/{self._place[0]}" if self._place else path, flags)

    def give_up(self) -> None:
        """In the task, which is cancelled. The thread is a moment away from its wait, in it, or over it."""
        if _took(self._turn):
            return
        self._given_up = True
        for _ in range(ATTEMPTS):
            if not self._knock() or self._over.wait(STEP):
                break
        if self._over.is_set():
            self._dispose()

    def _knock(self) -> bool:
        """Open the other side for a moment; False if that is not allowed: then the thread waits on, by itself."""
        flags = os.O_WRONLY if "r" in self._mode else os.O_RDONLY
        try:
            os.close(self._open(self._path, flags | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as exc:
            return exc.errno == errno.ENXIO  # nobody reads it yet
        return True

    def _dispose(self) -> None:
        """Both sides may do it: each thing is taken once."""
        while self.made:
            with contextlib.suppress(IndexError):
                self.made.pop().close()
        self.close_place()

    def close_place(self) -> None:
        while self._place:
            with contextlib.suppress(IndexError):
                os.close(self._place.pop())


def _took(turn: list[None]) -> bool:
    try:
        turn.pop()
    except IndexError:
        return False
    return True
