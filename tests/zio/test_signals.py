"""zio.signals: signals as a source to wait on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from signal import SIGUSR1, SIGUSR2, raise_signal
from types import FrameType

import pytest

import zio
from zio.testing import wait_all_parked

seen: list[int] = []


def _previous(number: int, frame: FrameType | None) -> None:
    seen.append(number)


@pytest.fixture(autouse=True)
def handlers_of_the_program() -> Iterator[None]:
    """Handlers that must be back afterwards."""
    seen.clear()
    before = {number: signal.signal(number, _previous) for number in (SIGUSR1, SIGUSR2)}
    yield
    for number, handler in before.items():
        assert signal.signal(number, handler) is _previous


def test_a_waiting_task_gets_the_signal() -> None:
    """T55"""

    def main() -> signal.Signals:
        with zio.signals(SIGUSR1, SIGUSR2) as receiver:
            task = zio.spawn(receiver.wait)
            wait_all_parked()
            raise_signal(SIGUSR2)
            return task.join()

    assert zio.run(main) is SIGUSR2
    assert seen == []


def test_a_signal_that_came_before_anybody_waited_is_kept() -> None:
    """T55"""

    def main() -> signal.Signals:
        with zio.signals(SIGUSR1) as receiver:
            raise_signal(SIGUSR1)
            return receiver.wait()

    assert zio.run(main) is SIGUSR1


def test_every_receiver_gets_it() -> None:
    """T55"""

    def main() -> list[signal.Signals]:
        with zio.signals(SIGUSR1) as one, zio.signals(SIGUSR1, SIGUSR2) as other:
            tasks = [zio.spawn(one.wait), zio.spawn(other.wait)]
            wait_all_parked()
            raise_signal(SIGUSR1)
            return [task.join() for task in tasks]

    assert zio.run(main) == [SIGUSR1, SIGUSR1]


def test_of_several_waiting_tasks_one_gets_it() -> None:
    """T55: it is taken once."""

    def main() -> int:
        with zio.signals(SIGUSR1) as receiver:
            tasks = [zio.spawn(receiver.wait) for _ in range(3)]
            wait_all_parked()
            raise_signal(SIGUSR1)
            wait_all_parked()
            done = sum(task.done for task in tasks)
            for task in tasks:
                task.cancel()
            return done

    assert zio.run(main) == 1


def test_a_burst_counts_at_least_once() -> None:
    """T55"""

    def main() -> int:
        with zio.signals(SIGUSR1) as receiver:
            for _ in range(100):
                raise_signal(SIGUSR1)
            count = 0
            while True:
                try:
                    receiver.wait(timeout=0.001)
                except TimeoutError:
                    return count
                count += 1

    assert 1 <= zio.run(main) <= 100


def test_different_signals_are_told_apart_and_come_in_order() -> None:
    """T55"""

    def main() -> list[signal.Signals]:
        got = []
        with zio.signals(SIGUSR1, SIGUSR2) as receiver:
            raise_signal(SIGUSR2)
            raise_signal(SIGUSR1)
            for number in receiver:
                got.append(number)
                if len(got) == 2:
                    break
        return got

    assert zio.run(main) == [SIGUSR2, SIGUSR1]


def test_what_was_not_taken_goes_to_the_previous_handler() -> None:
    """T55"""

    def main() -> None:
        with zio.signals(SIGUSR1, SIGUSR2):
            raise_signal(SIGUSR1)
            assert seen == []

    zio.run(main)
    assert seen == [SIGUSR1]


def test_the_previous_handler_is_back_after_nested_receivers() -> None:
    """T55"""

    def main() -> None:
        with zio.signals(SIGUSR1) as outer:
            with zio.signals(SIGUSR1) as inner:
                raise_signal(SIGUSR1)
                assert inner.wait() is outer.wait() is SIGUSR1
            raise_signal(SIGUSR1)
            assert outer.wait() is SIGUSR1
        assert signal.getsignal(SIGUSR1) is _previous
        raise_signal(SIGUSR1)

    zio.run(main)
    assert seen == [SIGUSR1]


def test_the_previous_handler_is_back_after_an_error() -> None:
    """T55"""

    def main() -> None:
        with zio.signals(SIGUSR1):
            raise ValueError("the block's own")

    with pytest.raises(ValueError, match="the block's own"):
        zio.run(main)
    assert signal.getsignal(SIGUSR1) is _previous


def test_a_cancelled_wait_takes_no_signal() -> None:
    """T55, T13: also if cancel and signal come in the same tick."""

    def main() -> signal.Signals:
        with zio.signals(SIGUSR1) as receiver:
            task = zio.spawn(receiver.wait)
            wait_all_parked()
            raise_signal(SIGUSR1)
            task.cancel()
            zio.lowlevel.here().loop.inbox.run()  # what the hub does: it hands out before the task has run
            try:
                return task.join()
            except zio.Cancelled:
                return receiver.wait()

    assert zio.run(main) is SIGUSR1


def test_a_timeout_raises_and_later_signals_still_come() -> None:
    """T55"""

    def main() -> signal.Signals:
        with zio.signals(SIGUSR1) as receiver:
            with pytest.raises(TimeoutError):
                receiver.wait(timeout=0.001)
            raise_signal(SIGUSR1)
            return receiver.wait()

    assert zio.run(main) is SIGUSR1


def test_select_takes_a_signal_or_leaves_it() -> None:
    """T55, T34: the loser keeps what came."""

    def main() -> None:
        channel: zio.Channel[int] = zio.Channel(1)
        with zio.signals(SIGUSR1) as receiver:
            raise_signal(SIGUSR1)
            channel.send(5)
            assert zio.select(channel, receiver, priority=True)[1] == 5
            source, value = zio.select(channel, receiver)
            assert source is receiver
            assert value is SIGUSR1

    zio.run(main)


def test_a_receiver_of_sigint_keeps_control_c_from_main() -> None:
    """T55"""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def main() -> signal.Signals:
        with zio.signals(signal.SIGINT) as receiver:
            raise_signal(signal.SIGINT)
            got = receiver.wait()
        with pytest.raises(KeyboardInterrupt):
            raise_signal(signal.SIGINT)
        return got

    try:
        assert zio.run(main) is signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_it_is_refused() -> None:
    """T55"""
    errors: list[str] = []

    def use() -> None:
        with zio.signals(SIGUSR1):
            raise AssertionError

    def thread() -> None:
        try:
            zio.run(use)
        except RuntimeError as exc:
            errors.append(str(exc))

    worker = threading.Thread(target=thread)
    worker.start()
    worker.join()
    assert len(errors) == 1
    assert "main thread" in errors[0]
    assert signal.getsignal(SIGUSR1) is _previous


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_signal_that_cannot_be_received_is_refused_and_the_others_are_as_before(number: int) -> None:
    """T55: also those that had been taken over before it."""

    def main() -> None:
        with pytest.raises(ValueError, match="cannot be received"), zio.signals(SIGUSR1, number):
            raise AssertionError
        assert signal.getsignal(SIGUSR1) is _previous
        raise_signal(SIGUSR1)
        with pytest.raises(zio.Deadlock):  # and nobody waits for a signal
            zio.Event().wait()

    zio.run(main)
    assert seen == [SIGUSR1]


def test_a_receiver_that_is_in_use_is_refused() -> None:
    """T55"""

    def main() -> signal.Signals:
        receiver = zio.signals(SIGUSR1)
        with receiver:
            with pytest.raises(RuntimeError, match="in use"), receiver:
                raise AssertionError
            raise_signal(SIGUSR1)
            assert receiver.wait() is SIGUSR1
        with receiver:
            raise_signal(SIGUSR1)
            return receiver.wait()

    assert zio.run(main) is SIGUSR1


def test_a_handler_that_python_does_not_know_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """T55: it could not be put back."""
    monkeypatch.setattr(signal, "getsignal", lambda number: None)

    def main() -> None:
        with pytest.raises(RuntimeError, match="not Python's"), zio.signals(SIGUSR1):
            raise AssertionError

    zio.Runtime().run(main)
    monkeypatch.undo()
    assert signal.getsignal(SIGUSR1) is _previous


def test_at_least_one_signal_must_be_named() -> None:
    """T55"""
    with pytest.raises(ValueError, match="at least one"):
        zio.signals()
    with pytest.raises(ValueError, match="12345"):
        zio.signals(12345)


def test_the_same_signal_named_twice_counts_once() -> None:
    """T55"""

    def main() -> signal.Signals:
        with zio.signals(SIGUSR1, SIGUSR1) as receiver:
            raise_signal(SIGUSR1)
            got = receiver.wait()
            with pytest.raises(TimeoutError):
                receiver.wait(timeout=0.001)
            return got

    assert zio.run(main) is SIGUSR1


def test_who_waits_when_the_block_is_left_is_told() -> None:
    def main() -> None:
        with zio.signals(SIGUSR1) as receiver:
            waits = zio.spawn(receiver.wait)
            selects = zio.spawn(zio.select, zio.Event(), receiver)
            iterates: zio.Task[list[signal.Signals]] = zio.spawn(list, receiver)
            wait_all_parked()
        for task in (waits, selects):
            with pytest.raises(zio.Closed, match=r"SIGUSR1.* has been left"):
                task.join()
        assert iterates.join() == []

    zio.run(main)


def test_who_comes_when_the_block_has_been_left_is_told() -> None:
    def main() -> None:
        receiver = zio.signals(SIGUSR1)
        with pytest.raises(RuntimeError, match="with block"):
            zio.select(receiver)
        with receiver:
            pass
        for late in (receiver.wait, lambda: zio.select(receiver, zio.Event())):
            with pytest.raises(zio.Closed, match=r"SIGUSR1.* has been left"):
                late()
        assert list(receiver) == []

    zio.run(main)


def test_each_untaken_signal_is_given_back_even_if_a_handler_raises() -> None:
    def raises(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise LookupError(number)

    def main() -> None:
        with zio.signals(SIGUSR1, SIGUSR2):
            raise_signal(SIGUSR1)
            raise_signal(SIGUSR2)

    signal.signal(SIGUSR1, raises)
    try:
        with pytest.raises(LookupError):
            zio.run(main)
    finally:
        signal.signal(SIGUSR1, _previous)
    assert sorted(seen) == [SIGUSR1, SIGUSR2]
