"""Threads that ``threading`` does not know of: started by C libraries, or by ``_thread``.

Any of them may call into Python at any moment, and nothing tells whether it will. So a deadlock is not certain while
there is one. It is the system that counts them. Only asked when a deadlock seems to be there, so it may take its time.
"""

from __future__ import annotations

import _thread
import sys
from pathlib import Path
from threading import current_thread, get_native_id, main_thread
from time import sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from threading import Thread

_THREADS = Path("/proc/self/task")
PATIENCE = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)  # seconds: one that was joined may be on its way out still
CLASSIC = (1 << 31) - 1 & ~(1 << 8) & ~(1 << 18)  # signals up to 31, but for KILL and STOP, which nobody can block

_lasting: set[int] = set()  # those that patience was lost on once: an idle loop is not to wait for them each time


def native_thread_is_alive(known: Collection[Thread]) -> bool:
    """Whether the process has a thread beside this one and those ``known``."""
    ours = {get_native_id(), *(thread.native_id for thread in known)}
    unknown: set[int] = set()
    for pause in PATIENCE:
        try:
            unknown = _without_watchdog({int(entry.name) for entry in _THREADS.iterdir()} - ours)
        except OSError:
            return _python_thread_is_alive(known)
        if not unknown or not unknown.isdisjoint(_lasting):
            return bool(unknown)
        sleep(pause)
    _lasting.clear()
    _lasting.update(unknown)
    return True


def _python_thread_is_alive(known: Collection[Thread]) -> bool:
    """Where the system does not tell, Python does, but only of those that it has started, and when they run."""
    number = sum(thread is not main_thread() for thread in known) + (current_thread() is not main_thread())
    for pause in PATIENCE:
        if _thread._count() > number:
            return True
        sleep(pause)
    return False


def _without_watchdog(threads: set[int]) -> set[int]:
    """All but the one thread that is known to wake nobody: of ``faulthandler.dump_traceback_later``, if it is there."""
    if threads and "faulthandler" in sys.modules:
        for thread in sorted(threads):
            if _looks_like_watchdog(_THREADS / str(thread)):
                return threads - {thread}
    return threads


def _looks_like_watchdog(thread: Path) -> bool:
    """It has no name of its own, and blocks all signals."""
    try:
        if (thread / "comm").read_bytes() != (_THREADS.parent / "comm").read_bytes():
            return False
        lines = (thread / "status").read_text().splitlines()
    except OSError:  # it has ended
        return True
    blocked = next((int(line.split()[1], 16) for line in lines if line.startswith("SigBlk:")), 0)
    return blocked & CLASSIC == CLASSIC
