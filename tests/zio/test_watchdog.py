"""zio.debug.Watchdog: a task that holds the loop is reported, once, with where it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

import zio
from zio.debug import Stall, Watchdog
from zio.testing import wait_all_parked


def spins_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < deadline


def run_with(body: Callable[[list[Stall]], object], seconds: float = 0.05) -> list[Stall]:
    stalls: list[Stall] = []

    def main() -> None:
        with Watchdog(seconds, report=stalls.append):
            body(stalls)

    zio.run(main)
    return stalls


def test_a_task_that_spins_is_reported_with_its_name_and_stack() -> None:
    """T60"""

    def body(stalls: list[Stall]) -> None:
        zio.spawn(spins_until, lambda: stalls, name="the spinner").join()

    [stall] = run_with(body)
    assert "<Task the spinner running" in stall.task
    assert stall.seconds >= 0.05
    assert "in spins_until: " in stall.stack
    assert "_core/scheduler" not in stall.stack


def test_a_task_that_blocks_the_thread_is_reported_too() -> None:
    """T60"""

    def body(stalls: list[Stall]) -> None:
        while not stalls:
            time.sleep(0.2)  # the wrong sleep

    [stall] = run_with(body)
    assert "<Task main running" in stall.task
    assert stall.stack.endswith("in body: time.sleep(0.2)  # the wrong sleep")


def test_it_is_reported_once_and_the_next_one_again() -> None:
    """T60"""

    def body(stalls: list[Stall]) -> None:
        for count in (1, 2):
            spins_until(lambda: len(stalls) >= count)  # noqa: B023
            looks = time.monotonic() + 0.2
            spins_until(lambda: time.monotonic() > looks)  # noqa: B023
            zio.sleep(0.05)

    assert len(run_with(body)) == 2


@pytest.mark.slow
def test_idle_waiting_and_busy_loops_are_no_stall() -> None:
    """T60"""

    def body(stalls: list[Stall]) -> None:
        def busy() -> None:
            while True:
                zio.pause()

        zio.sleep(1.5)
        task = zio.spawn(busy)
        zio.sleep(1.5)
        task.cancel()
        zio.to_thread(time.sleep, 1.5)

    # So long that a busy machine does not keep the loop's thread from running for all of it.
    assert run_with(body, 1.0) == []


def test_a_callback_in_the_hub_is_reported_as_one() -> None:
    def body(stalls: list[Stall]) -> None:
        zio.lowlevel.here().loop.post(spins_until, lambda: stalls)
        zio.sleep(0.001)

    [stall] = run_with(body)
    assert stall.task == ""
    assert "in spins_until: " in stall.stack


def test_by_default_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def main() -> None:
        with Watchdog(0.02):
            spins_until(lambda: "has held the loop for" in caplog.text)

    zio.run(main)
    assert "<Task main running" in caplog.text
    assert "in spins_until" in caplog.text


def test_a_report_that_fails_is_logged_and_the_watch_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Stall] = []

    def report(stall: Stall) -> None:
        calls.append(stall)
        raise ValueError("the report's own")

    def main() -> None:
        with Watchdog(0.02, report=report):
            for count in (1, 2):
                spins_until(lambda: len(calls) >= count)  # noqa: B023
                zio.sleep(0.01)

    zio.run(main)
    assert "the report's own" in caplog.text


def test_it_hardly_costs_anything() -> None:
    """T60: little CPU time in its thread and in the loop; about a percent, and ten are no fault of a busy machine."""

    def main() -> float:
        with Watchdog(1.0):
            begin = time.process_time()
            zio.sleep(1.0)
            return time.process_time() - begin

    assert zio.run(main) < 0.1


def test_it_is_no_reason_to_wait_for_ever() -> None:
    """T59: its thread wakes nobody."""

    def main() -> None:
        with Watchdog(1.0):
            zio.Event().wait()

    with pytest.raises(zio.Deadlock):
        zio.run(main)


def test_its_thread_ends_with_the_block_and_with_the_run() -> None:
    def main() -> None:
        with Watchdog(60.0):
            assert "zio-watchdog" in {thread.name for thread in threading.enumerate()}
        assert "zio-watchdog" not in {thread.name for thread in threading.enumerate()}
        left.start()

    left = Watchdog(0.04)
    zio.run(main)
    assert left._thread is not None
    left._thread.join(30)
    assert not left._thread.is_alive()
    left.close()
    left.close()


def test_a_task_that_computes_on_and_on_after_the_end_of_main_is_reported() -> None:
    """T57: it refuses to end, and the end of the run waits for it."""
    stalls: list[Stall] = []
    dog = Watchdog(0.05, report=stalls.append)

    def stubborn() -> None:
        try:
            zio.Event().wait()
        finally:
            spins_until(lambda: stalls)

    def main() -> None:
        dog.start()
        zio.spawn(stubborn, name="the stubborn one")
        wait_all_parked()

    zio.run(main)
    dog.close()
    assert "<Task the stubborn one" in stalls[0].task


def test_another_runtime_can_be_watched(background_runtime: zio.Runtime) -> None:
    stalls: list[Stall] = []
    with Watchdog(0.05, report=stalls.append, runtime=background_runtime):
        background_runtime.call(spins_until, lambda: stalls)
    assert "spins_until" in stalls[0].task


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds=0"):
        Watchdog(0)
    with pytest.raises(RuntimeError, match="runtime="):
        Watchdog(1).start()

    def main() -> None:
        with Watchdog(1) as dog, pytest.raises(RuntimeError, match="once only"):
            dog.start()

    zio.run(main)
