"""A client without a home: made with ``lazy=True`` and not used yet, or found in a process that was forked since.

It stands in the client as its loop, so that every call takes the way of those that come from elsewhere, where one
test sends it to find a home.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

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
settling = threading.Lock()  # held while a client finds its home


def remember(core: Core) -> None:
    """It is to begin anew in a forked child."""
    _cores.add(core)


def _in_child() -> None:
    global settling
    settling = threading.Lock()
    for core in list(_cores):
        core.lose_home()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
