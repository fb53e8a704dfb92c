"""Callers from outside a loop: plain threads, and tasks of other loops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import zio
from zio._core import ThreadHolder
from zio.lowlevel import current_holder, here


class Thread(threading.Thread):
    """A plain thread whose outcome ``outcome()`` gives; usable from a task, which goes on being scheduled."""

    def __init__(self, fn: Callable[..., Any], *args: Any) -> None:
        super().__init__()
        self._fn = fn
        self._args = args
        self._value: Any = None
        self._error: BaseException | None = None
        self.holder: Any = None
        self.start()

    def run(self) -> None:
        self.holder = current_holder()
        try:
            self._value = self._fn(*self._args)
        except BaseException as exc:
            self._error = exc

    def until_blocked(self) -> None:
        """Wait, in a task or a thread, until the thread is in a blocking call of zio."""
        while not (isinstance(self.holder, ThreadHolder) and self.holder.waits):
            zio.sleep(0.001)

    def outcome(self) -> Any:
        while self.is_alive():
            zio.sleep(0.001)
        self.join()
        if self._error is not None:
            raise self._error
        return self._value


def in_other_loop(fn: Callable[..., Any], *args: Any) -> Thread:
    return Thread(zio.run, fn, *args)


OUTSIDE = pytest.mark.parametrize("outside", [Thread, in_other_loop], ids=["plain thread", "other loop"])
Outside = Callable[..., Thread]


def parked_calls(count: int = 1) -> None:
    """Wait until ``count`` posted calls are parked in this loop."""
    calls = here().loop.calls
    while True:
        fibers = [getattr(task, "fiber", None) for task in list(calls.kids or ())]
        if len([fiber for fiber in fibers if fiber and fiber.waiter and not fiber.waiter.state]) >= count:
            return
        zio.sleep(0.001)
