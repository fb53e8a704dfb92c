"""Locks whose owner is a plain thread that ends without releasing them (T27)."""

from __future__ import annotations

import _thread
import re
import threading
import time
from typing import Protocol

import pytest

import zio
from tests.zio.helpers_outside import parked_calls
from tests.zio.test_fork import Child
from zio._core import foreign
from zio._core.thread_holder import ThreadHolder, _EndOfThread
from zio.lowlevel import Loop, here
from zio.testing import wait_all_parked


class Side(Protocol):
    """What can be acquired."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...


def sides(kind: str) -> tuple[Side, Side]:
    """What the thread takes, and what others want then."""
    if kind == "Lock":
        lock = zio.Lock()
        return lock, lock
    if kind == "RLock":
        rlock = zio.RLock()
        return rlock, rlock
    if kind == "Condition":
        condition = zio.Condition()
        return condition, condition
    both = zio.RWLock()
    if kind == "writer, then reader":
        return both.write(), both.read()
    return both.read(), both.write()


KINDS = pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition", "writer, then reader", "reader, then writer"])


class Holding:
    """A thread that holds ``side`` until it is told to end; it does not release it."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._may_end = threading.Event()
        self._taken = threading.Event()
        self._thread = threading.Thread(target=self._hold)
        self._thread.start()

    def _hold(self) -> None:
        self._side.acquire()
        self._taken.set()
        assert self._may_end.wait(30)

    def taken(self) -> None:
        zio.to_thread(self._taken.wait, 20)

    def end(self) -> None:
        self._may_end.set()
        zio.to_thread(self._thread.join, 20)
        assert not self._thread.is_alive()


@KINDS
def test_who_waits_learns_that_the_owner_has_ended(kind: str) -> None:
    def main() -> None:
        taken, wanted = sides(kind)
        owner = Holding(taken)
        owner.taken()
        waiting = [zio.spawn(wanted.acquire) for _ in range(3)]
        wait_all_parked()
        assert not any(task.done for task in waiting)
        owner.end()
        for task in waiting:
            with zio.timeout(45), pytest.raises(zio.BrokenLock, match="ended while it held"):
                task.join()
        with pytest.raises(zio.BrokenLock):
            wanted.acquire()

    zio.run(main)


@KINDS
def test_who_comes_later_learns_it_too(kind: str) -> None:
    def main() -> None:
        taken, wanted = sides(kind)
        owner = Holding(taken)
        owner.taken()
        assert not wanted.acquire(blocking=False)
        owner.end()
        for call in (wanted.acquire, lambda: wanted.acquire(timeout=1), lambda: wanted.acquire(blocking=False)):
            with pytest.raises(zio.BrokenLock, match="ended while it held"):
                call()

    zio.run(main)


@KINDS
def test_a_thread_that_has_released_may_end(kind: str) -> None:
    def main() -> None:
        taken, wanted = sides(kind)

        def use() -> None:
            taken.acquire()
            wanted_by_others.acquire()  # until somebody waits
            taken.release()

        wanted_by_others = threading.Lock()
        wanted_by_others.acquire()
        thread = threading.Thread(target=use)
        thread.start()
        while wanted.acquire(blocking=False):
            wanted.release()
            zio.sleep(0.001)
        waiting = zio.spawn(take_and_release, wanted)
        wait_all_parked()
        wanted_by_others.release()
        zio.to_thread(thread.join)
        waiting.join()
        take_and_release(wanted)

    zio.run(main)


def take_and_release(side: Side) -> None:
    with zio.timeout(45):
        assert side.acquire()
    side.release()


@KINDS
def test_a_lock_that_a_thread_had_to_wait_for_breaks_too(kind: str) -> None:
    def main() -> None:
        taken, wanted = sides(kind)
        wanted.acquire()
        owner = Holding(taken)
        parked_calls()
        waiting = zio.spawn(wanted.acquire)
        wait_all_parked()
        wanted.release()
        owner.taken()
        wait_all_parked()
        assert not waiting.done
        owner.end()
        with zio.timeout(45), pytest.raises(zio.BrokenLock):
            waiting.join()

    zio.run(main)


@pytest.mark.usefixtures("background_runtime")
def test_plain_threads_among_themselves() -> None:
    lock = zio.Lock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    with pytest.raises(zio.BrokenLock, match=re.escape(thread.name)):
        lock.acquire(timeout=1)


def test_a_thread_that_threading_does_not_know() -> None:
    def main() -> None:
        lock, taken = zio.Lock(), threading.Event()
        may_end = threading.Lock()
        may_end.acquire()

        def hold() -> None:
            lock.acquire()
            taken.set()
            may_end.acquire()

        _thread.start_new_thread(hold, ())
        zio.to_thread(taken.wait, 20)
        waiting = zio.spawn(lock.acquire)
        wait_all_parked()
        may_end.release()
        with zio.timeout(45), pytest.raises(zio.BrokenLock):
            waiting.join()

    zio.run(main)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_in_which_the_owner_is_not_breaks_nothing_in_the_parent() -> None:
    """The child ends its copies of all other threads before anything of Python runs there."""

    def main() -> None:
        lock = zio.Lock()
        owner = Holding(lock)
        owner.taken()
        waiting = zio.spawn(lock.acquire)
        wait_all_parked()
        zio.to_thread(Child, lambda: None).check()
        wait_all_parked()
        assert not waiting.done
        waiting.cancel()
        owner.end()

    zio.run(main)


def test_a_thread_that_is_about_to_end_can_still_wake_those_who_wait_for_its_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no longer in the list of threads, and has not told yet: no Deadlock."""
    monkeypatch.setattr(foreign, "another_thread_could_wake_us", lambda: False)

    def main() -> None:
        lock = zio.Lock()
        thread = Holding(lock)
        thread.taken()
        waiting = zio.spawn(lock.acquire)
        ending = threading.Thread(target=end_when_idle, args=(thread, here().loop))
        ending.start()
        with pytest.raises(zio.BrokenLock):
            waiting.join()
        ending.join()

    def end_when_idle(thread: Holding, loop: Loop) -> None:
        while not loop.inbox.asleep:
            time.sleep(0.001)
        thread.end()

    zio.run(main)


def test_at_the_exit_of_the_interpreter_nobody_is_told() -> None:
    """Threads were stopped, perhaps while they held a lock that telling needs."""
    told = []

    class Watch:
        def thread_ended(self, thread: ThreadHolder) -> None:
            told.append(thread)

    holder = ThreadHolder()
    holder.watch(Watch())
    end = _EndOfThread(holder)
    end.__del__(exiting=lambda: True)  # type: ignore[call-arg]
    assert not told
    del end
    assert told == [holder]
