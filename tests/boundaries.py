"""Striking at every boundary of a call: an error, or another call, where a function of ours begins or returns.

That is where a signal handler, a finalizer or an asynchronous exception may come in. A call is made again and again;
the first time the first boundary in it is struck, the next time the second one, until it goes through without.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

from greenlet import getcurrent

import nats_zio
import zio

OURS = tuple(str(Path(str(package.__file__)).parent) for package in (zio, nats_zio))


class Struck(Exception):
    """What comes from outside."""


@dataclass
class Striker:
    """Calls ``strike`` at boundary number ``at`` of what runs in its ``with`` block, in this thread and greenlet."""

    at: int
    strike: Callable[[], object]
    seen: int = 0
    where: str = ""
    _greenlet: Any = field(default_factory=getcurrent)

    @property
    def has_struck(self) -> bool:
        return bool(self.where)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if self.has_struck or not frame.f_code.co_filename.startswith(OURS):
            return None
        if _is_in_finalizer(frame):
            return None  # what is raised there Python only tells of
        if getcurrent() is not self._greenlet:
            return self._trace  # another task, or the hub: but the frame may go on in ours
        # Before its first instruction no function can help it: a block of the user's that is struck there has no end.
        endless = frame.f_code.co_name == "__exit__" and not _is_ours(frame.f_back)
        # A block has begun when its __enter__ returns: nothing comes between that and its first instruction.
        begun = frame.f_code.co_name == "__enter__"
        if (event == "call" and not endless) or (event == "return" and _is_ours(frame.f_back) and not begun):
            self.seen += 1
            if self.seen == self.at:
                name = Path(frame.f_code.co_filename).name
                self.where = f"{event} of {frame.f_code.co_qualname} ({name}:{frame.f_lineno})"
                sys.settrace(None)
                self.strike()
        return self._trace

    def __enter__(self) -> Self:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(None)


def _is_ours(frame: FrameType | None) -> bool:
    """Whether a return goes to code of ours: where it goes to the user's the call is over."""
    return frame is not None and frame.f_code.co_filename.startswith(OURS)


def _is_in_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def raise_struck() -> None:
    raise Struck


@dataclass
class Count:
    """How many boundaries were struck, by call."""

    by_call: dict[str, int] = field(default_factory=dict)


COUNT = Count()


def strikes(name: str, strike: Callable[[], object], most: int = 5000) -> Iterator[Striker]:
    """A striker for each boundary, until the call has gone through without being struck."""
    for at in range(1, most):
        striker = Striker(at, strike)
        yield striker
        if not striker.has_struck:
            COUNT.by_call[name] = at - 1
            return
    raise AssertionError(f"{name} has more than {most} boundaries")


@contextmanager
def hang_is_a_failure(seconds: float, what: Callable[[], str]) -> Iterator[None]:
    """End the process with the stacks of all threads if the block takes so long: it hangs for good."""
    import faulthandler

    told = threading.Event()

    def watch() -> None:
        if not told.wait(seconds):
            print(f"\nhangs after {what()}", file=sys.__stderr__)
            faulthandler.dump_traceback(all_threads=True)
            import os

            os._exit(3)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        told.set()
        thread.join()
