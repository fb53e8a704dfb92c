"""The very end of the process: its exit handlers have run, and the background runtime is closed.

What runs Python code after that are daemon threads, for the moment until the interpreter stops each where it is. What
they wait for does not come any more, and it is no error of theirs: they stay where they are, as if stopped already.
"""

from __future__ import annotations

import _thread
import threading

from . import foreign, this_process

_over: set[bool] = set()


def it_is_over() -> None:
    """From now on calls of daemon threads do not return."""
    _over.add(True)


def stay_if_over() -> None:
    """In a daemon thread of the user's at the very end of the process: never return. To be called before an error."""
    if not _over or _thread.get_ident() in foreign.loops_by_thread:
        return
    me = threading.current_thread()
    if me.daemon and not isinstance(me, foreign.RuntimeThread):
        lock = _thread.allocate_lock()
        while True:
            lock.acquire()


this_process.renew_in_child(_over.clear)
