"""A pool whose only thread is taken, so that a job waits in the queue."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import zio
from zio.lowlevel import here


@contextlib.contextmanager
def pool_taken() -> Iterator[threading.Event]:
    """Jobs wait until the event is set, or the block is left."""
    pool = here().loop.runtime.pool
    began, release = threading.Event(), threading.Event()
    before, pool._max = pool._max, 1

    def hold() -> None:
        began.set()
        release.wait()

    holder = zio.spawn(zio.to_thread, hold)
    while not began.is_set():
        zio.sleep(0.001)
    try:
        yield release
    finally:
        release.set()
        pool._max = before
        with zio.shield():
            holder.join()
