"""The end of a run: from the outside in, in order, and nothing is left."""

from __future__ import annotations

import gc
import logging
import threading
import weakref

import greenlet
import pytest

import zio
from tests.zio.helpers_streams import in_turn, stream_and_peer
from zio.testing import wait_all_parked


def test_tasks_left_over_are_cancelled_and_their_cleanup_may_block() -> None:
    """T57"""
    log: list[str] = []

    def child() -> None:
        try:
            zio.Event().wait()
        except zio.Cancelled:
            log.append("cancelled")
            with zio.shield():
                zio.sleep(0.001)
                log.append(zio.to_thread(lambda: "thread job"))
            raise
        finally:
            log.append("finally")

    def main() -> str:
        zio.spawn(child)
        wait_all_parked()
        return "result"

    assert zio.run(main) == "result"
    assert log == ["cancelled", "thread job", "finally"]


def test_tasks_left_over_end_also_when_main_fails() -> None:
    """T57"""
    log: list[str] = []

    def child() -> None:
        try:
            zio.Event().wait()
        finally:
            log.append("finally")

    def main() -> None:
        zio.spawn(child)
        wait_all_parked()
        raise ValueError("main's own")

    with pytest.raises(ValueError, match="main's own"):
        zio.run(main)
    assert log == ["finally"]


def test_the_order_is_user_tasks_then_closers_then_system_tasks() -> None:
    """T57: a user's ``finally`` may still use a client, and the client's closer its own system tasks."""
    log: list[str] = []
    runtime = zio.Runtime()

    def until_cancelled(name: str) -> None:
        try:
            zio.Event().wait()
        finally:
            log.append(name)

    def closer(name: str) -> None:
        zio.sleep(0.001)  # a closer runs in a task, and may block
        log.append(name)

    def main() -> None:
        runtime.loop.spawn_system(until_cancelled, "system")
        runtime.on_close(lambda: closer("closer of the first client"))
        runtime.on_close(lambda: closer("closer of the second client"))
        forgotten = lambda: closer("forgotten")  # noqa: E731
        runtime.on_close(forgotten)
        runtime.forget_closer(forgotten)
        zio.spawn(until_cancelled, "user")
        wait_all_parked()

    runtime.run(main)
    assert (log[0], log[-1]) == ("user", "system")
    assert sorted(log[1:-1]) == ["closer of the first client", "closer of the second client"]


def test_a_closer_that_fails_is_logged_and_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """T57"""
    log: list[str] = []
    runtime = zio.Runtime()

    def fail() -> None:
        raise ValueError("the closer's own")

    def main() -> None:
        runtime.on_close(lambda: log.append("closed"))
        runtime.on_close(fail)

    with caplog.at_level(logging.ERROR, "zio"):
        runtime.run(main)
    assert log == ["closed"]
    assert "the closer's own" in caplog.text


def test_no_task_can_be_spawned_while_the_run_ends() -> None:
    """T57: it would never end."""
    outcome: list[BaseException] = []

    def child() -> None:
        try:
            zio.Event().wait()
        finally:
            try:
                zio.spawn(int)
            except zio.RuntimeClosed as exc:
                outcome.append(exc)

    def main() -> None:
        zio.spawn(child)
        wait_all_parked()

    zio.run(main)
    assert len(outcome) == 1


def test_no_greenlet_thread_or_loop_is_left() -> None:
    """T57 (descriptors and threads are checked after every test)."""
    loops: list[weakref.ref[zio.lowlevel.Loop]] = []

    def main() -> None:
        loops.append(weakref.ref(zio.lowlevel.here().loop))
        zio.spawn(zio.Event().wait)
        zio.spawn(zio.to_thread, int)
        with stream_and_peer() as (stream, _), zio.TaskGroup() as group:
            group.spawn(stream.recv, 1)
            wait_all_parked()
            group.cancel()

    before = threading.active_count()
    gc.collect()
    greenlets = sum(isinstance(thing, greenlet.greenlet) for thing in gc.get_objects())
    zio.run(main)
    assert threading.active_count() == before
    gc.collect()
    assert loops[0]() is None
    assert sum(isinstance(thing, greenlet.greenlet) for thing in gc.get_objects()) <= greenlets


def test_a_runtime_runs_once() -> None:
    """T57"""
    runtime = zio.Runtime()
    runtime.run(int)
    with pytest.raises(zio.RuntimeClosed):
        runtime.run(int)
    with pytest.raises(zio.RuntimeClosed):
        runtime.call(int)
    assert runtime.closed


def test_close_from_another_thread_cancels_main_and_waits_for_the_end() -> None:
    """T57"""
    log: list[str] = []
    runtime = zio.Runtime()
    started = threading.Event()

    def main() -> None:
        try:
            started.set()
            zio.Event().wait()
        finally:
            log.append("finally")

    def close() -> None:
        started.wait()
        runtime.close()
        log.append("closed" if runtime.closed else "still open")
        runtime.close()  # idempotent

    thread = threading.Thread(target=close)
    thread.start()
    with pytest.raises(zio.Cancelled):
        runtime.run(main)
    thread.join()
    assert log == ["finally", "closed"]


def test_close_of_a_runtime_that_never_ran_releases_its_descriptors() -> None:
    """T57"""
    runtime = zio.Runtime()
    runtime.close()
    assert runtime.closed


def test_a_call_under_way_from_another_thread_ends_with_runtime_closed() -> None:
    """T57, T53"""
    runtime = zio.Runtime()
    outcome: list[BaseException] = []
    parked = zio.Event()

    def call() -> None:
        try:
            runtime.call(in_turn(parked.set, zio.Event().wait))
        except zio.RuntimeClosed as exc:
            outcome.append(exc)

    thread = threading.Thread(target=call)

    def main() -> None:
        thread.start()
        parked.wait()
        wait_all_parked()

    runtime.run(main)
    thread.join()
    assert len(outcome) == 1


def test_posted_calls_run_in_order_however_many() -> None:
    """T53: a hundred thousand from another thread while the loop sleeps or runs."""
    got: list[int] = []
    done = zio.Event()

    def main() -> None:
        loop = zio.lowlevel.here().loop

        def flood() -> None:
            for number in range(100_000):
                loop.post(got.append, number)
            loop.post(done.set)

        thread = threading.Thread(target=flood)
        thread.start()
        done.wait()
        thread.join()

    zio.run(main)
    assert got == list(range(100_000))


def test_posting_to_a_loop_that_has_ended_raises_or_is_dropped() -> None:
    """T53"""
    runtime = zio.Runtime()
    runtime.run(int)
    with pytest.raises(zio.RuntimeClosed):
        runtime.loop.post(print)
    runtime.loop.post(print, optional=True)
    runtime.loop.urgent(print)


def test_threads_that_post_during_the_end_neither_hang_nor_hit_a_closed_descriptor() -> None:
    """T53, T63"""

    def flood(runtime: zio.Runtime, failures: list[BaseException]) -> None:
        try:
            while True:
                runtime.call(int)
        except zio.RuntimeClosed:
            pass
        except BaseException as exc:
            failures.append(exc)

    failures: list[BaseException] = []
    for _ in range(20):
        runtime = zio.Runtime()
        threads = [threading.Thread(target=flood, args=(runtime, failures)) for _ in range(2)]
        for thread in threads:
            thread.start()
        runtime.run(zio.sleep, 0.002)
        for thread in threads:
            thread.join()
    assert failures == []


# What may not block (T52).


def test_a_blocking_call_in_a_callback_of_the_hub_is_refused_by_name() -> None:
    """T52"""

    def main() -> str:
        channel: zio.Channel[int] = zio.Channel(0)
        outcome = zio.Event()
        errors: list[zio.BlockingNotAllowed] = []

        def callback() -> None:
            for call in (channel.recv, lambda: zio.sleep(1), lambda: zio.to_thread(int)):
                try:
                    call()
                except zio.BlockingNotAllowed as exc:
                    errors.append(exc)
            outcome.set()

        zio.lowlevel.here().loop.post(callback)
        outcome.wait()
        return "\n".join(map(str, errors))

    text = zio.run(main)
    for name in ("recv", "sleep", "to_thread"):
        assert f"{name} would block" in text


def test_a_blocking_call_in_del_run_by_the_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """T52"""
    unraisable: list[BaseException | None] = []
    monkeypatch.setattr("sys.unraisablehook", lambda args: unraisable.append(args.exc_value))

    class Sleeper:
        def __del__(self) -> None:
            zio.sleep(1)

    def main() -> None:
        things = [Sleeper()]
        zio.lowlevel.here().loop.post(things.clear)
        zio.sleep(0.001)

    zio.run(main)
    assert [type(exc) for exc in unraisable] == [zio.BlockingNotAllowed]


def test_a_blocking_call_from_a_foreign_greenlet_is_refused() -> None:
    """T52"""

    def main() -> None:
        def foreign() -> None:
            with pytest.raises(zio.BlockingNotAllowed):
                zio.Channel[int](0).recv()
            with pytest.raises(zio.BlockingNotAllowed):
                zio.spawn(int)

        greenlet.greenlet(foreign).switch()

    zio.run(main)


def test_an_error_in_a_callback_of_the_hub_ends_the_run_loudly_and_in_order() -> None:
    """T52"""
    log: list[str] = []

    def callback() -> None:
        raise ValueError("the callback's own")

    def child() -> None:
        try:
            zio.Event().wait()
        finally:
            with zio.shield():
                zio.sleep(0.001)
            log.append("child")

    def main() -> None:
        try:
            zio.spawn(child)
            wait_all_parked()
            zio.lowlevel.here().loop.post(callback)
            zio.Event().wait()
        finally:
            log.append("main")

    with pytest.raises(ValueError, match="the callback's own"):
        zio.run(main)
    assert log == ["main", "child"]


# The garbage collector (T65).


def test_garbage_collection_in_another_thread_disturbs_no_suspended_task() -> None:
    """T65: a thousand tasks are parked while another thread collects and drops references to tasks."""
    errors: list[str] = []

    def child(event: zio.Event) -> None:
        try:
            event.wait()
        except BaseException as exc:
            errors.append(repr(exc))
            raise

    def main() -> int:
        event = zio.Event()
        tasks = [zio.spawn(child, event) for _ in range(1000)]
        last = tasks[-1]
        wait_all_parked()

        def collect() -> None:
            for _ in range(5):
                gc.collect()
            tasks.clear()
            gc.collect()

        thread = threading.Thread(target=collect)
        thread.start()
        while thread.is_alive():
            zio.sleep(0.001)
        thread.join()
        event.set()
        wait_all_parked()
        return int(last.done)

    assert zio.run(main) == 1
    assert errors == []
