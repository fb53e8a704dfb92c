"""A pool that has no thread free, so that jobs wait in its queue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import zio
from zio.lowlevel import here


class FullPool:
    """What waits for a thread. ``queued()`` waits in a task for a job to come; ``release()`` lets all of them run."""

    def __init__(self) -> None:
        self._pool = here().loop.runtime.pool
        self._submit = self._pool.submit
        self.jobs: list[Any] = []

    def queued(self, after: Any = None) -> Any:
        """The job, another one than ``after``."""
        while not self.jobs or self.jobs[0] is after:
            zio.pause()
        return self.jobs[0]

    def withdraw(self, job: Any) -> bool:
        self.jobs.remove(job)
        return True

    def release(self) -> None:
        self._pool.__dict__.pop("submit", None)
        self._pool.__dict__.pop("withdraw", None)
        while self.jobs:
            self._submit(self.jobs.pop(0))


@contextlib.contextmanager
def pool_taken() -> Iterator[FullPool]:
    """Jobs wait until the block is left."""
    full = FullPool()
    full._pool.submit, full._pool.withdraw = full.jobs.append, full.withdraw
    try:
        yield full
    finally:
        full.release()
