"""How the end of a process is noticed: by a descriptor of it, or by a thread that does nothing else."""

from __future__ import annotations

import os
import select
from typing import Any


def pidfd(pid: int) -> int | None:
    """A descriptor that is readable when the process has ended. None where there are none, or if it is gone."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # an old kernel, a sandbox; the thread works everywhere


def until_ended(pid: int) -> None:
    """Block until the process has ended, and leave its status to be taken."""
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return  # somebody else has taken it
        return
    kqueue: Any = select
    with kqueue.kqueue() as queue:
        event = kqueue.kevent(pid, kqueue.KQ_FILTER_PROC, kqueue.KQ_EV_ADD | kqueue.KQ_EV_ONESHOT, kqueue.KQ_NOTE_EXIT)
        try:
            queue.control([event], 1, None)
        except ProcessLookupError:
            return  # it has ended
