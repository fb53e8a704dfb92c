"""A client without a home: made with ``lazy=True`` and not used yet, or found in a process that was forked since.

It stands in the client as its loop, so that every call takes the way of those that come from elsewhere, where one
test sends it to find a home.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

import zio
from zio.lowlevel import renew_in_child

if TYPE_CHECKING:
    from .core import Core


class NoHome:
    """In place of a loop. It looks like one of a parent process."""

    forked = True
    closed = False
    thread_id = None

    def check_usable(self) -> NoReturn:
        raise AssertionError("a lazy client finds a home before its loop is used")


NO_HOME: Any = NoHome()

_cores: weakref.WeakSet[Core] = weakref.WeakSet()


class FindingHome:
    """Held while a client finds its home, which takes a moment and waits for nobody.

    A call that comes in that very moment, of a signal handler or a finalizer in the same thread, cannot be made and
    cannot wait: BlockingNotAllowed.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._held = False

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._held:
            self._lock.release()
            raise zio.BlockingNotAllowed(
                "the lazy client is just being opened by the very call that this one has interrupted"
            )
        self._held = True

    def __exit__(self, *exc_info: object) -> None:
        self._held = False
        self._lock.release()


def remember(core: Core) -> None:
    """It is to begin anew in a forked child."""
    _cores.add(core)


def _begin_anew() -> None:
    for core in list(_cores):
        if core.pid != os.getpid():
            core.finding_home = FindingHome()
            core.lose_home()


renew_in_child(_begin_anew)
