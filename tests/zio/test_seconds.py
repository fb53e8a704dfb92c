"""Seconds that are no number are refused in the user's terms, wherever they are given, and nothing is left behind."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest

import zio
from zio.testing import check_stream, memory_stream_pair, run_virtual

WRONG: list[Any] = ["5", []]


def in_condition(call: Callable[[zio.Condition], object]) -> object:
    with zio.Condition() as condition:
        return call(condition)


def held(lock: zio.Lock | zio.RLock) -> zio.Lock:
    def hold() -> None:
        lock.acquire()
        never()

    zio.spawn(hold)
    zio.pause()
    return lock


def reader_held() -> zio.RWLock:
    lock = zio.RWLock()

    def hold() -> None:
        lock.read().acquire()
        never()

    zio.spawn(hold)
    zio.pause()
    return lock


def group_wait(seconds: Any) -> None:
    with zio.TaskGroup() as group:
        group.spawn(never)
        waiting = zio.spawn(group.wait, seconds)
        zio.pause()
        group.cancel()
    waiting.join()


def with_listener(call: Callable[[Any], object]) -> object:
    with zio.net.listen("127.0.0.1", 0) as listener:
        return call(listener)


def process_wait(seconds: Any) -> object:
    with zio.process.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        return process.wait(timeout=seconds)


def never() -> None:
    zio.sleep(1000)


# Each waits, so that the seconds count.
CALLS: dict[str, Callable[[Any], object]] = {
    "timeout": zio.timeout,
    "move_on_after": zio.move_on_after,
    "shield": zio.shield,
    "sleep": zio.sleep,
    "after": zio.after,
    "Channel.recv": lambda s: zio.Channel[int]().recv(timeout=s),
    "Channel.send": lambda s: zio.Channel[int]().send(1, timeout=s),
    "Event.wait": lambda s: zio.Event().wait(timeout=s),
    "Notify.wait": lambda s: zio.Notify().wait(timeout=s),
    "Future.result": lambda s: zio.Future[int]().result(timeout=s),
    "Barrier.wait": lambda s: zio.Barrier(2).wait(timeout=s),
    "Semaphore.acquire": lambda s: zio.Semaphore(0).acquire(timeout=s),
    "Lock.acquire": lambda s: held(zio.Lock()).acquire(timeout=s),
    "RLock.acquire": lambda s: held(zio.RLock()).acquire(timeout=s),
    "RWLock.acquire": lambda s: reader_held().write().acquire(timeout=s),
    "Condition.wait": lambda s: in_condition(lambda condition: condition.wait(timeout=s)),
    "Condition.wait_for": lambda s: in_condition(lambda condition: condition.wait_for(lambda: False, timeout=s)),
    "Task.join": lambda s: zio.spawn(never).join(timeout=s),
    "TaskGroup.wait": group_wait,
    "Broadcast.recv": lambda s: zio.Broadcast[int](1).subscribe().recv(timeout=s),
    "select": lambda s: zio.select(zio.Event(), timeout=s),
    "net.connect": lambda s: zio.net.connect("127.0.0.1", 1, timeout=s),
    "net.connect attempt_delay": lambda s: zio.net.connect("127.0.0.1", 1, attempt_delay=s),
    "net.connect_unix": lambda s: zio.net.connect_unix("/nowhere", timeout=s),
    "serve grace": lambda s: with_listener(lambda listener: listener.serve(print, grace=s)),
    "process.run": lambda s: zio.process.run([sys.executable, "-c", ""], timeout=s),
    "Popen grace": lambda s: zio.process.Popen([sys.executable, "-c", ""], grace=s),
    "Popen.wait": process_wait,
    "Watchdog": zio.debug.Watchdog,
    "check_stream": lambda s: check_stream(memory_stream_pair, timeout=s),
}


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("name", CALLS)
def test_in_a_task(name: str, wrong: Any) -> None:
    def main() -> None:
        with pytest.raises(TypeError) as caught:
            CALLS[name](wrong)
        assert str(caught.value).endswith(f" must be a number of seconds, not {wrong!r}")
        zio.pause()
        zio.sleep(0.001)  # the heap of timers is in order still

    zio.run(main)


@pytest.mark.parametrize("name", ["sleep", "after", "net.connect attempt_delay", "serve grace", "Popen grace"])
def test_none_where_there_is_no_such_thing_as_no_limit(name: str) -> None:
    def main() -> None:
        with pytest.raises(TypeError, match="must be a number of seconds, not None"):
            CALLS[name](None)

    zio.run(main)


@pytest.mark.parametrize("name", ["sleep", "after", "timeout", "Event.wait", "select", "serve grace", "Popen grace"])
def test_not_a_number_is_none_either(name: str) -> None:
    def main() -> None:
        with pytest.raises(ValueError, match="must be a number of seconds, not NaN"):
            CALLS[name](math.nan)

    zio.run(main)


@pytest.mark.usefixtures("background_runtime")
@pytest.mark.parametrize("name", ["sleep", "after", "timeout", "Channel.recv", "Event.wait", "select"])
def test_in_a_plain_thread(name: str) -> None:
    with pytest.raises(TypeError, match="must be a number of seconds, not '5'"):
        CALLS[name]("5")


def test_a_deadline_that_is_no_time_is_refused_before_the_block_begins() -> None:
    wrong: Any = "soon"

    def main() -> None:
        with pytest.raises(TypeError, match=r"a deadline must be a time of zio\.now\(\), not 'soon'"):
            zio.CancelScope(deadline=wrong)
        with zio.CancelScope() as scope:
            with pytest.raises(TypeError, match=r"a deadline must be a time of zio\.now\(\), not 'soon'"):
                scope.deadline = wrong
            assert scope.deadline is None
        zio.sleep(1)

    run_virtual(main)
