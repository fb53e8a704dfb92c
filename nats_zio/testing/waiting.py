"""Waiting in plain blocking code: for a process to end, for something to become true."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator


def backoff(deadline: float) -> Iterator[None]:
    """Bounded waits of 1 to 20 ms until `deadline` has passed."""
    delay = 0.001
    while True:
        yield
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(delay, left))
        delay = min(delay * 1.5, 0.02)


def wait_exit(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Whether the process has ended within so many seconds."""
    if process.poll() is not None:
        return True
    try:
        fd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or not allowed: subprocess then polls
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(timeout * 1000):
            return False
    finally:
        os.close(fd)
    process.wait()
    return True
