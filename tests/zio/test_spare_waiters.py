"""A waiter is used again only if nothing else can have it: no queue, no timer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import zio
from zio import Channel, Semaphore
from zio._core import Fiber, current_fiber
from zio.testing import run_virtual, wait_all_parked

# How to wait and how to wake, for each of the calls that use a waiter again.
Pair = tuple[Callable[..., object], Callable[[], object]]


def channel() -> Pair:
    made = Channel[str]()
    return made.recv, lambda: made.try_send("item")


def semaphore() -> Pair:
    made = Semaphore(0)
    return (lambda timeout=None: made.acquire(timeout=timeout)), made.release


KINDS = pytest.mark.parametrize("kind", [channel, semaphore])


@KINDS
def test_it_is_used_again(kind: Callable[[], Pair]) -> None:
    def main() -> None:
        wait, wake = kind()
        seen = []

        def waiting() -> None:
            for _ in range(3):
                wait()
                seen.append(current_fiber().spare)

        task = zio.spawn(waiting)
        while not task.done:
            wait_all_parked()
            wake()
            wait_all_parked()
        assert seen[0] is not None
        assert seen[0] is seen[1] is seen[2]

    zio.run(main)


@KINDS
def test_the_timer_of_a_wait_that_is_over_does_not_end_the_next_one(kind: Callable[[], Pair]) -> None:
    def main() -> None:
        wait, wake = kind()

        def waiting() -> float:
            wait(timeout=10)
            wait()
            return zio.now()

        task = zio.spawn(waiting)
        wait_all_parked()
        wake()
        zio.sleep(20)
        assert not task.done
        wake()
        assert task.join() == 20

    run_virtual(main)


@KINDS
def test_a_queue_that_still_holds_the_waiter_of_a_cancelled_wait_does_not_end_the_next_one(
    kind: Callable[[], Pair],
) -> None:
    def main() -> None:
        (wait, wake), (wait_elsewhere, wake_elsewhere) = kind(), kind()

        def cut_short() -> None:
            with zio.move_on_after(1):
                wait()
            wait_elsewhere()

        # In the middle of the queue, where a waiter that is out stays for a while.
        first, middle, last = zio.spawn(wait), zio.spawn(cut_short), zio.spawn(wait)
        zio.sleep(2)
        for _ in range(2):
            wake()
        first.join()
        last.join()
        wait_all_parked()
        assert not middle.done
        wake_elsewhere()
        middle.join()

    run_virtual(main)


def test_nothing_that_was_waited_for_or_received_is_kept_alive() -> None:
    class Item:
        pass

    def main() -> None:
        made, permits = Channel[Item](), Semaphore(0)
        gone: list[weakref.ref[Any]] = [weakref.ref(made), weakref.ref(permits)]
        go_on = zio.Event()

        def waiting(channel: Channel[Item], semaphore: Semaphore) -> None:
            gone.append(weakref.ref(channel.recv()))
            semaphore.acquire()
            channel, semaphore = None, None  # type: ignore[assignment]
            go_on.wait()

        task = zio.spawn(waiting, made, permits)
        wait_all_parked()
        made.send(Item())
        wait_all_parked()
        permits.release()
        wait_all_parked()
        fiber = task.fiber
        assert type(fiber) is Fiber
        spare = fiber.spare
        assert spare is not None
        assert (spare.what, spare.value, spare.source) == (None, None, None)
        del made, permits
        go_on.set()
        task.join()
        gc.collect()
        assert [ref() for ref in gone] == [None, None, None]

    zio.run(main)


def _of_channel() -> tuple[object, str, Callable[[], object], Callable[[], object]]:
    made = Channel[str]()
    return made, "_receivers", made.recv, lambda: made.send("item")


def _of_semaphore() -> tuple[object, str, Callable[[], object], Callable[[], object]]:
    made = Semaphore(0)
    return made, "_waiters", made.acquire, made.release


@pytest.mark.parametrize("kind", [_of_channel, _of_semaphore])
def test_a_destructor_that_waits_in_the_midst_of_a_wait_has_a_waiter_of_its_own(
    kind: Callable[[], tuple[object, str, Callable[[], object], Callable[[], object]]],
) -> None:
    """It may run anywhere: here, where the wait that uses the spare waiter puts it on its queue."""

    def main() -> None:
        (source, queue, wait, wake), (_, _, wait_within, wake_within) = kind(), kind()
        over: list[str] = []

        class Queue:
            """In place of the queue of those who wait."""

            def __init__(self, real: Any) -> None:
                self.real = real
                self.armed = True

            @property
            def items(self) -> Any:
                if self.armed and zio.current_task().name == "it" and current_fiber().spare is not before:
                    self.armed = False
                    wait_within()
                    over.append("within")
                return self.real.items

            def __getattr__(self, name: str) -> Any:
                return getattr(self.real, name)

        before: object = None

        def waiting() -> None:
            nonlocal before
            wait()
            over.append("first")
            before = current_fiber().spare
            assert before is not None
            setattr(source, queue, Queue(getattr(source, queue)))
            wait()
            over.append("second")

        task = zio.spawn(waiting, name="it")
        wait_all_parked()
        wake()
        wait_all_parked()
        wake_within()
        wait_all_parked()
        wake()
        task.join()
        assert over == ["first", "within", "second"]

    zio.run(main)


def test_a_fiber_that_has_ended_is_no_garbage_for_the_collector() -> None:
    fibers: list[weakref.ref[Fiber]] = []

    def waiting(channel: Channel[str]) -> None:
        for _ in range(2):
            channel.recv()
        fibers.append(weakref.ref(current_fiber()))

    def main() -> None:
        channel = Channel[str]()
        with zio.TaskGroup() as group:
            for _ in range(3):
                group.spawn(waiting, channel)
            for _ in range(6):
                channel.send("item")

    gc.collect()
    gc.disable()
    try:
        zio.run(main)
        assert len(fibers) == 3
        assert [ref() for ref in fibers] == [None, None, None]
    finally:
        gc.enable()
