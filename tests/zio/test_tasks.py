"""Running, spawning and joining tasks: results, errors, context, and what an ended task leaves behind."""

from __future__ import annotations

import contextvars
import gc
import logging
import math
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import greenlet
import pytest

import zio
from tests.zio.helpers_tasks import boom, sleep_then
from zio.lowlevel import Fiber, here
from zio.testing import run_virtual, wait_all_parked

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


class Thing:
    """Something whose lifetime can be watched."""


def run_reporting(fn: Callable[..., Any], *args: Any) -> tuple[Any, list[tuple[str, BaseException]]]:
    """The outcome of ``fn`` as main task, and what was reported as unhandled (the name of the task, the error)."""
    reports: list[tuple[str, BaseException]] = []
    runtime = zio.Runtime(on_unhandled=lambda task, error: reports.append((task.name, error)))
    return runtime.run(fn, *args), reports


# Running.


def test_run_returns_what_the_function_returns() -> None:
    """T1"""
    assert zio.run(lambda a, b: a + b, 2, 3) == 5


def test_run_raises_what_the_function_raises_without_frames_of_the_kernel_below_it() -> None:
    """T1, design 2: the traceback goes from the caller's code to the function's, the fiber's frame is not in it."""
    with pytest.raises(ValueError, match="boom") as caught:
        zio.run(boom)
    names = [entry.name for entry in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "boom"
    assert "fiber_main" not in names
    assert caught.value.__context__ is None


def test_run_inside_a_task_is_refused() -> None:
    """T1"""

    def main() -> None:
        with pytest.raises(RuntimeError, match=r"zio\.run cannot be called inside a running zio task"):
            zio.run(lambda: None)

    zio.run(main)


def test_a_runtime_runs_once() -> None:
    """T1"""
    runtime = zio.Runtime()
    assert runtime.run(lambda: 1) == 1
    with pytest.raises(zio.RuntimeClosed):
        runtime.run(lambda: 1)


def test_a_runtime_that_never_ran_can_be_closed() -> None:
    runtime = zio.Runtime()
    runtime.close()
    assert runtime.closed
    with pytest.raises(zio.RuntimeClosed):
        runtime.run(lambda: 1)


def test_runs_can_follow_each_other_in_one_thread() -> None:
    assert [zio.run(lambda: zio.spawn(lambda: 1).join()) for _ in range(3)] == [1, 1, 1]


# Spawning and joining.


def test_join_gives_the_result() -> None:
    def main() -> None:
        task = zio.spawn(lambda a: a * 2, 21)
        assert not task.done
        assert task.join() == 42
        assert task.done
        assert task.error is None

    zio.run(main)


def test_a_result_can_be_had_again_and_by_many() -> None:
    def main() -> list[int]:
        gate = zio.Event()
        task = zio.spawn(lambda: gate.wait() and 7)
        joiners = [zio.spawn(task.join) for _ in range(3)]
        wait_all_parked()
        gate.set()
        return [joiner.join() for joiner in joiners] + [task.join(), task.join(), task.result()]

    assert zio.run(main) == [7] * 6


def test_join_raises_the_error_of_the_task() -> None:
    def main() -> None:
        task = zio.spawn(boom)
        with pytest.raises(ValueError, match="boom") as caught:
            task.join()
        assert task.error is caught.value
        assert task.done

    zio.run(main)


def test_join_limits_the_wait() -> None:
    def main() -> None:
        task = zio.spawn(zio.sleep, 10)
        with pytest.raises(TimeoutError, match="did not end within 3 s"):
            task.join(timeout=3)
        assert zio.now() == 3
        assert not task.done  # only the wait has ended
        task.join()
        assert zio.now() == 10

    run_virtual(main)


def test_a_joiner_that_timed_out_is_forgotten() -> None:
    """Many short joins of one long task leave nothing behind in it."""

    def main() -> None:
        task = zio.spawn(zio.sleep, 1000)
        for _ in range(50):
            with pytest.raises(TimeoutError):
                task.join(timeout=1)
        assert not task._waiters

    run_virtual(main)


def test_a_cancelled_joiner_leaves_the_task_alone() -> None:
    """T19, as decided: join is a plain wait."""

    def main() -> None:
        gate = zio.Event()
        child = zio.spawn(lambda: gate.wait() and "done")
        joiner = zio.spawn(child.join)
        wait_all_parked()
        joiner.cancel()
        with pytest.raises(zio.Cancelled):
            joiner.join()
        assert not child.done
        gate.set()
        assert child.join() == "done"

    zio.run(main)


def test_a_joiner_is_still_cancelled_after_its_child_ended_in_the_same_tick() -> None:
    """T19: the end of the child wins this one wait; the cancel is not used up by it."""

    def main() -> None:
        gate = zio.Event()
        child = zio.spawn(lambda: gate.wait() and 1)
        seen: list[object] = []

        def join() -> None:
            seen.append(child.join())
            try:
                zio.pause()
            except zio.Cancelled:
                seen.append("cancelled")
                raise

        joiner = zio.spawn(join)
        wait_all_parked()
        gate.set()
        while not child.done:
            zio.pause()
        joiner.cancel()
        with pytest.raises(zio.Cancelled):
            joiner.join()
        if type(here().loop.ready) is deque:  # not shuffled: the cancel came before the joiner's turn
            assert seen == [1, "cancelled"]

    zio.run(main)


def test_a_task_cannot_join_itself() -> None:
    def main() -> None:
        with pytest.raises(RuntimeError, match="cannot wait for itself"):
            zio.current_task().join(timeout=1)

    zio.run(main)


def test_a_task_cancelled_before_it_starts_never_runs() -> None:
    """T2"""
    ran: list[int] = []

    def main() -> None:
        task = zio.spawn(ran.append, 1)
        task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()
        assert task.done
        assert isinstance(task.error, zio.Cancelled)

    zio.run(main)
    assert ran == []


def test_spawn_outside_a_task_needs_no_run(background_runtime: zio.Runtime) -> None:
    """Design 9: in a plain thread the background runtime takes the task."""
    task = zio.spawn(sleep_then, 0.001, lambda: "there")
    assert task.join() == "there"


def test_current_task_is_the_running_one() -> None:
    def main() -> None:
        task = zio.spawn(zio.current_task)
        assert task.join() is task
        assert zio.current_task() is not task

    zio.run(main)
    with pytest.raises(RuntimeError, match="running zio task"):
        zio.current_task()


def test_a_task_is_named_after_its_function_or_as_told_before_and_after_its_end() -> None:
    def main() -> None:
        task, named = zio.spawn(boom), zio.spawn(boom, name="Jim")
        assert "boom" in repr(task)
        assert "pending" in repr(task)
        assert "Jim" in repr(named)
        for either in (task, named):
            with pytest.raises(ValueError, match="boom"):
                either.join()
        assert "boom" in repr(task)
        assert "failed" in repr(task)
        assert "Jim" in repr(named)

    zio.run(main)


def test_a_chain_of_ten_thousand_tasks_that_wait_for_the_next_does_not_exhaust_the_stack() -> None:
    """T4"""

    def link(left: int) -> int:
        return zio.spawn(link, left - 1).join() + 1 if left else 0

    results: list[int] = []
    before = threading.stack_size(1 << 20)  # a deep stack would burst this thread's
    try:
        thread = threading.Thread(target=lambda: results.append(zio.run(link, 10_000)))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert results == [10_000]


# Errors that nobody waits for.


def test_an_error_that_nobody_waits_for_is_reported_at_once() -> None:
    """Design 6: when it happens, not when the run ends; the other tasks go on."""
    reports: list[BaseException] = []

    def main() -> str:
        task = zio.spawn(boom)
        wait_all_parked()
        assert [str(error) for error in reports] == ["boom"]
        assert reports[0] is task.error
        return "went on"

    assert zio.Runtime(on_unhandled=lambda _task, error: reports.append(error)).run(main) == "went on"
    assert len(reports) == 1


def test_a_report_names_the_task() -> None:
    def main() -> None:
        zio.spawn(boom)
        wait_all_parked()

    _, reports = run_reporting(main)
    assert [name for name, _ in reports] == ["boom"]


def test_by_default_an_unhandled_error_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def main() -> None:
        zio.spawn(boom)
        wait_all_parked()

    with caplog.at_level(logging.ERROR, logger="zio"):
        zio.run(main)
    assert "boom" in caplog.text
    assert "Traceback" in caplog.text
    assert "in boom" in caplog.text
    assert "fiber_main" not in caplog.text


def test_an_error_with_a_joiner_is_not_reported() -> None:
    def main() -> None:
        gate = zio.Event()

        def fail() -> None:
            gate.wait()
            boom()

        task = zio.spawn(fail)

        def join() -> None:
            with pytest.raises(ValueError, match="boom"):
                task.join()

        joiner = zio.spawn(join)
        wait_all_parked()
        gate.set()
        joiner.join()

    assert run_reporting(main) == (None, [])


def test_an_error_whose_only_joiner_gave_up_is_reported() -> None:
    def main() -> None:
        task = zio.spawn(sleep_then, 5, boom)
        with pytest.raises(TimeoutError):
            task.join(timeout=1)
        zio.sleep(10)

    reports: list[BaseException] = []
    zio.Runtime(clock=zio.testing.VirtualClock(), on_unhandled=lambda _task, error: reports.append(error)).run(main)
    assert [str(error) for error in reports] == ["boom"]


def test_a_cancelled_task_is_no_error() -> None:
    def main() -> None:
        task = zio.spawn(zio.sleep, math.inf)
        wait_all_parked()
        task.cancel()
        wait_all_parked()
        assert task.done

    assert run_reporting(main) == (None, [])


def test_an_error_in_the_cleanup_of_every_task_cancelled_by_the_end_of_the_run_is_reported() -> None:
    """Design 6: the end of the run waits for these tasks, but does not handle their errors."""

    def cleaning_up(text: str) -> None:
        try:
            zio.sleep(math.inf)
        finally:
            if text != "a":
                with zio.shield():
                    zio.sleep(0.001)
            boom(text)

    def main() -> None:
        for text in "abc":
            zio.spawn(cleaning_up, text)
        wait_all_parked()

    _, reports = run_reporting(main)
    assert sorted(str(error) for _, error in reports) == ["a", "b", "c"]


def test_a_handler_of_unhandled_errors_that_fails_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(task: zio.Task[Any], error: BaseException) -> None:
        raise KeyError("broken handler")

    def main() -> str:
        zio.spawn(boom)
        wait_all_parked()
        return "went on"

    assert zio.Runtime(on_unhandled=handler).run(main) == "went on"
    assert "broken handler" in caplog.text
    assert "boom" in caplog.text


# KeyboardInterrupt and SystemExit of a task.


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("stop")], ids=lambda error: type(error).__name__)
def test_an_exit_in_a_spawned_task_ends_the_run_and_comes_out_of_it_bare(error: BaseException) -> None:
    """Design 6"""
    cleaned: list[str] = []

    def leave() -> None:
        raise error

    def main() -> None:
        zio.spawn(leave)
        try:
            zio.sleep(math.inf)
        finally:
            cleaned.append("main")

    with pytest.raises(type(error)) as caught:
        zio.run(main)
    assert caught.value is error
    assert cleaned == ["main"]


def test_an_exit_in_a_spawned_task_is_not_lost_when_main_returns_all_the_same() -> None:
    def leave() -> None:
        raise SystemExit(4)

    def main() -> str:
        task = zio.spawn(leave)
        try:
            zio.sleep(math.inf)
        except zio.Cancelled:
            assert task.done
        return "swallowed"

    with pytest.raises(SystemExit) as caught:
        zio.run(main)
    assert caught.value.code == 4


def test_an_exit_during_the_end_of_the_run_is_not_lost() -> None:
    def leave_late() -> None:
        try:
            zio.sleep(math.inf)
        finally:
            raise SystemExit(5)

    def main() -> str:
        zio.spawn(leave_late)
        wait_all_parked()
        return "done"

    with pytest.raises(SystemExit) as caught:
        zio.run(main)
    assert caught.value.code == 5


def test_an_exit_does_not_hide_the_error_that_main_ended_with() -> None:
    def leave() -> None:
        raise SystemExit(6)

    def main() -> None:
        zio.spawn(leave)
        try:
            zio.sleep(math.inf)
        finally:
            boom("in main")

    reports: list[BaseException] = []
    with pytest.raises(SystemExit):
        zio.Runtime(on_unhandled=lambda _task, error: reports.append(error)).run(main)
    assert [str(error) for error in reports] == ["in main"]


# The end of a run.


def test_tasks_left_over_are_cancelled_and_finished_before_run_returns() -> None:
    """T57, design 6: their cleanup runs, and may still block under a shield."""
    events: list[str] = []

    def left_over(name: str) -> None:
        try:
            zio.sleep(math.inf)
        finally:
            with zio.shield(timeout=5):
                zio.sleep(1)
                events.append(name)

    def main() -> None:
        for name in "ab":
            zio.spawn(left_over, name)
        wait_all_parked()
        events.append("main")

    run_virtual(main)
    assert events[0] == "main"
    assert sorted(events[1:]) == ["a", "b"]


def test_cleanup_at_the_end_of_the_run_may_use_groups_channels_and_locks_under_a_shield() -> None:
    """Design 6"""
    got: list[int] = []

    def left_over() -> None:
        channel: zio.Channel[int] = zio.Channel()
        try:
            zio.sleep(math.inf)
        finally:
            with zio.shield(), zio.Lock(), zio.TaskGroup() as group:
                group.spawn(channel.send, 1)
                got.append(channel.recv(timeout=5))

    def main() -> None:
        zio.spawn(left_over)
        wait_all_parked()

    zio.run(main)
    assert got == [1]


def test_cleanup_without_a_shield_is_cut_short_at_its_first_blocking_call() -> None:
    events: list[str] = []

    def left_over() -> None:
        try:
            zio.sleep(math.inf)
        finally:
            events.append("before")
            zio.pause()
            events.append("after")

    def main() -> None:
        zio.spawn(left_over)
        wait_all_parked()

    zio.run(main)
    assert events == ["before"]


def test_spawn_in_a_run_that_is_ending_is_refused() -> None:
    seen: list[type] = []

    def left_over() -> None:
        try:
            zio.sleep(math.inf)
        finally:
            try:
                zio.spawn(boom)
            except zio.RuntimeClosed as error:
                seen.append(type(error))

    def main() -> None:
        zio.spawn(left_over)
        wait_all_parked()

    zio.run(main)
    assert seen == [zio.RuntimeClosed]


def test_a_task_left_over_that_never_started_never_runs() -> None:
    ran: list[int] = []
    zio.run(zio.spawn, ran.append, 1)
    assert ran == []


def test_system_tasks_outlive_the_users_tasks() -> None:
    """Design 6: what the user's cleanup needs is still served."""

    def main() -> None:
        requests: zio.Channel[int] = zio.Channel()
        replies: zio.Channel[int] = zio.Channel()

        def serve() -> None:
            for request in requests:
                replies.send(request * 2)

        here().loop.spawn_system(serve)

        def left_over() -> None:
            try:
                zio.sleep(math.inf)
            finally:
                with zio.shield():
                    requests.send(21)
                    answers.append(replies.recv(timeout=5))

        zio.spawn(left_over)
        wait_all_parked()

    answers: list[int] = []
    zio.run(main)
    assert answers == [42]


def test_a_system_task_is_outside_of_the_scopes_of_its_starter() -> None:
    """Design 6"""

    def main() -> None:
        with zio.move_on_after(1) as scope:
            reader = here().loop.spawn_system(zio.sleep, 5)
            zio.sleep(3)
        assert scope.expired
        reader.join()
        assert zio.now() == 5

    run_virtual(main)


# Context variables.


def test_a_task_starts_with_a_copy_of_its_spawners_context() -> None:
    """T8"""

    def main() -> None:
        VAR.set("parent")
        task = zio.spawn(VAR.get)
        VAR.set("later")
        assert task.join() == "parent"

    zio.run(main)


def test_a_task_spawned_or_called_from_a_plain_thread_starts_with_a_copy_of_its_context(
    background_runtime: zio.Runtime,
) -> None:
    """T8"""

    def change() -> str:
        before = VAR.get()
        VAR.set("changed")
        return before

    token = VAR.set("of the thread")
    try:
        assert zio.spawn(VAR.get).join() == "of the thread"
        assert background_runtime.call(change) == "of the thread"
        assert VAR.get() == "of the thread"
    finally:
        VAR.reset(token)
    assert background_runtime.call(VAR.get) == "unset"


def test_the_main_task_starts_with_a_copy_of_the_callers_context() -> None:
    """T8"""

    def main() -> str:
        value = VAR.get()
        VAR.set("main")
        return value

    token = VAR.set("caller")
    try:
        assert zio.run(main) == "caller"
        assert VAR.get() == "caller"
    finally:
        VAR.reset(token)


def test_context_changes_of_a_task_reach_nobody_else_and_survive_its_waits() -> None:
    """T8: also when the tasks share fibers one after another."""

    def child(value: str) -> None:
        for turn in range(5):
            VAR.set(f"{value}{turn}")
            zio.pause()
            zio.sleep(0.001)
            assert VAR.get() == f"{value}{turn}"

    def main() -> None:
        VAR.set("main")
        for _ in range(3):
            with zio.TaskGroup() as group:
                for value in "abcd":
                    group.spawn(child, value)
            assert VAR.get() == "main"
            assert zio.spawn(VAR.get).join() == "main"

    run_virtual(main)


def test_a_system_task_has_an_empty_context() -> None:
    """Design 6: a client's reader must not keep the variables of the request that connected it."""

    def main() -> None:
        VAR.set("of a request")
        assert here().loop.spawn_system(VAR.get).join() == "unset"
        assert here().loop.spawn_system(contextvars.copy_context).join().get(VAR) is None

    zio.run(main)


# What an ended task leaves behind.


def test_an_error_is_not_chained_to_the_error_of_the_task_that_ran_before_on_the_same_fiber() -> None:
    """Design 2"""

    def main() -> None:
        tasks = [zio.spawn(boom, str(number)) for number in range(5)]
        for task in tasks:
            with pytest.raises(ValueError, match=r"\d") as caught:
                task.join()
            assert caught.value.__context__ is None
            assert caught.value.__cause__ is None

    assert run_reporting(main)[0] is None


def test_an_error_is_not_chained_to_one_that_is_being_handled_where_the_task_was_spawned_or_waited_for() -> None:
    """Design 2: neither in the spawner, nor in the task that happened to hand over the processor."""

    def main() -> None:
        try:
            boom("outer")
        except ValueError:
            task = zio.spawn(boom, "inner")
            zio.pause()
            wait_all_parked()
        assert task.error is not None
        assert task.error.__context__ is None

    run_reporting(main)


def test_a_tasks_own_chain_of_errors_is_kept() -> None:
    """T10"""

    def chain() -> None:
        try:
            boom("first")
        except ValueError as error:
            raise KeyError("second") from error

    def main() -> None:
        with pytest.raises(KeyError) as caught:
            zio.spawn(chain).join()
        assert str(caught.value.__cause__) == "first"

    zio.run(main)


def test_the_error_being_handled_is_still_there_after_a_wait() -> None:
    """Every task has its own ``sys.exc_info``: another one's errors do not show."""

    def handle(text: str) -> None:
        try:
            boom(text)
        except ValueError:
            zio.pause()
            with pytest.raises(ValueError, match=text):
                raise

    def main() -> None:
        with zio.TaskGroup() as group:
            for text in ("one", "two", "three"):
                group.spawn(handle, text)

    zio.run(main)


@pytest.fixture
def no_gc() -> Any:
    """Only reference counts free objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_gc")
def test_locals_of_a_cancelled_task_are_freed_with_its_end() -> None:
    """T11"""

    def main() -> None:
        things: list[weakref.ref[Thing]] = []

        def hold() -> None:
            thing = Thing()
            things.append(weakref.ref(thing))
            zio.sleep(math.inf)

        task = zio.spawn(hold)
        wait_all_parked()
        assert things[0]() is not None
        task.cancel()
        wait_all_parked()
        assert task.done
        del task
        assert things[0]() is None

    zio.run(main)


def test_what_a_task_sets_is_not_seen_by_the_next_one_on_its_fiber() -> None:
    def main() -> None:
        def setting() -> None:
            assert VAR.get() == "unset"
            VAR.set("x")

        for _ in range(3):
            setter = zio.spawn(setting)
            getter = zio.spawn(VAR.get)
            setter.join()
            assert getter.join() == "unset"

    contextvars.Context().run(zio.run, main)  # empty: with a context of its own a task cannot see another one's


@pytest.mark.usefixtures("no_gc")
def test_a_task_that_has_ended_keeps_neither_function_nor_arguments_nor_context() -> None:
    """T11"""

    def main() -> None:
        thing = Thing()
        watch = weakref.ref(thing)
        VAR.set("x")
        other: contextvars.ContextVar[Thing] = contextvars.ContextVar("other")
        other.set(thing)
        task = zio.spawn(lambda _argument, captured=thing: None, thing)
        task.join()
        other.set(Thing())
        del thing
        assert watch() is None
        assert task.done

    zio.run(main)


@pytest.mark.usefixtures("in_order")
@pytest.mark.usefixtures("no_gc")
def test_a_task_that_was_cancelled_keeps_nothing_of_where_it_was() -> None:
    """T11: neither of the wait that its cancel ended nor of what was being handled then."""

    def main() -> None:
        watches: list[weakref.ref[Thing]] = []

        def work() -> None:
            outer = Thing()
            watches.append(weakref.ref(outer))
            try:
                boom()
            except ValueError:
                inner = Thing()
                watches.append(weakref.ref(inner))
                zio.sleep(math.inf)

        task = zio.spawn(work)
        zio.pause()
        assert len(watches) == 2
        task.cancel()
        zio.pause()
        assert task.done
        assert [watch() for watch in watches] == [None, None]
        with pytest.raises(zio.Cancelled):
            task.join()

    zio.run(main)


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("ending", ["returned", "failed", "cancelled"])
def test_an_ended_task_is_freed_with_its_last_reference_while_others_wait(ending: str) -> None:
    """T11: neither a cycle nor the stack of the task whose wait made room for it keeps it."""

    def work() -> None:
        if ending == "failed":
            boom()
        if ending == "cancelled":
            zio.current_task().cancel()
            zio.pause()

    def main() -> None:
        spawned: list[weakref.ref[zio.Task[Any]]] = []

        def start() -> None:
            spawned.append(weakref.ref(zio.spawn(work)))
            zio.sleep(math.inf)

        with zio.TaskGroup() as group:
            for _ in range(10):  # and as many idle fibers there are then
                group.spawn(zio.sleep, 0.1)
        for _ in range(3):
            zio.spawn(start)
            zio.sleep(1)
        assert [ref() for ref in spawned] == [None] * 3

    zio.Runtime(clock=zio.testing.VirtualClock(), on_unhandled=lambda _task, _error: None).run(main)


@pytest.mark.usefixtures("no_gc")
def test_an_ended_task_is_freed_before_the_loop_goes_to_sleep() -> None:
    """T11: the hub's stack keeps it no more than others do."""

    def main() -> None:
        seen: list[object] = []

        def work() -> None:
            watch = weakref.ref(zio.current_task())
            here().loop.tick_end.append(lambda: seen.append(watch()))

        zio.spawn(work)
        zio.sleep(0.001)
        assert seen == [None]

    zio.run(main)


def failed_task(fail: Callable[[], None] = boom) -> Callable[[], None]:
    return zio.spawn(fail).join


def failed_future(fail: Callable[[], None] = boom) -> Callable[[], None]:
    return future_with(error_of(fail)).result  # in no variable: frames of the error's traceback would keep it


def future_with(error: Exception) -> zio.Future[None]:
    future: zio.Future[None] = zio.Future()
    future.set_exception(error)
    return future


def error_of(fail: Callable[[], None]) -> Exception:
    try:
        fail()
    except ValueError as error:
        return error
    raise AssertionError("unreachable")


@pytest.mark.parametrize("failed", [failed_task, failed_future])
def test_asking_for_an_error_again_and_again_does_not_make_its_traceback_grow(
    failed: Callable[..., Callable[[], None]],
) -> None:
    """T11: or the error would keep the frames of everybody who ever asked."""

    def main() -> None:
        ask = failed()
        lengths = []
        for _ in range(5):
            with pytest.raises(ValueError, match="boom") as caught:
                ask()
            lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
        assert lengths == [lengths[0]] * 5

    zio.run(main)


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("failed", [failed_task, failed_future])
def test_an_error_that_was_asked_for_makes_no_reference_cycle(failed: Callable[..., Callable[[], None]]) -> None:
    """T10, T11"""

    def main() -> None:
        watch: list[weakref.ref[Thing]] = []

        def fail() -> None:
            thing = Thing()
            watch.append(weakref.ref(thing))
            boom()

        def fail_and_ask() -> None:
            with pytest.raises(ValueError, match="boom"):
                failed(fail)()

        fail_and_ask()
        assert watch[0]() is None

    zio.run(main)


def count_fibers() -> int:
    gc.collect()
    return sum(type(thing) is Fiber and not thing.dead for thing in gc.get_objects())


@pytest.mark.slow
def test_fibers_are_reused_and_the_pool_of_idle_ones_is_capped() -> None:
    """Design 2: a peak of tasks does not stay in memory, and the next ones need no new fibers."""

    def main() -> None:
        def peak(count: int) -> int:
            gate = zio.Event()
            with zio.TaskGroup() as group:
                for _ in range(count):
                    group.spawn(gate.wait)
                wait_all_parked()
                most = count_fibers()
                gate.set()
            return most

        before = count_fibers()
        assert peak(1500) >= before + 1500
        pooled = count_fibers() - before
        assert pooled <= 1001
        assert peak(500) <= before + pooled + 1

    before_run = count_fibers()
    zio.run(main)
    assert count_fibers() == before_run  # the end of the run lets the pooled ones return


def test_a_task_that_raises_greenlet_exit_itself_ends_with_it_like_with_any_error() -> None:
    """T1: only the collector's GreenletExit, thrown into a parked fiber, ends a fiber without an outcome."""

    def main() -> None:
        def leave() -> None:
            raise greenlet.GreenletExit("bye")

        with pytest.raises(greenlet.GreenletExit, match="bye"):
            zio.spawn(leave).join(timeout=5)

    zio.run(main)


def test_a_task_that_has_not_ended_has_no_result_yet() -> None:
    def main() -> None:
        task = zio.spawn(str, "argument")
        with pytest.raises(RuntimeError, match="has not ended"):
            task.result()
        assert task.join() == "argument"

    zio.run(main)


class Closing:
    """Runs a function when it is freed."""

    def __init__(self, close: Callable[[], object]) -> None:
        self.close = close

    def __del__(self) -> None:
        self.close()


def test_a_destructor_of_what_an_ended_task_drops_may_wait_for_a_task_that_was_ready() -> None:
    def main() -> None:
        lock, seen = zio.Lock(), []

        def holder() -> None:
            with lock:
                zio.pause()
                zio.pause()

        def close() -> None:
            with zio.timeout(5):
                seen.append(lock.acquire())
                lock.release()

        def work(_thing: Closing) -> None:
            zio.pause()

        zio.spawn(holder)
        zio.spawn(work, Closing(close))
        zio.sleep(1)
        assert seen == [True]

    run_virtual(main)
