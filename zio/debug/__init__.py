"""Looking into a running program."""

from __future__ import annotations

import threading

from .._core import Instrument, Statistics, edit_elsewhere, worker_loop
from .._core.background_runtime import background_if_started
from .._core.dump import dump_loop
from .._core.foreign import loops_by_thread
from .watchdog import Stall, Watchdog

__all__ = ["Instrument", "Stall", "Statistics", "Watchdog", "dump"]


def dump() -> str:
    """The tree of all tasks of the current runtime, what each waits on, and where.

    In a thread of ``zio.to_thread`` it is the runtime whose job that is, in other plain threads the background's, which
    is not started for it. Tasks stand below the group they belong to, and groups below the task whose block they are.
    """
    loop = loops_by_thread.get(threading.get_ident()) or worker_loop()
    if loop is None:
        runtime = background_if_started()
        if runtime is None:
            return "no runtime: this thread belongs to none, and the background runtime has not been started"
        loop = runtime.loop
    return str(edit_elsewhere(loop, dump_loop, loop))
