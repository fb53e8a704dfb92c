"""Numbers of a runtime at a moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .dump import tasks_below

if TYPE_CHECKING:
    from .scheduler import Loop


@dataclass(frozen=True)
class Statistics:
    """What :meth:`Runtime.statistics` returns."""

    tasks: int  # of the user: begun, or to begin
    system_tasks: int  # of clients and streams
    calls: int  # of other threads, at work here
    ready: int  # to run in this turn of the loop
    waiting_for_io: int
    timers: int  # timeouts and sleeps; ended ones may be counted for a while
    thread_jobs: int  # of to_thread and files, queued ones included
    queued_jobs: int  # for which no thread is free
    threads: int  # of the pool
    idle_threads: int
    idle_fibers: int  # stacks kept for tasks to come
    polls: int  # since the beginning


def statistics_of(loop: Loop) -> Statistics:
    """Counted now. Only in the loop's thread."""
    pool = loop.runtime.pool.numbers()
    return Statistics(
        tasks=len(tasks_below(loop.root)),
        system_tasks=len(tasks_below(loop.system)),
        calls=len(tasks_below(loop.calls)),
        ready=len(loop.ready),
        waiting_for_io=loop.io_waiting,
        timers=len(loop.timers.heap),
        thread_jobs=loop.jobs,
        queued_jobs=pool[0],
        threads=pool[1],
        idle_threads=pool[2],
        idle_fibers=loop.idle_fibers,
        polls=loop.passes,
    )
