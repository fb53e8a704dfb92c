"""Log lines of ours, written by a thread of their own.

A log handler of the user's may publish what is logged, and wait for the very loop that has something to say; or a
plain thread may hold the handler's lock and wait for that loop. So nothing is logged in a loop's thread, where waiting
for a handler would stop everything, nor under any lock: a line is put aside here, and a thread that ends when there are
none left writes them in their order.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from . import foreign

if TYPE_CHECKING:
    from logging import Logger

EXIT_TIMEOUT = 2.0  # seconds that the interpreter's exit waits for lines not written yet


class _Line(NamedTuple):
    logger: Logger
    level: int
    message: str
    args: tuple[Any, ...]
    error: BaseException | None

    def write(self) -> None:
        try:
            self.logger.log(self.level, self.message, *self.args, exc_info=self.error)
        except Exception:  # of a handler that does not keep its errors to itself
            sys.excepthook(*sys.exc_info())


class _Shown:
    """How an argument looked when the line was put aside."""

    def __init__(self, value: object) -> None:
        self._str, self._repr = str(value), repr(value)

    def __str__(self) -> str:
        return self._str

    def __repr__(self) -> str:
        return self._repr


class _Writer:
    """The lines to write, and whose turn it is: ``turn`` is empty while a thread writes."""

    def __init__(self) -> None:
        self.lines: deque[_Line] = deque()
        self.turn = [None]
        self.pid = os.getpid()
        self.thread: threading.Thread | None = None

    def see_to_it(self) -> None:
        """Have a thread write what there is, unless one does."""
        try:
            self.turn.pop()
        except IndexError:
            return  # it looks again before it ends
        try:
            thread = foreign.RuntimeThread(target=self._write_all, name="zio-log", daemon=True)
            self.thread = thread
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is exiting
            self._write_all()
        except BaseException:
            self.turn.append(None)
            raise

    def _write_all(self) -> None:
        while True:
            try:
                while self.lines:
                    self.lines.popleft().write()
            finally:
                self.thread = None
                self.turn.append(None)
            if not self.lines:
                break
            try:
                self.turn.pop()
            except IndexError:
                break  # another thread has begun
        # A loop that saw this thread at work did not take its own stillness for a deadlock: it looks again.
        for loop in list(foreign.loops_by_thread.values()):
            loop.post(_nothing, optional=True)


_writer = _Writer()


def _nothing() -> None:
    """The loop is awake now, and that is all."""


def _ours() -> _Writer:
    """The writer of this process; in a forked child the lines of the parent are the parent's."""
    global _writer
    if _writer.pid != os.getpid():
        _writer = _Writer()
    return _writer


def log_later(logger: Logger, level: int, message: str, *args: object, error: BaseException | None = None) -> None:
    """Have a line logged, with the traceback of ``error`` if there is one. Never blocks; from any thread.

    Arguments are shown as they are now. A handler that raises is told of through ``sys.excepthook``.
    """
    shown = tuple(arg if isinstance(arg, (str, int, float)) else _Shown(arg) for arg in args)
    writer = _ours()
    writer.lines.append(_Line(logger, level, message, shown, error))
    writer.see_to_it()


def writing() -> bool:
    """Whether lines are being written just now, by handlers that might wake somebody."""
    return _writer.thread is not None


def wait_logged(timeout: float | None = EXIT_TIMEOUT) -> bool:
    """Block this thread until all lines put aside so far are written; False after ``timeout`` seconds.

    Not from a log handler, which would wait for itself.
    """
    writer = _ours()
    until = None if timeout is None else monotonic() + timeout
    while (thread := writer.thread) is not None:
        try:
            thread.join(None if until is None else max(until - monotonic(), 0))
        except RuntimeError:
            return False  # it is the thread that writes; or it has not begun yet, and the next look tells
        if until is not None and monotonic() >= until:
            break
    return not writer.lines


atexit.register(wait_logged)
