"""to_thread and from_thread: results, contexts, cancelling, and the pool of threads behind them."""

from __future__ import annotations

import contextvars
import threading
import time
import traceback
from functools import partial
from typing import Any

import pytest

import zio
from tests.zio.helpers_streams import in_turn
from zio._core import pool as pool_module
from zio.lowlevel import here
from zio.testing import wait_all_parked

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def _started(event: threading.Event) -> None:
    """Wait in a task for something that a thread does."""
    while not event.is_set():
        zio.sleep(0.001)


def test_the_result_comes_back_and_other_tasks_run_meanwhile() -> None:
    """T51"""

    def main() -> tuple[int, bool]:
        release = threading.Event()
        job = zio.spawn(zio.to_thread, lambda: release.wait(30))
        zio.sleep(0.001)
        release.set()
        return zio.to_thread(lambda a, b: a + b, 2, 3), job.join()

    assert zio.run(main) == (5, True)


def test_an_error_comes_back_with_its_traceback() -> None:
    """T51"""

    def fails_in_the_thread() -> None:
        raise ValueError("the job's own")

    with pytest.raises(ValueError, match="the job's own") as caught:
        zio.run(zio.to_thread, fails_in_the_thread)
    assert any(frame.name == "fails_in_the_thread" for frame in traceback.extract_tb(caught.value.__traceback__))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, zio.Cancelled, StopIteration])
def test_an_error_of_any_class_belongs_to_the_caller(error: type[BaseException]) -> None:
    """T51: the thread survives it."""

    def job() -> None:
        raise error

    def main() -> int:
        with pytest.raises(error):
            zio.to_thread(job)
        return zio.to_thread(lambda: 5)

    assert zio.run(main) == 5


def test_context_variables_are_the_callers_and_changes_stay_in_the_thread() -> None:
    """T51"""

    def job() -> str:
        seen = variable.get()
        variable.set("set in the thread")
        return seen

    def main() -> tuple[str, str]:
        variable.set("set in the task")
        return zio.to_thread(job), variable.get()

    assert zio.run(main) == ("set in the task", "set in the task")


def test_a_cancelled_caller_waits_for_the_end_and_keeps_the_result() -> None:
    """T51: what the job did is not lost."""

    def main() -> tuple[str, bool]:
        working, release = threading.Event(), threading.Event()

        def job() -> str:
            working.set()
            release.wait()
            return "done"

        task = zio.spawn(zio.to_thread, job)
        _started(working)
        task.cancel()
        zio.sleep(0.001)
        waited = not task.done
        release.set()
        return task.join(), waited

    assert zio.run(main) == ("done", True)


def test_an_abandoning_caller_leaves_at_once_and_the_outcome_is_dropped() -> None:
    """T51"""
    release = threading.Event()
    threads: list[threading.Thread] = []

    def main() -> None:
        working = threading.Event()

        def job() -> None:
            threads.append(threading.current_thread())
            working.set()
            release.wait()
            raise ValueError("nobody hears this")

        with zio.timeout(45), zio.TaskGroup() as group:
            task = group.spawn(lambda: zio.to_thread(job, abandon_on_cancel=True))
            _started(working)
            task.cancel()
            with pytest.raises(zio.Cancelled):
                task.join()

    zio.run(main)
    release.set()
    threads[0].join()


def test_a_timeout_waits_for_the_job_unless_it_is_abandoned() -> None:
    """T51"""

    def main() -> tuple[None, bool]:
        with zio.move_on_after(0.001) as scope:
            result = zio.to_thread(in_turn(partial(time.sleep, 0.02)))
        return result, scope.cancelled_caught

    assert zio.run(main) == (None, False)


def test_a_job_that_is_cancelled_in_the_queue_never_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """T51"""
    monkeypatch.setattr(pool_module.ThreadPool.__init__, "__defaults__", (1,))
    ran: list[str] = []

    def main() -> None:
        working, release = threading.Event(), threading.Event()
        first = zio.spawn(zio.to_thread, in_turn(working.set, release.wait))
        _started(working)
        queued = zio.spawn(zio.to_thread, ran.append, "ran")
        while queued.fiber is None or queued.fiber.waiter is None:
            zio.sleep(0)
        queued.cancel()
        with pytest.raises(zio.Cancelled):
            queued.join()
        release.set()
        first.join()
        zio.to_thread(int)

    zio.run(main)
    assert ran == []


def test_a_call_in_a_cancelled_scope_starts_nothing() -> None:
    """T51, T14"""
    ran: list[str] = []

    def main() -> None:
        with zio.CancelScope() as scope:
            scope.cancel()
            zio.to_thread(ran.append, "ran")
        assert scope.cancelled_caught
        assert threading.active_count() == before

    before = threading.active_count()
    zio.run(main)
    assert ran == []


def test_threads_are_used_again() -> None:
    """T51: not always, because a result may arrive before its thread is free again; on a busy machine it often does."""

    def main() -> set[int]:
        return {zio.to_thread(threading.get_ident) for _ in range(300)}

    assert len(zio.run(main)) < 200


def test_the_thread_that_was_used_last_is_used_first() -> None:
    """T51: so that the others become idle for long, and end."""

    def main() -> int:
        runtime = zio.lowlevel.runtime_here()
        assert runtime is not None
        both = threading.Barrier(2)
        with zio.TaskGroup() as group:
            for _ in range(2):
                group.spawn(zio.to_thread, both.wait)
        used = set()
        for _ in range(10):
            while runtime.statistics().idle_threads < 2:
                zio.sleep(0.001)
            used.add(zio.to_thread(threading.get_ident))
        return len(used)

    assert zio.run(main) == 1


def test_an_idle_thread_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """T51"""
    monkeypatch.setattr(pool_module, "IDLE_SECONDS", 0.01)

    def main() -> None:
        thread = zio.to_thread(threading.current_thread)
        while thread.is_alive():
            zio.sleep(0.001)
        assert zio.to_thread(lambda: 5) == 5

    zio.run(main)


def test_no_job_is_lost_to_a_thread_that_is_just_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """T51: the job is handed to it after its idle time is up and before it has said that it ends."""
    ran = threading.Event()
    plain = pool_module._Seat.wait
    pools: list[pool_module.ThreadPool] = []

    def wait(seat: pool_module._Seat, seconds: float) -> bool:
        if seconds < 0 or not pools:
            return plain(seat, seconds)
        pools.pop().submit(zio.lowlevel.Job(ran.set, (), lambda job: None, None))
        return False

    def main() -> bool:
        runtime = zio.lowlevel.runtime_here()
        assert runtime is not None
        pools.append(runtime.pool)
        zio.to_thread(int)
        return ran.wait(30)

    monkeypatch.setattr(pool_module._Seat, "wait", wait)
    assert zio.run(main)


def test_more_jobs_than_threads_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """T51"""
    monkeypatch.setattr(pool_module.ThreadPool.__init__, "__defaults__", (2,))
    running, most = 0, 0
    lock = threading.Lock()

    def job(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1
        return number

    def main() -> list[int]:
        tasks = [zio.spawn(zio.to_thread, job, number) for number in range(20)]
        return [task.join() for task in tasks]

    assert zio.run(main) == list(range(20))
    assert most == 2


def test_to_thread_in_a_pool_thread_does_not_wait_for_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """T51: nested, with one thread in all."""
    monkeypatch.setattr(pool_module.ThreadPool.__init__, "__defaults__", (1,))
    assert zio.run(zio.to_thread, lambda: zio.to_thread(lambda: zio.to_thread(lambda: 5))) == 5


def test_from_thread_runs_a_task_of_the_runtime_the_job_came_from() -> None:
    """T51"""

    def main() -> tuple[int, str]:
        channel: zio.Channel[str] = zio.Channel(0)
        loop_thread = threading.get_ident()

        def job() -> int:
            assert threading.get_ident() != loop_thread
            zio.from_thread(channel.send, "sent from the thread")
            return zio.from_thread(threading.get_ident)

        task = zio.spawn(zio.to_thread, job)
        received = channel.recv()
        return task.join() - loop_thread, received

    assert zio.run(main) == (0, "sent from the thread")


@pytest.mark.parametrize("queued", ["before", "meanwhile"])
def test_a_task_that_a_job_waits_for_may_have_jobs_of_its_own(monkeypatch: pytest.MonkeyPatch, queued: str) -> None:
    """T51: with one thread in all, whether the other job waits for it already or comes while it waits."""
    monkeypatch.setattr(pool_module.ThreadPool.__init__, "__defaults__", (1,))

    def main() -> tuple[int, int]:
        began, release = threading.Event(), threading.Event()

        def five() -> int:
            return other[0].join() if queued == "before" else zio.to_thread(lambda: 5)

        def job() -> int:
            began.set()
            release.wait()
            return zio.from_thread(five)

        first = zio.spawn(zio.to_thread, job)
        _started(began)
        other = [zio.spawn(zio.to_thread, lambda: 5)] if queued == "before" else []
        zio.sleep(0.001)
        release.set()
        result = first.join(30)
        pool = zio.lowlevel.here().loop.runtime.pool
        return result, len(pool._aside)

    assert zio.run(main) == (5, 0)


def test_from_thread_brings_errors_back() -> None:
    """T51"""

    def fails_in_the_task() -> None:
        raise ValueError("the task's own")

    with pytest.raises(ValueError, match="the task's own"):
        zio.run(zio.to_thread, lambda: zio.from_thread(fails_in_the_task))


def test_from_thread_elsewhere_says_what_to_use() -> None:
    """T51"""
    with pytest.raises(RuntimeError, match=r"Runtime\.call"):
        zio.from_thread(int)


def test_in_a_plain_thread_the_function_is_called_directly() -> None:
    """T51"""
    assert zio.to_thread(threading.get_ident) == threading.get_ident()


def test_primitives_work_between_a_job_and_the_tasks() -> None:
    """T51, rule 0: the job is a plain thread to them."""

    def main() -> list[int]:
        channel: zio.Channel[int] = zio.Channel(0)
        ready = zio.Event()

        def job() -> None:
            ready.wait()
            for number in range(3):
                channel.send(number)
            channel.close()

        task = zio.spawn(zio.to_thread, job)
        ready.set()
        received = list(channel)
        task.join()
        return received

    assert zio.run(main) == [0, 1, 2]


def test_wait_all_parked_takes_a_thread_job_for_work() -> None:
    """T67"""
    release = threading.Event()

    def main() -> bool:
        task = zio.spawn(zio.to_thread, in_turn(release.wait, partial(time.sleep, 0.01)))
        zio.spawn(release.set)
        wait_all_parked()
        return task.done

    assert zio.run(main)


@pytest.mark.parametrize("abandon", [False, True])
@pytest.mark.parametrize("back", [zio.from_thread, zio.to_thread], ids=["from_thread", "to_thread"])
def test_a_cancelled_jobs_calls_into_the_runtime_are_cancelled(back: Any, abandon: bool) -> None:
    """The thread waits for nothing that will come: the job ends with Cancelled, and the caller with it."""

    def main() -> list[str]:
        channel: zio.Channel[int] = zio.Channel()
        seen = []
        ended = threading.Event()

        def job() -> None:
            try:
                back(channel.recv)
            except zio.Cancelled:
                seen.append("cancelled")
                with pytest.raises(zio.Cancelled):
                    zio.sleep(0)
                raise
            finally:
                ended.set()

        task = zio.spawn(lambda: zio.to_thread(job, abandon_on_cancel=abandon))
        while not channel._receivers:
            zio.sleep(0.001)
        task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()
        _started(ended)
        # The thread is as good as new.
        zio.to_thread(lambda: zio.from_thread(zio.sleep, 0))
        return seen

    assert zio.run(main) == ["cancelled"]


def test_a_job_that_handles_the_cancel_of_its_call_returns_what_it_likes() -> None:
    def main() -> object:
        channel: zio.Channel[int] = zio.Channel()

        def job() -> str:
            try:
                zio.from_thread(channel.recv)
            except zio.Cancelled:
                return "cleaned up"
            return "?"

        task = zio.spawn(zio.to_thread, job)
        while not channel._receivers:
            zio.sleep(0.001)
        task.cancel()
        return task.join()

    assert zio.run(main) == "cleaned up"


def test_a_run_ends_although_a_job_waits_for_a_task() -> None:
    def main() -> None:
        channel: zio.Channel[int] = zio.Channel()
        zio.spawn(zio.to_thread, zio.from_thread, channel.recv)
        while not channel._receivers:
            zio.sleep(0.001)

    zio.run(main)


def test_a_job_that_begins_when_its_caller_was_cancelled_already_is_cancelled_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module.ThreadPool, "withdraw", lambda self, job: False)

    def main() -> None:
        pool = here().loop.runtime.pool
        pool._max = 1
        begun, release = threading.Event(), threading.Event()

        def block() -> None:
            begun.set()
            release.wait()

        blocker = zio.spawn(zio.to_thread, block)
        _started(begun)
        task = zio.spawn(zio.to_thread, zio.from_thread, zio.Channel[int]().recv)
        while not pool.numbers()[0]:
            zio.sleep(0.001)
        task.cancel()
        zio.pause()
        release.set()
        blocker.join()
        with pytest.raises(zio.Cancelled):
            task.join()

    zio.run(main)
