"""Processes that outlive the ``Popen`` that was made for them: ended with the run, or let go of deliberately."""

from __future__ import annotations

import os
import subprocess
import time
import warnings

from .._core import monotonic
from ..threads import to_thread

STEP = 0.01  # seconds between two looks at a process that is asked to end

_detached: list[int] = []  # pids of those that nobody waits for


class LeftOver:
    """What the end of the run calls for a process: it holds the process, and neither its ``Popen`` nor its pipes."""

    def __init__(self, child: subprocess.Popen[bytes], program: str, grace: float) -> None:
        self._child = child
        self._program = program
        self._grace = grace

    def __call__(self) -> None:
        child = self._child
        if child.poll() is None:
            warnings.warn(
                f"the process {child.pid} ({self._program}) was still running when the run ended, and was ended: use "
                "`with zio.process.Popen(...)`, wait for it, or detach() it",
                ResourceWarning,
                stacklevel=2,
            )
            to_thread(end, child, self._grace)

    def detach(self) -> None:
        """Nobody need wait for it any more: what is left of it is cleared away when the next process is started."""
        if self._child.returncode is None:
            self._child.returncode = 0  # or its destructor warns of it
            _detached.append(self._child.pid)


def end(child: subprocess.Popen[bytes], grace: float) -> None:
    """In a thread: SIGTERM, ``grace`` seconds later SIGKILL; until it has ended."""
    child.terminate()
    until = monotonic() + grace
    while child.poll() is None:
        if monotonic() >= until:
            child.kill()
            child.wait()
            return
        time.sleep(STEP)


def clear_away() -> None:
    """Have the system forget the detached processes that have ended."""
    for _ in range(len(_detached)):
        pid = _detached.pop(0)
        try:
            running = os.waitpid(pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            continue  # somebody else has waited for it
        if running:
            _detached.append(pid)
