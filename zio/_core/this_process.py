"""Which process this is: a forked child has a copy of all that was made before, and must act upon none of it.

``os.register_at_fork`` tells of forks, but its hooks run in the order in which they were registered, so one that was
registered before our import runs first in the child, and may call anything here; and a fork by C code runs none at all.
So whoever is about to write to what the parent has too, or lets a call in from a plain thread, compares process ids
(50 ns) and calls :func:`notice_fork`; whichever comes first, that or our hook, lets go of what is the parent's.
"""

from __future__ import annotations

import os
import threading
from os import getpid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_pid = getpid()
_renewals: list[Callable[[], object]] = []

# The threads that are in a fork just now, from our hook before it to our hook after it; in the child, too. A task of
# such a thread looks at the process id in each of its calls: ``Loop.checkpoint``, since its budget is spent.
forking: set[int] = set()
# Whether other hooks of the child may still run: then the threading module may have its own before it, which takes each
# Thread that was started meanwhile for one of the parent's.
in_hooks = False
was_forked = False  # since our import


def renew_in_child(renew: Callable[[], object]) -> None:
    """Have ``renew()`` called in a forked child before anything is done there; perhaps more than once."""
    _renewals.append(renew)


def notice_fork() -> None:
    """If this is a forked child that has not begun anew, let go of all that is the parent's. From any thread."""
    global in_hooks
    if getpid() != _pid:
        in_hooks = True
        _begin_anew()


def _begin_anew() -> None:
    global _pid, was_forked
    was_forked = True
    for renew in _renewals:
        renew()
    _pid = getpid()  # last: until then every call in between looks again


def _before_fork() -> None:
    forking.add(threading.get_ident())


def _after_in_parent() -> None:
    forking.discard(threading.get_ident())


def _after_in_child() -> None:
    global in_hooks
    if getpid() != _pid:
        _begin_anew()
    in_hooks = False
    forking.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
