"""Threads that ``threading`` does not know of: started by C libraries, or by ``_thread``.

Any of them may call into Python at any moment, and nothing here can tell whether it will. So while there is one, a
deadlock is not certain. One kind is known to wake nobody: that of ``faulthandler.dump_traceback_later``.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TASKS = Path("/proc/self/task")
PATIENCE = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)  # seconds: a thread that was joined may be on its way out still

_lasting: set[int] = set()  # threads that have been waited for in vain: not again each time that the loop is idle


def native_thread_could_wake_us(known: Iterable[threading.Thread]) -> bool:
    """Whether there is a thread in this process that is not among ``known``."""
    ours = {thread.native_id for thread in known}
    for pause in PATIENCE:
        unknown = _unknown_threads(ours)
        if unknown is None:
            return _thread._count() > sum(thread is not threading.main_thread() for thread in known)
        if not unknown or not _lasting.isdisjoint(unknown):
            return bool(unknown)
        time.sleep(pause)
    _lasting.clear()
    _lasting.update(unknown)
    return True


def _unknown_threads(ours: set[int | None]) -> set[int] | None:
    """None if this system does not tell."""
    try:
        threads = {int(name) for name in os.listdir(_TASKS)}
    except OSError:
        return None
    return {thread for thread in threads - ours if not _only_watches(thread)}


def _only_watches(thread: int) -> bool:
    """Whether it is that of ``faulthandler``: it has the name of the process, blocks all signals and has slept once."""
    try:
        lines = (_TASKS / str(thread) / "status").read_text().splitlines()
    except OSError:  # it has ended
        return True
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    ...
