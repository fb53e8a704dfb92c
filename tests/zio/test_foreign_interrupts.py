"""Calls from outside that are interrupted, by Control-C or by what a signal handler raises, when they have completed.

A call that has completed counts: what it took goes to its caller, and the interruption comes later.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import zio
from zio._core import foreign

pytestmark = pytest.mark.usefixtures("background_runtime")


class SoftLimit(Exception):
    """What a handler of SIGALRM might raise."""


class InterruptedLock:
    """The lock of a call: whoever has waited for it and got it is interrupted in that moment."""

    def __init__(self, error: BaseException) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._error: BaseException | None = error
        self.release = self._lock.release

    def acquire(self, timeout: float = -1) -> bool:
        got = self._lock.acquire(timeout=timeout)
        error, self._error = self._error, None
        if error is not None:
            raise error
        return got


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Have the next call that waits in a plain thread interrupted just when it has completed."""
    make = foreign.ForeignCall.__init__
    errors: list[BaseException] = []

    def patched(self: foreign.ForeignCall, *args: Any) -> None:
        make(self, *args)
        if errors:
            self._lock = InterruptedLock(errors.pop())  # type: ignore[assignment]

    monkeypatch.setattr(foreign.ForeignCall, "__init__", patched)
    return errors.append


@pytest.fixture
def control_c() -> Iterator[None]:
    """Python's own handler, whatever the test runner has."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_result_is_returned_and_the_next_blocking_call_raises(
    interrupted: Callable[[BaseException], None],
) -> None:
    interrupted(SoftLimit("time is up"))
    assert zio.background().call(lambda: 5) == 5
    with pytest.raises(SoftLimit, match="time is up"):
        zio.sleep(0)
    zio.sleep(0)  # once


def test_an_item_that_was_taken_is_not_lost(interrupted: Callable[[BaseException], None]) -> None:
    channel: zio.Channel[int] = zio.Channel(1)
    channel.send(7)
    interrupted(SoftLimit())
    assert channel.recv() == 7
    with pytest.raises(SoftLimit):
        channel.recv()


def test_a_lock_that_was_taken_is_known_to_be(interrupted: Callable[[BaseException], None]) -> None:
    lock = zio.Lock()
    lock.acquire(timeout=1)
    interrupted(SoftLimit())
    lock.release()
    with pytest.raises(SoftLimit), lock:
        zio.sleep(0)
    assert not lock.locked()


def test_a_call_that_has_failed_raises_the_interruption(interrupted: Callable[[BaseException], None]) -> None:
    interrupted(SoftLimit())
    with pytest.raises(SoftLimit):
        zio.background().call(lambda: 1 // 0)
    zio.sleep(0)


@pytest.mark.usefixtures("control_c")
def test_control_c_is_raised_a_moment_later_whatever_runs_then(interrupted: Callable[[BaseException], None]) -> None:
    interrupted(KeyboardInterrupt())
    assert zio.background().call(lambda: 5) == 5
    with pytest.raises(KeyboardInterrupt):
        time.sleep(60)


@pytest.mark.usefixtures("control_c")
def test_control_c_comes_also_if_the_loop_has_ended_meanwhile(interrupted: Callable[[BaseException], None]) -> None:
    interrupted(KeyboardInterrupt())
    assert zio.background().call(lambda: 5) == 5
    zio.background().close()
    with pytest.raises(KeyboardInterrupt):
        time.sleep(60)


@pytest.mark.usefixtures("control_c")
def test_a_keyboard_interrupt_of_another_signals_handler_sends_no_control_c(
    interrupted: Callable[[BaseException], None],
) -> None:
    """Which may be ignored here, or end the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupted(KeyboardInterrupt())
    assert zio.background().call(lambda: 5) == 5
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    with pytest.raises(KeyboardInterrupt):
        zio.sleep(0)


def a_wait() -> None:
    """In the loop itself."""


def a_call() -> None:
    zio.background().call(int)


def an_edit() -> None:
    zio.background().statistics()


@pytest.mark.usefixtures("control_c")
@pytest.mark.parametrize("first", [a_wait, a_call, an_edit])
def test_a_task_of_another_loop_keeps_what_it_took_and_has_control_c_at_its_next_call(
    monkeypatch: pytest.MonkeyPatch, first: Callable[[], None]
) -> None:
    channel: zio.Channel[int] = zio.Channel(1)
    background = zio.background()
    background.call(lambda: channel.select_home)  # where it is used first it is at home
    interrupted = threading.Event()
    await_outcome = foreign.ForeignCall._await_outcome

    def noted(self: foreign.ForeignCall, *args: Any) -> None:
        interrupted.set()
        await_outcome(self, *args)

    monkeypatch.setattr(foreign.ForeignCall, "_await_outcome", noted)

    def send_and_press() -> None:
        """In the channel's loop, which does nothing else until Control-C has come through."""
        while not channel._receivers:
            zio.pause()
        channel.try_send(7)
        os.kill(os.getpid(), signal.SIGINT)
        interrupted.wait()

    def main() -> tuple[int, str]:
        sender = threading.Thread(target=background.call, args=(send_and_press,))
        sender.start()
        item = channel.recv()
        try:
            first()
            zio.sleep(30)
        except KeyboardInterrupt:
            return item, "Control-C"
        finally:
            sender.join()
        return item, "nothing"

    assert zio.run(main) == (7, "Control-C")
