"""Deadlock is raised when it is certain that nothing can wake any task, and never else."""

from __future__ import annotations

import _thread
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import zio
from tests.zio.helpers_scripts import run_script
from tests.zio.helpers_streams import in_turn, stream_and_peer
from zio._core import foreign, native_threads
from zio.testing import wait_all_parked


def test_two_tasks_that_wait_for_each_other_raise_deadlock_in_main_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """T59: the loop never goes to sleep."""

    def main() -> None:
        one: zio.Channel[int] = zio.Channel(0)
        other: zio.Channel[int] = zio.Channel(0)
        with zio.TaskGroup() as group:
            group.spawn(lambda: other.send(one.recv()))
            group.spawn(lambda: one.send(other.recv()))

    runtime = zio.Runtime()
    kind = type(runtime.loop.poller)
    poll, timeouts = kind.poll, []

    def counted(self: Any, timeout: float | None, ready: Any) -> None:
        timeouts.append(timeout)
        poll(self, timeout, ready)

    monkeypatch.setattr(kind, "poll", counted)
    with pytest.raises(BaseExceptionGroup) as caught:
        runtime.run(main)
    assert set(timeouts) <= {0}
    assert caught.group_contains(zio.Deadlock, depth=1)


def test_the_dump_names_tasks_waits_and_stacks() -> None:
    """T59"""

    def waits_for_its_own_lock_twice(lock: zio.Lock, event: zio.Event) -> None:
        with lock:
            event.wait()  # in the stack

    def main() -> None:
        lock, event = zio.Lock(), zio.Event()
        zio.spawn(waits_for_its_own_lock_twice, lock, event, name="the holder")
        wait_all_parked()
        lock.acquire()  # main's line

    with pytest.raises(zio.Deadlock) as caught:
        zio.run(main)
    text = str(caught.value)
    holder, _, rest = text.partition("─ <Task the holder")
    assert "─ <Task main running" in holder
    assert "waits on <Lock" in holder
    assert f"{__file__}:" in holder
    assert "lock.acquire()  # main's line" in holder
    assert "waits on <Event" in rest
    assert "in waits_for_its_own_lock_twice: event.wait()  # in the stack" in rest


def test_after_a_deadlock_every_finally_runs() -> None:
    """T59"""
    log: list[str] = []

    def child(event: zio.Event) -> None:
        try:
            event.wait()
        finally:
            with zio.shield():
                zio.sleep(0)
            log.append("child")

    def main() -> None:
        event = zio.Event()
        zio.spawn(child, event)
        try:
            event.wait()
        finally:
            log.append("main")

    with pytest.raises(zio.Deadlock):
        zio.run(main)
    assert log == ["main", "child"]


def test_main_may_take_it_and_go_on() -> None:
    """T59"""

    def main() -> str:
        with pytest.raises(zio.Deadlock):
            zio.Event().wait()
        with pytest.raises(zio.Deadlock):
            zio.Channel[int](0).recv()
        zio.sleep(0.001)
        return "went on"

    assert zio.run(main) == "went on"


def test_a_main_that_goes_back_to_the_same_wait_ends_the_run() -> None:
    """T59: no endless circle of deadlocks."""

    def main() -> None:
        event = zio.Event()
        while True:
            try:
                event.wait()
            except zio.Deadlock:
                continue

    with pytest.raises(zio.Deadlock):
        zio.run(main)


def test_a_group_whose_task_ignores_the_cancel_for_ever_ends_in_deadlock() -> None:
    """T59: a wait that no cancel reaches."""

    def stubborn() -> None:
        with zio.shield():
            zio.Event().wait()

    def main() -> None:
        with zio.TaskGroup() as group:
            group.spawn(stubborn)
            wait_all_parked()
            group.cancel()

    with pytest.raises(zio.Deadlock):
        zio.run(main)


def test_a_task_that_refuses_to_end_after_main_is_reported() -> None:
    """T57: the end of the run waits for a task that waits for nothing."""

    def stubborn() -> None:
        with zio.shield():
            zio.Event().wait()

    def main() -> None:
        zio.spawn(stubborn, name="the stubborn one")
        wait_all_parked()

    with pytest.raises(zio.Deadlock, match="the stubborn one"):
        zio.run(main)


# No false alarms: each of these waits, 20 ms long, for something that comes from outside.

DELAY = 0.02


def _timer() -> None:
    zio.sleep(DELAY)


def _timeout_of_another_wait() -> None:
    with pytest.raises(TimeoutError):
        zio.Channel[int](0).recv(DELAY)


def _scope_deadline() -> None:
    with zio.move_on_after(DELAY) as scope:
        zio.Event().wait()
    assert scope.expired


def _thread_job() -> None:
    zio.to_thread(time.sleep, DELAY)


def _abandoned_thread_job_that_wakes_a_task() -> None:
    event, started, may_end = zio.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        may_end.wait()
        time.sleep(DELAY)
        event.set()

    job = zio.spawn(lambda: zio.to_thread(work, abandon_on_cancel=True))
    while not started.is_set():
        zio.sleep(0.001)
    job.cancel()
    with pytest.raises(zio.Cancelled):
        job.join()
    may_end.set()
    event.wait()


def _signal_receiver() -> None:
    with zio.signals(signal.SIGUSR1) as receiver:
        thread = zio.spawn(
            zio.to_thread, in_turn(partial(time.sleep, DELAY), partial(signal.raise_signal, signal.SIGUSR1))
        )
        assert receiver.wait() is signal.SIGUSR1
        thread.join()


def _socket() -> None:
    with stream_and_peer() as (stream, peer):
        zio.spawn(in_turn(partial(zio.sleep, DELAY), partial(peer.sendall, b"x")))
        assert stream.recv(1) == b"x"


def _plain_thread() -> None:
    event = zio.Event()
    thread = threading.Thread(target=in_turn(partial(time.sleep, DELAY), event.set))
    thread.start()
    event.wait()
    zio.to_thread(thread.join)


@pytest.mark.parametrize(
    "wait",
    [
        _timer,
        _timeout_of_another_wait,
        _scope_deadline,
        _thread_job,
        _abandoned_thread_job_that_wakes_a_task,
        _signal_receiver,
        _socket,
        _plain_thread,
    ],
    ids=lambda fn: fn.__name__.strip("_"),
)
def test_no_false_alarm_while_something_from_outside_can_come(wait: Callable[[], None]) -> None:
    """T59"""
    zio.run(wait)


def test_no_false_alarm_while_waiting_for_a_signal_only() -> None:
    """T59: nobody but another process can send it."""

    def main() -> signal.Signals:
        command = f"sleep {DELAY}; kill -USR1 {os.getpid()}"
        with zio.signals(signal.SIGUSR1) as receiver, subprocess.Popen(["/bin/sh", "-c", command]):
            return receiver.wait()

    assert zio.run(main) is signal.SIGUSR1


def test_no_false_alarm_while_a_peer_may_send() -> None:
    """T59: a parked reader is reason enough to wait, without a timer."""

    def main() -> bytes:
        with stream_and_peer() as (stream, peer):
            with subprocess.Popen(["/bin/sleep", str(DELAY)], stdout=peer.fileno()) as process:
                peer.close()  # the process holds the other end now
                data = stream.recv(1)
                process.wait()
            return data

    assert zio.run(main) == b""


def test_no_false_alarm_for_a_runtime_that_serves_other_threads(background_runtime: zio.Runtime) -> None:
    """T59: the background runtime is idle most of the time."""
    task = zio.spawn(zio.Event().wait)
    time.sleep(DELAY)
    assert not task.done
    assert background_runtime.call(lambda: 5) == 5
    task.cancel()


@pytest.mark.parametrize("kind", ["task", "system task", "thread job"])
def test_no_false_alarm_while_the_background_runtime_has_something_to_do(
    background_runtime: zio.Runtime, kind: str
) -> None:
    """T59: its thread is a runtime's own, and what it does may wake us."""

    def main() -> bool:
        event = zio.Event()
        later = in_turn(partial(zio.sleep, DELAY), event.set)
        if kind == "task":
            background_runtime.call(zio.spawn, later)
        elif kind == "system task":
            background_runtime.call(background_runtime.loop.spawn_system, later)
        else:
            background_runtime.pool.submit(zio.lowlevel.Job(later, (), lambda job: None, None))
        zio.sleep(DELAY / 4)  # in which the other loop goes to sleep
        return event.wait()

    assert zio.run(main)


def test_what_the_background_runtime_left_before_it_had_nothing_to_do_is_found(
    background_runtime: zio.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T59: it comes in while we look whether anybody could bring it."""

    def main() -> bool:
        event = zio.Event()
        look = foreign.another_thread_could_wake_us

        def too_late() -> bool:
            monkeypatch.undo()
            loop.post(event.set)
            return look()

        loop = zio.lowlevel.here().loop
        monkeypatch.setattr(foreign, "another_thread_could_wake_us", too_late)
        return event.wait()

    assert zio.run(main)


def start_in_c(call: Callable[[], None]) -> None:
    """In a thread that nothing of Python has started."""
    libc = ctypes.CDLL(None)
    kind = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    started_in_c.append(entry := kind(lambda _: call()))  # kept: it returns into it
    thread = ctypes.c_ulong()
    assert libc.pthread_create(ctypes.byref(thread), None, entry, None) == 0
    libc.pthread_detach(thread)


started_in_c: list[object] = []
NATIVE = {"by _thread": lambda call: _thread.start_new_thread(call, ()), "by C": start_in_c}


@pytest.mark.parametrize("started", NATIVE)
def test_no_false_alarm_while_there_is_a_thread_that_threading_does_not_know(
    started: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Lock()
    look = foreign.another_thread_could_wake_us

    def look_and_tell() -> bool:
        answer = look()
        asked.release()
        return answer

    def main() -> bool:
        event = zio.Event()

        def native() -> None:
            asked.acquire()
            event.set()

        NATIVE[started](native)
        return event.wait()

    asked.acquire()
    monkeypatch.setattr(foreign, "another_thread_could_wake_us", look_and_tell)
    assert zio.run(main)


@pytest.mark.parametrize("started", NATIVE)
def test_such_a_thread_that_has_ended_is_no_reason_to_wait(started: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the system takes to end it, and if zio was used there."""
    monkeypatch.setattr(native_threads, "PATIENCE", [0.001] * 10_000)
    over = threading.Lock()

    def native() -> None:
        zio.Event().set()
        threading.current_thread()
        over.release()

    over.acquire()
    NATIVE[started](native)
    over.acquire()
    with pytest.raises(zio.Deadlock):
        zio.run(lambda: zio.Event().wait())


def test_where_the_system_does_not_tell_of_threads_python_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native_threads, "_THREADS", tmp_path / "none")
    test_no_false_alarm_while_there_is_a_thread_that_threading_does_not_know("by _thread", monkeypatch)
    while native_threads._python_thread_is_alive([]):
        time.sleep(0)
    with pytest.raises(zio.Deadlock):
        zio.run(lambda: zio.Event().wait())


def test_the_watch_over_hangs_of_faulthandler_is_no_reason_to_wait() -> None:
    done = run_script("deadlock_beside_faulthandler.py")
    assert done.stdout == "deadlock\n", done.stderr


def test_an_idle_background_runtime_is_no_reason_to_wait(background_runtime: zio.Runtime) -> None:
    """T59"""
    with pytest.raises(zio.Deadlock):
        zio.run(lambda: zio.Event().wait())


def test_threads_of_the_runtimes_own_are_no_reason_to_wait() -> None:
    """T59: an idle pool thread cannot wake anybody."""

    def main() -> None:
        zio.to_thread(int)
        zio.Event().wait()

    with pytest.raises(zio.Deadlock):
        zio.run(main)


def test_deadlock_under_the_virtual_clock() -> None:
    """T59: first all timers go off."""

    def main() -> None:
        zio.sleep(3600)
        zio.Event().wait()

    with pytest.raises(zio.Deadlock):
        zio.testing.run_virtual(main)
