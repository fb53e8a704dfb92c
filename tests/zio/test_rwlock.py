"""RWLock: readers together, writers alone, nobody starved."""

from __future__ import annotations

import math
import random

import pytest

import zio
from tests.zio.helpers_outside import OUTSIDE, Outside, Thread, in_other_loop
from zio.testing import run_virtual, wait_all_parked


def test_readers_read_together() -> None:
    def main() -> None:
        lock = zio.RWLock()

        def read() -> None:
            with lock.read():
                zio.sleep(1)

        with zio.TaskGroup() as group:
            for _ in range(5):
                group.spawn(read)
        assert zio.now() == 1
        assert not lock.locked()

    run_virtual(main)


def test_a_writer_is_alone() -> None:
    def main() -> None:
        lock, readers, writers = zio.RWLock(), [0], [0]

        def read() -> None:
            with lock.read():
                readers[0] += 1
                assert not writers[0]
                zio.sleep(1)
                readers[0] -= 1

        def write() -> None:
            with lock.write():
                writers[0] += 1
                assert (readers[0], writers[0]) == (0, 1)
                zio.sleep(1)
                writers[0] -= 1

        with zio.TaskGroup() as group:
            for _ in range(10):
                group.spawn(read)
                group.spawn(write)
                zio.sleep(0.5)
        assert not lock.locked()

    run_virtual(main)


def test_a_reader_that_comes_while_a_writer_waits_stands_behind_it() -> None:
    """So readers that follow each other without a gap do not starve a writer."""

    def main() -> None:
        lock, order = zio.RWLock(), list[str]()

        def read(name: str) -> None:
            with lock.read():
                order.append(name)
                zio.sleep(2)

        def write() -> None:
            with lock.write():
                order.append("writer")

        with zio.TaskGroup() as group:
            group.spawn(read, "first")
            zio.sleep(1)
            group.spawn(write)
            zio.sleep(0.5)
            group.spawn(read, "second")
        assert order == ["first", "writer", "second"]

    run_virtual(main)


def test_writers_that_follow_each_other_do_not_starve_a_reader() -> None:
    def main() -> None:
        lock, order = zio.RWLock(), list[str]()

        def write(name: str) -> None:
            with lock.write():
                order.append(name)
                zio.sleep(5)

        def read() -> None:
            with lock.read():
                order.append("reader")

        with zio.TaskGroup() as group:
            for act, *args in ((write, "one"), (write, "two"), (read,), (write, "three")):
                group.spawn(act, *args)
                zio.sleep(1)
        assert order == ["one", "two", "reader", "three"]

    run_virtual(main)


def test_all_readers_before_the_next_writer_come_in_when_a_writer_leaves() -> None:
    def main() -> None:
        lock, inside = zio.RWLock(), list[int]()

        def read(number: int) -> None:
            with lock.read():
                inside.append(number)
                zio.sleep(math.inf)

        with zio.TaskGroup() as group:
            lock.write().acquire()
            for number in range(3):
                group.spawn(read, number)
            wait_all_parked()
            writer = group.spawn(lock.write().acquire)
            wait_all_parked()
            group.spawn(read, 3)
            wait_all_parked()
            lock.write().release()
            wait_all_parked()
            assert sorted(inside) == [0, 1, 2]
            assert not writer.done
            group.cancel()

    zio.run(main)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_writer_that_gives_up_lets_the_readers_behind_it_in(how: str) -> None:
    def main() -> None:
        lock = zio.RWLock()
        with lock.read():
            writer = zio.spawn(lock.write().acquire, True, None if how == "cancel" else 1)
            wait_all_parked()
            reader = zio.spawn(lock.read().acquire)
            wait_all_parked()
            assert not reader.done
            if how == "cancel":
                writer.cancel()
            assert reader.join() is True
            if how == "timeout":
                assert writer.join() is False
                assert zio.now() == 1

    run_virtual(main)


def test_a_writer_that_gave_up_leaves_the_lock_to_the_readers_until_the_last_has_gone() -> None:
    """What the cancelled writer had waited for is no permission for the next one."""

    def main() -> None:
        lock = zio.RWLock()
        lock.read().acquire()
        first = zio.spawn(lock.write().acquire)
        wait_all_parked()
        first.cancel()
        second = zio.spawn(lock.write().acquire)
        wait_all_parked()
        assert not second.done
        lock.read().release()
        assert second.join() is True

    zio.run(main)


def test_a_reader_may_read_again_though_a_writer_waits() -> None:
    def main() -> None:
        lock = zio.RWLock()
        with lock.read():
            writer = zio.spawn(lock.write().acquire)
            wait_all_parked()
            with lock.read():
                pass
            wait_all_parked()
            assert not writer.done
        assert writer.join() is True

    zio.run(main)


def test_who_has_it_cannot_write_as_well() -> None:
    def main() -> None:
        lock = zio.RWLock()
        with lock.read(), pytest.raises(RuntimeError, match="must release it before"):
            lock.write().acquire()
        with lock.write():
            for side in (lock.read(), lock.write()):
                with pytest.raises(RuntimeError, match="for writing already"):
                    side.acquire()
        assert not lock.locked()

    zio.run(main)


def test_only_who_holds_a_side_releases_it() -> None:
    def main() -> None:
        lock = zio.RWLock()
        lock.read().acquire()
        with pytest.raises(RuntimeError, match=r"not hold .* for writing"):
            lock.write().release()
        with pytest.raises(RuntimeError, match=r"not hold .* for reading"):
            zio.spawn(lock.read().release).join()
        lock.read().release()
        with pytest.raises(RuntimeError, match=r"not hold .* for reading"):
            lock.read().release()

    zio.run(main)


def test_acquire_does_not_wait_if_told_so() -> None:
    def main() -> None:
        lock = zio.RWLock()
        with lock.read():
            assert zio.spawn(lock.write().acquire, False).join() is False
            assert zio.spawn(lock.read().acquire, False).join() is True

    zio.run(main)


def test_a_writer_that_ended_breaks_it_for_all() -> None:
    def main() -> None:
        lock = zio.RWLock()

        def careless() -> None:
            lock.write().acquire()
            zio.sleep(1)

        zio.spawn(careless)
        zio.sleep(0.5)
        for side in (lock.read(), lock.write()):
            with pytest.raises(zio.BrokenLock, match=r"ended while it held .* for writing"):
                side.acquire()
        assert zio.now() == 1

    run_virtual(main)


def test_a_reader_that_ended_breaks_it_for_writers_and_lets_the_readers_in() -> None:
    def main() -> None:
        lock = zio.RWLock()

        def careless() -> None:
            lock.read().acquire()
            zio.sleep(1)

        zio.spawn(careless)
        zio.sleep(0.5)
        writer = zio.spawn(lock.write().acquire)
        wait_all_parked()
        with lock.read():  # it stood behind the writer
            assert zio.now() == 1
        with pytest.raises(zio.BrokenLock, match=r"ended while it held .* for reading"):
            writer.join()
        with pytest.raises(zio.BrokenLock, match="ended while it held"):
            lock.write().acquire()

    run_virtual(main)


def test_an_owner_that_came_in_while_others_waited_is_watched_too() -> None:
    def main() -> None:
        lock = zio.RWLock()

        def careless() -> None:
            lock.write().acquire()

        lock.write().acquire()
        zio.spawn(careless)
        wait_all_parked()
        behind = zio.spawn(lock.write().acquire)
        wait_all_parked()
        lock.write().release()
        with pytest.raises(zio.BrokenLock, match="ended while it held"):
            behind.join()

    zio.run(main)


def test_owners_are_watched_only_while_they_hold_it_and_somebody_waits() -> None:
    def main() -> None:
        lock = zio.RWLock()

        def read(seconds: float) -> None:
            with lock.read():
                zio.sleep(seconds)
            zio.sleep(10)

        readers = [zio.spawn(read, seconds) for seconds in (2, 4)]
        zio.sleep(1)

        def watched() -> list[bool]:
            return [bool(reader._waiters) for reader in readers]

        assert watched() == [False, False]
        writer = zio.spawn(lock.write().acquire, True, 2)
        wait_all_parked()
        assert watched() == [True, True]
        zio.sleep(1.5)
        assert watched() == [False, True]
        assert writer.join() is False
        assert watched() == [False, False]

    run_virtual(main)


@pytest.mark.parametrize("seed", range(10))
def test_readers_and_writers_at_random_with_cancels_and_timeouts(seed: int) -> None:
    def main() -> None:
        rand, lock = random.Random(seed), zio.RWLock()
        inside: list[bool] = []

        def use(exclusive: bool) -> None:
            side = lock.write() if exclusive else lock.read()
            for _ in range(20):
                if not side.acquire(timeout=rand.choice([None, rand.random()])):
                    continue
                inside.append(exclusive)
                assert not any(inside) or len(inside) == 1
                try:
                    zio.sleep(rand.random() / 10)
                finally:
                    inside.remove(exclusive)
                    side.release()

        with zio.TaskGroup() as group:
            tasks = [group.spawn(use, rand.random() < 0.3) for _ in range(20)]
            for task in rand.sample(tasks, 10):
                zio.sleep(rand.random() / 10)
                task.cancel()
        assert not lock.locked()
        assert not lock._waiters
        assert not lock._watches

    run_virtual(main)


@OUTSIDE
def test_it_belongs_to_the_caller_outside(outside: Outside) -> None:
    def main() -> None:
        lock, held, go_on = zio.RWLock(), zio.Event(), zio.Event()

        def write() -> None:
            with lock.write():
                held.set()
                go_on.wait()
            with lock.read(), lock.read():
                pass

        writer = outside(write)
        held.wait()
        reader = outside(lambda: lock.read().acquire(timeout=0.001))
        assert reader.outcome() is False
        with pytest.raises(RuntimeError, match="cannot release"):
            lock.write().release()
        go_on.set()
        writer.outcome()
        assert not lock.locked()

    zio.run(main)


@pytest.mark.parametrize("exclusive", [True, False], ids=["writer", "reader"])
def test_it_breaks_when_an_owner_in_another_loop_ends(exclusive: bool) -> None:
    def main() -> None:
        lock, taken, gate = zio.RWLock(), zio.Event(), zio.Event()

        def take_and_end() -> None:
            def careless() -> None:
                (lock.write() if exclusive else lock.read()).acquire()
                taken.set()
                gate.wait()

            zio.spawn(careless).join()

        thread = in_other_loop(take_and_end)
        taken.wait()
        waiting = zio.spawn(lock.write().acquire)
        wait_all_parked()
        gate.set()
        with pytest.raises(zio.BrokenLock):
            waiting.join()  # no timeout, whose timer would wake the loop as well
        thread.outcome()
        with pytest.raises(zio.BrokenLock):
            Thread(lock.write().acquire).outcome()

    zio.run(main)
