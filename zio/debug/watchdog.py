"""Noticing that a task computes, or blocks the thread, for so long that all others wait."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Self

from .._core import RuntimeThread, check_seconds, log_later, runtime_here
from .._core.dump import running_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .._core import Loop, Runtime

logger = logging.getLogger("zio")

LOOKS = 4  # in the time after which a stall is reported


@dataclass(frozen=True)
class Stall:
    """A task that holds the loop."""

    task: str  # "" if it is no task: a callback in the hub
    seconds: float  # since when, at least
    stack: str  # where it is, innermost call last


def log_stall(stall: Stall) -> None:
    """The default ``report``: a warning in the log."""
    log_later(
        logger,
        logging.WARNING,
        "%s has held the loop for %.1f s, so that no other task could run:\n%s",
        stall.task or "a callback",
        stall.seconds,
        stall.stack,
    )


class Watchdog:
    """``with zio.debug.Watchdog(1.0): ...`` reports whatever holds the loop for longer than ``seconds``, once.

    ``report(stall)`` is called with a :class:`Stall` in the watchdog's thread; by default it is logged. ``runtime`` is
    the one to watch, by default that of the current task. It takes a few looks in that time, and nothing from the loop.
    What keeps all threads from running (C code that holds the interpreter) is reported when it is over.
    """

    def __init__(
        self,
        seconds: float = 1.0,
        *,
        report: Callable[[Stall], object] | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        check_seconds("seconds", seconds)
        if seconds <= 0:
            raise ValueError(f"seconds={seconds!r}: must be more than 0")
        self._seconds = seconds
        self._report = report or log_stall
        self._runtime = runtime
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch. RuntimeError outside of tasks if it was not told what."""
        if self._thread is not None:
            raise RuntimeError("a watchdog can be started once only")
        runtime = self._runtime or runtime_here()
        if runtime is None:
            raise RuntimeError("Watchdog needs a running zio task: use it inside zio.run(...), or say runtime=")
        self._thread = RuntimeThread(target=self._watch, args=(runtime,), name="zio-watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, and its thread. Idempotent."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _watch(self, runtime: Runtime) -> None:
        loop = runtime.loop
        pause = self._seconds / LOOKS
        seen, held, last = -1, 0.0, monotonic()
        reported = False
        while not self._stop.wait(pause):
            if loop.closed:
                return
            now = monotonic()
            passes = loop.passes
            if passes != seen or loop.inbox.asleep or loop.thread_id is None:
                seen, held, reported = passes, 0.0, False
            else:
                held += min(now - last, 2 * pause)  # no more if the whole process was stopped meanwhile
            last = now
            if held >= self._seconds and not reported:
                reported = True
                self._tell(loop, held)

    def _tell(self, loop: Loop, held: float) -> None:
        task, stack = running_now(loop)
        try:
            self._report(Stall("" if task is None else repr(task), held, "\n".join(stack)))
        except Exception as exc:
            log_later(logger, logging.ERROR, "the report of a stall failed", error=exc)
