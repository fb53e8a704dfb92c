"""Runtime.statistics: numbers of a moment."""

from __future__ import annotations

import dataclasses
import threading
from functools import partial
from typing import Any

import pytest

import zio
from tests.zio.helpers_streams import in_turn, stream_and_peer
from zio.lowlevel import runtime_here


def statistics() -> zio.debug.Statistics:
    runtime = runtime_here()
    assert runtime is not None
    return runtime.statistics()


def test_each_number_counts_what_it_says() -> None:
    def main() -> None:
        runtime = runtime_here()
        assert runtime is not None
        runtime.pool._max = 1
        before = statistics()
        assert (before.tasks, before.threads, before.thread_jobs) == (1, 0, 0)
        began, release, event = threading.Event(), threading.Event(), zio.Event()
        with stream_and_peer() as (stream, _peer):
            spawned: list[zio.Task[Any]] = [
                zio.spawn(event.wait),
                zio.spawn(partial(zio.sleep, 3600)),
                zio.spawn(partial(stream.recv, 1)),
                zio.spawn(partial(zio.to_thread, in_turn(began.set, release.wait))),
            ]
            system = runtime.loop.spawn_system(event.wait)
            assert statistics().ready == 5
            while not began.is_set():
                zio.sleep(0.001)
            spawned.append(zio.spawn(partial(zio.to_thread, int)))
            while statistics().thread_jobs < 2:
                zio.sleep(0.001)
            now = statistics()
            for task in spawned[1:3]:
                task.cancel()
            event.set()
            release.set()
            for task in (spawned[0], *spawned[3:], system):
                task.join()
        assert now.tasks == 6
        assert now.system_tasks == 1
        assert now.ready == 0
        assert now.waiting_for_io == 1
        assert now.timers >= 1
        assert now.thread_jobs == 2
        assert now.queued_jobs == 1
        assert now.threads == 1
        assert now.idle_threads == 0
        assert now.calls == 0
        assert now.polls > before.polls
        assert statistics().idle_fibers > 0

    zio.run(main)


def test_from_another_thread_and_before_the_run() -> None:
    runtime = zio.Runtime()
    assert runtime.statistics().tasks == 0

    def main() -> zio.debug.Statistics:
        waiting = zio.spawn(lambda: zio.to_thread(lambda: runtime.call(lambda: zio.to_thread(runtime.statistics))))
        return waiting.join()

    seen = runtime.run(main)
    assert (seen.tasks, seen.calls) == (2, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen.tasks = 5  # type: ignore[misc]
    with pytest.raises(zio.RuntimeClosed):
        runtime.statistics()
