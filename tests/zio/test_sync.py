"""Lock, Condition, Semaphore, Event and Future within one loop (T24, T27 to T29, T40 for Event and Future)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import zio
from zio import BrokenLock, Condition, Event, Future, Lock, Semaphore
from zio.testing import run_virtual, wait_all_parked


def later(seconds: float, act: Callable[..., object], *args: Any) -> zio.Task[object]:
    def wait_and_act() -> object:
        zio.sleep(seconds)
        return act(*args)

    return zio.spawn(wait_and_act)


# Lock.


def test_a_lock_lets_in_one_at_a_time() -> None:
    """T27."""

    def main() -> None:
        lock = Lock()
        inside: list[int] = []

        def enter() -> None:
            with lock:
                assert inside == []
                inside.append(1)
                zio.sleep(1)
                inside.pop()

        with zio.TaskGroup() as group:
            for _ in range(5):
                group.spawn(enter)
        assert zio.now() == 5
        assert not lock.locked()

    run_virtual(main)


def test_a_lock_is_not_reentrant_and_says_who_holds_it() -> None:
    """T27."""

    def main() -> None:
        lock = Lock()

        def take_twice() -> None:
            with lock:
                with pytest.raises(RuntimeError, match=r"<Task taker .*not re-entrant"):
                    lock.acquire()
                with pytest.raises(RuntimeError, match="not re-entrant"):
                    lock.acquire(blocking=False)
                assert lock.locked()

        zio.spawn(take_twice, name="taker").join()
        assert not lock.locked()

    zio.run(main)


def test_only_the_owner_releases_a_lock() -> None:
    """T27."""

    def main() -> None:
        lock = Lock()
        with pytest.raises(RuntimeError, match="held by nobody"):
            lock.release()
        lock.acquire()

        def release() -> None:
            with pytest.raises(RuntimeError, match=r"held by <Task main .*<Task thief .*cannot release"):
                lock.release()

        zio.spawn(release, name="thief").join()
        assert lock.locked()
        lock.release()

    zio.run(main)


def test_a_lock_whose_owner_ended_is_broken_for_those_who_wait_and_come() -> None:
    """T27."""

    def main() -> None:
        lock, gate = Lock(), Event()

        def take_and_end() -> None:
            lock.acquire()
            gate.wait()

        zio.spawn(take_and_end, name="careless")
        wait_all_parked()
        waiting = [zio.spawn(lock.acquire) for _ in range(3)]
        wait_all_parked()
        gate.set()
        for task in waiting:
            with pytest.raises(BrokenLock, match="careless"):
                task.join()
        with pytest.raises(BrokenLock):
            lock.acquire()
        with pytest.raises(BrokenLock):
            lock.acquire(blocking=False)

    zio.run(main)


def test_a_lock_breaks_also_when_a_later_owner_ends() -> None:
    """T27: each owner is watched, not only the first."""

    def main() -> None:
        lock, gate = Lock(), Event()

        def pass_on() -> None:
            with lock:
                gate.wait()

        zio.spawn(pass_on)
        wait_all_parked()
        zio.spawn(lock.acquire)  # gets it, and ends at once
        wait_all_parked()
        waiting = zio.spawn(lock.acquire)
        wait_all_parked()
        gate.set()
        with pytest.raises(BrokenLock):
            waiting.join()

    zio.run(main)


def test_an_owner_that_released_may_end() -> None:
    """T27: no watch is left behind."""

    def main() -> None:
        lock, gate = Lock(), Event()

        def use() -> None:
            with lock:
                gate.wait()

        first = zio.spawn(use)
        wait_all_parked()
        second = zio.spawn(use)
        wait_all_parked()
        gate.set()
        first.join()
        second.join()
        assert lock.acquire(blocking=False)
        lock.release()

    zio.run(main)


def test_a_lock_is_first_come_first_served() -> None:
    """T27: also for one who comes when it is handed over."""

    def main() -> None:
        lock = Lock()
        order: list[int] = []

        def take(number: int) -> None:
            with lock:
                order.append(number)

        lock.acquire()
        for number in range(5):
            zio.spawn(take, number)
            wait_all_parked()
        lock.release()
        assert not lock.acquire(blocking=False)  # it belongs to the first already
        with lock:
            assert order == [0, 1, 2, 3, 4]

    zio.run(main)


def test_acquire_returns_false_when_its_time_is_up() -> None:
    """T27: as in threading; and the next in the line is served."""

    def main() -> None:
        lock = Lock()
        lock.acquire()
        impatient = zio.spawn(lock.acquire, True, 1)
        wait_all_parked()
        patient = zio.spawn(lock.acquire)
        assert impatient.join() is False
        assert zio.now() == 1
        lock.release()
        assert patient.join() is True

    run_virtual(main)


# A waiter that was chosen.


def test_a_cancelled_waiter_passes_the_lock_on() -> None:
    """T28: one that waits, and one that was chosen in the same tick."""

    def main() -> None:
        for cancel_first in (True, False):
            lock, scope, done = Lock(), zio.CancelScope(), list[bool]()

            def cancelled(lock: Lock = lock, scope: zio.CancelScope = scope) -> None:
                with scope, lock:
                    zio.pause()

            def next_one(lock: Lock = lock, done: list[bool] = done) -> None:
                with lock:
                    done.append(True)

            lock.acquire()
            zio.spawn(cancelled)
            wait_all_parked()
            waiting = zio.spawn(next_one)
            wait_all_parked()
            for move in (scope.cancel, lock.release) if cancel_first else (lock.release, scope.cancel):
                move()
            waiting.join(5)
            assert done == [True]
            assert not lock.locked()

    zio.run(main)


def test_a_cancelled_waiter_passes_the_permit_on() -> None:
    """T28."""

    def main() -> None:
        for cancel_first in (True, False):
            semaphore, scope = Semaphore(0), zio.CancelScope()

            def cancelled(semaphore: Semaphore = semaphore, scope: zio.CancelScope = scope) -> None:
                with scope, semaphore:
                    zio.pause()

            zio.spawn(cancelled)
            wait_all_parked()
            waiting = zio.spawn(semaphore.acquire)
            wait_all_parked()
            for move in (scope.cancel, semaphore.release) if cancel_first else (semaphore.release, scope.cancel):
                move()
            assert waiting.join(5) is True
            assert semaphore.value == 0

    zio.run(main)


def test_a_waiter_that_was_chosen_completes_though_it_is_cancelled() -> None:
    """T28: the call returns, the next one raises; so who acquired can release."""

    def main() -> None:
        lock, semaphore = Lock(), Semaphore(0)
        for acquire, give in ((lock.acquire, lock.release), (semaphore.acquire, semaphore.release)):
            scope, log = zio.CancelScope(), list[object]()

            def wait(
                acquire: Callable[[], bool] = acquire, scope: zio.CancelScope = scope, log: list[object] = log
            ) -> None:
                with scope:
                    log.append(acquire())
                    try:
                        zio.pause()
                    except zio.Cancelled:
                        log.append("cancelled")
                        raise

            if acquire == lock.acquire:
                lock.acquire()
            zio.spawn(wait)
            wait_all_parked()
            give()
            scope.cancel()
            wait_all_parked()
            assert log == [True, "cancelled"]

    zio.run(main)


@pytest.mark.parametrize("seed", range(10))
def test_cancels_and_timeouts_lose_no_permit(seed: int) -> None:
    """T28."""

    def main() -> None:
        semaphore, lock = Semaphore(3), Lock()
        random = zio.lowlevel.here().loop.runtime.random
        inside = [0]

        def use() -> None:
            for _ in range(20):
                with zio.move_on_after(random.choice([0, 1, 2, None])):
                    if semaphore.acquire(timeout=random.choice([1, 2, None])):
                        try:
                            inside[0] += 1
                            assert inside[0] <= 3
                            with lock:
                                zio.sleep(random.choice([0, 1]))
                        finally:
                            inside[0] -= 1
                            semaphore.release()

        with zio.TaskGroup() as group:
            for _ in range(8):
                group.spawn(use)
        assert semaphore.value == 3
        assert not lock.locked()

    run_virtual(main, seed=seed)


def test_a_semaphore_is_first_come_first_served() -> None:
    """T28."""

    def main() -> None:
        semaphore, order = Semaphore(0), list[int]()

        def take(number: int) -> None:
            semaphore.acquire()
            order.append(number)

        for number in range(4):
            zio.spawn(take, number)
            wait_all_parked()
        for _ in range(4):
            semaphore.release()
            wait_all_parked()
        assert order == [0, 1, 2, 3]

    zio.run(main)


def test_a_semaphore_gives_as_many_permits_as_it_has() -> None:
    """T28."""

    def main() -> None:
        semaphore = Semaphore(2, max_value=3)
        assert semaphore.acquire(blocking=False)
        assert semaphore.acquire(blocking=False)
        assert not semaphore.acquire(blocking=False)
        waiting = [zio.spawn(semaphore.acquire) for _ in range(2)]
        wait_all_parked()
        semaphore.release(3)
        assert [task.join() for task in waiting] == [True, True]
        assert semaphore.value == 1
        with pytest.raises(ValueError, match="max_value"):
            semaphore.release(3)
        assert semaphore.value == 1
        with pytest.raises(ValueError, match="n=0 must be 1 or more"):
            semaphore.release(0)

    zio.run(main)


@pytest.mark.parametrize(("value", "max_value"), [(-1, None), (2, 1), (1, -1)])
def test_a_semaphore_with_impossible_permits_is_refused(value: int, max_value: int | None) -> None:
    """T28."""
    with pytest.raises(ValueError, match=r"value=(-1 must be 0|2 or more)"):
        Semaphore(value, max_value)


# A wake and a timeout in one tick.


@pytest.mark.parametrize("wrong", [1.5, "a", 1.0])
def test_numbers_of_permits_of_another_type_are_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"value={wrong!r} must be a whole number"):
        zio.Semaphore(wrong)
    with pytest.raises(TypeError, match=f"max_value={wrong!r} must be a whole number"):
        zio.Semaphore(1, wrong)
    semaphore = zio.Semaphore(0, 5)
    with pytest.raises(TypeError, match=f"n={wrong!r} must be a whole number"):
        semaphore.release(wrong)
    assert semaphore.value == 0


def test_releasing_no_permit_is_refused() -> None:
    def main() -> None:
        semaphore = zio.Semaphore(0)
        for wrong in (0, -1):
            with pytest.raises(ValueError, match=f"n={wrong} must be 1 or more"):
                semaphore.release(wrong)
        with pytest.raises(TypeError, match=r"n=1\.5 must be a whole number"):
            semaphore.release(1.5)  # type: ignore[arg-type]
        assert semaphore.value == 0

    zio.run(main)


@pytest.mark.parametrize(
    "wrong",
    [5, 0, threading.Lock(), zio.Semaphore(), zio.RWLock().read()],
    ids=["a number", "zero", "another lock", "a semaphore", "a side"],
)
def test_a_condition_of_anything_but_our_locks_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a zio\.Lock or a zio\.RLock"):
        zio.Condition(wrong)


def test_a_condition_refuses_counts_that_are_none() -> None:
    def main() -> None:
        with zio.Condition() as condition:
            with pytest.raises(ValueError, match="n=-1 must be 0 or more"):
                condition.notify(-1)
            with pytest.raises(TypeError, match=r"n=1\.5 must be a whole number"):
                condition.notify(1.5)  # type: ignore[arg-type]
            condition.notify(0)

    zio.run(main)


def test_what_happens_when_the_time_is_up_counts() -> None:
    """T24: Event, Condition, Semaphore, Lock and Future."""

    def main() -> None:
        event, semaphore, lock, future, condition = Event(), Semaphore(0), Lock(), Future[str](), Condition()
        later(1, event.set)
        assert event.wait(timeout=1)
        later(1, semaphore.release)
        assert semaphore.acquire(timeout=1)
        assert semaphore.value == 0
        later(1, future.set_result, "value")
        assert future.result(timeout=1) == "value"

        def hold() -> None:
            with lock:
                zio.sleep(1)

        zio.spawn(hold)
        wait_all_parked()
        assert lock.acquire(timeout=1)

        def notify() -> None:
            with condition:
                condition.notify()

        later(1, notify)
        with condition:
            assert condition.wait(timeout=1)
        assert zio.now() == 5

    run_virtual(main)


def test_a_timeout_block_that_ends_in_time_does_not_raise() -> None:
    """T24: the deadline of the block and the wake fall together."""

    def main() -> None:
        event = Event()
        later(1, event.set)
        with zio.timeout(1) as scope:
            event.wait()
        assert not scope.expired

    run_virtual(main)


# Condition.


class Waiting:
    """A task in ``condition.wait``, that notes whether it held the lock afterwards."""

    def __init__(self, condition: Condition, timeout: float | None = None) -> None:
        self.scope = zio.CancelScope()
        self.ended = ""
        self.condition = condition
        self.timeout = timeout
        self.task = zio.spawn(self.run)
        wait_all_parked()

    def run(self) -> None:
        with self.scope, self.condition:
            try:
                self.ended = "notified" if self.condition.wait(self.timeout) else "timed out"
            except zio.Cancelled:
                self.ended = "cancelled"
                raise
            finally:
                # Only the owner may do this.
                self.condition.release()
                with zio.shield():
                    self.condition.acquire()


@pytest.mark.parametrize("end", ["notified", "cancelled", "timed out"])
def test_the_lock_is_held_again_however_wait_ends(end: str) -> None:
    """T29: and wait does not return while another holds it."""

    def main() -> None:
        condition = Condition()
        waiting = Waiting(condition, timeout=10)
        with condition:
            if end == "notified":
                condition.notify()
            elif end == "cancelled":
                waiting.scope.cancel()
            zio.sleep(20)
            assert not waiting.ended
        waiting.task.join()
        assert waiting.ended == end
        assert not condition.lock.locked()

    run_virtual(main)


def test_wait_and_notify_need_the_lock() -> None:
    """T29."""

    def main() -> None:
        condition = Condition()
        for call in (condition.wait, condition.notify, condition.notify_all):
            with pytest.raises(RuntimeError, match="lock"):
                call()
        holder = Waiting(condition)

        def hold() -> None:
            with condition:
                zio.sleep(1)

        other = zio.spawn(hold)
        zio.sleep(0.5)
        for call in (condition.wait, condition.notify, condition.notify_all):
            with pytest.raises(RuntimeError, match="lock"):  # that another task holds
                call()
        other.join()
        assert not holder.ended
        holder.task.cancel()

    run_virtual(main)


def test_notify_wakes_as_many_as_it_says_in_their_order() -> None:
    """T29."""

    def main() -> None:
        condition = Condition()
        waiting = [Waiting(condition) for _ in range(5)]
        with condition:
            condition.notify()
        wait_all_parked()
        assert [one.ended for one in waiting] == ["notified", "", "", "", ""]
        with condition:
            condition.notify(2)
        wait_all_parked()
        assert [one.ended for one in waiting] == ["notified", "notified", "notified", "", ""]
        with condition:
            condition.notify_all()
        wait_all_parked()
        assert [one.ended for one in waiting] == ["notified"] * 5

    zio.run(main)


@pytest.mark.parametrize("order", ["cancel first", "notify first"])
def test_a_notification_is_not_lost_to_a_cancel(order: str) -> None:
    """T29: cancelled before, the next one is woken; chosen and then cancelled, the wait returns."""

    def main() -> None:
        condition = Condition()
        first, second = Waiting(condition), Waiting(condition)
        with condition:
            if order == "cancel first":
                first.scope.cancel()
                condition.notify()
            else:
                condition.notify()
                first.scope.cancel()
        wait_all_parked()
        if order == "cancel first":
            assert (first.ended, second.ended) == ("cancelled", "notified")
        else:
            assert (first.ended, second.ended) == ("notified", "")
            second.scope.cancel()

    zio.run(main)


def test_wait_for_waits_until_the_predicate_holds() -> None:
    """T29."""

    def main() -> None:
        condition, items = Condition(), list[int]()

        def add() -> None:
            for item in range(3):
                zio.sleep(1)
                with condition:
                    items.append(item)
                    condition.notify_all()

        zio.spawn(add)
        with condition:
            assert condition.wait_for(lambda: len(items) == 3)
            assert zio.now() == 3
            assert not condition.wait_for(lambda: len(items) == 4, timeout=2)
            assert zio.now() == 5

    run_virtual(main)


def test_conditions_may_share_a_lock() -> None:
    """T29."""

    def main() -> None:
        lock = Lock()
        full, empty = Condition(lock), Condition(lock)
        waiting_full, waiting_empty = Waiting(full), Waiting(empty)
        with lock:
            empty.notify_all()
        wait_all_parked()
        assert (waiting_full.ended, waiting_empty.ended) == ("", "notified")
        waiting_full.scope.cancel()

    zio.run(main)


# Event and Future.


def test_an_event_wakes_all_who_wait_and_holds_until_cleared() -> None:
    """T40: setting it twice is once."""

    def main() -> None:
        event = Event()
        waiting = [zio.spawn(event.wait) for _ in range(3)]
        wait_all_parked()
        event.set()
        event.set()
        assert [task.join() for task in waiting] == [True] * 3
        assert event.is_set()
        assert event.wait()
        event.clear()
        assert not event.is_set()
        assert event.wait(timeout=0.001) is False

    zio.run(main)


def test_an_event_cleared_at_once_still_wakes_those_who_waited() -> None:
    """T40."""

    def main() -> None:
        event = Event()
        waiting = zio.spawn(event.wait)
        wait_all_parked()
        event.set()
        event.clear()
        assert waiting.join(5) is True

    zio.run(main)


def test_a_future_gives_its_outcome_to_all_and_takes_one_only() -> None:
    """T40."""

    def main() -> None:
        future, failed = Future[str](), Future[str]()
        waiting = [zio.spawn(future.result) for _ in range(3)]
        wait_all_parked()
        assert not future.done
        future.set_result("value")
        assert future.done
        assert [task.join() for task in waiting] == ["value"] * 3
        assert future.exception() is None
        for call, argument in ((future.set_result, "again"), (future.set_exception, ValueError())):
            with pytest.raises(RuntimeError, match="outcome already"):
                call(argument)
        error = ValueError("no")
        failed.set_exception(error)
        assert failed.exception() is error
        with pytest.raises(ValueError, match="no"):
            failed.result()
        with pytest.raises(TypeError):
            Future[str]().set_exception("no exception")

    zio.run(main)


def test_a_future_without_outcome_times_out() -> None:
    """T40."""

    def main() -> None:
        future = Future[str]()
        for call in (future.result, future.exception):
            with pytest.raises(TimeoutError):
                call(timeout=1)
        assert zio.now() == 2

    run_virtual(main)


def test_waits_that_ended_do_not_pile_up() -> None:
    """A queue that is never woken does not grow with the waits that timed out or were cancelled."""

    def main() -> None:
        event, lock, semaphore = Event(), Lock(), Semaphore(0)
        lock.acquire()

        def wait_in_vain() -> None:
            event.wait(timeout=1)
            lock.acquire(timeout=1)
            semaphore.acquire(timeout=1)

        for _ in range(10):
            with zio.TaskGroup() as group:
                for _ in range(100):
                    group.spawn(wait_in_vain)
        for queue in (event._waiters, lock._waiters, semaphore._waiters):
            assert len(queue.items) <= 200

    run_virtual(main)
