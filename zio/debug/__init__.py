"""Looking into a running program."""

from __future__ import annotations

from .._core import Instrument, Statistics, background, runtime_here
from .._core.dump import dump_loop
from .watchdog import Stall, Watchdog

__all__ = ["Instrument", "Stall", "Statistics", "Watchdog", "dump"]


def dump() -> str:
    """The tree of all tasks of the current runtime, what each waits on, and where; in plain threads the background's.

    Tasks stand below the group they belong to, and groups below the task whose block they are.
    """
    runtime = runtime_here()
    if runtime is not None:
        return dump_loop(runtime.loop)
    runtime = background()
    return runtime.call(dump_loop, runtime.loop)
