"""Control-C: one KeyboardInterrupt, in the main task, whatever the program is doing; every ``finally`` runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import pytest

import zio
from tests.zio.helpers_streams import in_turn
from zio.testing import wait_all_parked


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    """Python's own handler before and after: the runtime replaces no other, and puts it back."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler


def spin(started: threading.Event) -> None:
    """Compute without a call, for fifty seconds unless interrupted."""
    started.set()
    end = time.monotonic() + 50
    while time.monotonic() < end:
        pass


class Helper:
    """A plain thread that presses Control-C, joined at the end."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=lambda: [step() for step in steps])

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc_info: object) -> None:
        self._thread.join()


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def until(condition: Callable[[], bool]) -> Callable[[], None]:
    def wait() -> None:
        while not condition():
            time.sleep(0.001)

    return wait


def asleep(runtime: zio.Runtime) -> Callable[[], None]:
    """Wait until the runtime's loop sleeps in its poller."""
    return until(lambda: runtime.loop.inbox.asleep)


def test_idle_main_gets_it_once_and_every_finally_runs() -> None:
    """T54: idle in the poller."""
    log: list[str] = []

    def child(name: str) -> None:
        try:
            zio.sleep(3600)
        finally:
            with zio.shield():
                zio.sleep(0)  # a cleanup that blocks is waited for
            log.append(name)

    def main() -> None:
        zio.spawn(child, "spawned")
        try:
            with zio.TaskGroup() as group:
                group.spawn(child, "in the group")
                try:
                    zio.sleep(3600)
                except KeyboardInterrupt:
                    log.append("interrupt")
                    raise
        finally:
            zio.sleep(0)  # one interrupt is raised once
            log.append("main")

    runtime = zio.Runtime()
    with Helper(asleep(runtime), press), pytest.raises(KeyboardInterrupt):
        runtime.run(main)
    assert log == ["interrupt", "in the group", "main", "spawned"]


@pytest.mark.parametrize("wait", ["channel", "select", "group", "join", "lock", "accept"])
def test_it_ends_whatever_main_waits_in(wait: str) -> None:
    """T54: the wait leaves nothing behind."""

    def main() -> None:
        channel: zio.Channel[int] = zio.Channel(0)
        lock = zio.Lock()
        if wait == "channel":
            channel.recv()
        elif wait == "select":
            zio.select(channel, zio.after(3600))
        elif wait == "group":
            with zio.TaskGroup() as group:
                group.spawn(zio.sleep, 3600)
        elif wait == "join":
            zio.spawn(zio.sleep, 3600).join()
        elif wait == "lock":
            holder = zio.spawn(in_turn(lock.acquire, partial(zio.sleep, 3600)))
            wait_all_parked()
            assert not holder.done
            lock.acquire()
        else:
            with zio.net.listen("127.0.0.1", 0) as listener:
                listener.accept()

    runtime = zio.Runtime()
    with Helper(asleep(runtime), press), pytest.raises(KeyboardInterrupt):
        runtime.run(main)


def test_mains_own_loop_is_stopped_on_the_spot() -> None:
    """T54: running Python code that never calls the runtime."""
    spinning = threading.Event()
    stopped_in_time = False

    def main() -> None:
        nonlocal stopped_in_time
        try:
            spin(spinning)
        except KeyboardInterrupt:
            stopped_in_time = True
            raise

    with Helper(spinning.wait, press), pytest.raises(KeyboardInterrupt):
        zio.run(main)
    assert stopped_in_time


def test_a_loop_of_main_over_calls_that_never_wait_is_stopped() -> None:
    """T54: most of the time it is the runtime's own code that runs."""
    spinning = threading.Event()

    def main() -> None:
        channel: zio.Channel[int] = zio.Channel(1)
        spinning.set()
        while True:
            channel.send(1)
            channel.recv()

    with Helper(spinning.wait, press), pytest.raises(KeyboardInterrupt):
        zio.run(main)


def test_it_reaches_main_while_another_task_runs() -> None:
    """T54: the task that happens to run is not disturbed."""
    log: list[str] = []

    def other() -> None:
        try:
            press()
            for _ in range(1000):
                zio.pause()
            log.append("undisturbed")
        except KeyboardInterrupt:
            log.append("interrupted")

    def main() -> None:
        task = zio.spawn(other)
        try:
            zio.sleep(3600)
        except KeyboardInterrupt:
            task.join()
            raise

    with pytest.raises(KeyboardInterrupt):
        zio.run(main)
    assert log == ["undisturbed"]


def test_it_reaches_a_main_that_was_just_woken_and_waits_again() -> None:
    """T54: when the loop looks, main is ready and not in a wait that could be ended."""

    def main() -> None:
        event = zio.Event()

        def wake_and_press() -> None:
            event.set()
            press()
            end = time.perf_counter() + 0.001  # longer than a slice: the loop polls before main runs
            while time.perf_counter() < end:
                pass
            zio.pause()

        zio.spawn(wake_and_press)
        event.wait()
        zio.sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        zio.run(main)


def test_it_reaches_a_main_that_has_not_started() -> None:
    """T54"""
    runtime = zio.Runtime()
    runtime.loop.post(press)
    started = False

    def main() -> None:
        nonlocal started
        started = True
        zio.sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        runtime.run(main)
    assert started


def test_main_in_a_thread_job_gets_it_when_the_job_has_ended() -> None:
    """T54: in to_thread."""
    working, may_end, finished = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        working.set()
        may_end.wait()
        finished.set()

    runtime = zio.Runtime()

    def main() -> None:
        try:
            zio.to_thread(job)
        finally:
            assert finished.is_set()

    handled = until(lambda: _waits_shielded(runtime))
    with Helper(working.wait, asleep(runtime), press, handled, may_end.set), pytest.raises(KeyboardInterrupt):
        runtime.run(main)


def _waits_shielded(runtime: zio.Runtime) -> bool:
    main = runtime.loop.main
    return main is not None and main.scope.shielded


def test_a_second_one_leaves_the_thread_job_alone() -> None:
    """T54: the job does not end, the program does."""
    working, may_end = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def job() -> None:
        threads.append(threading.current_thread())
        working.set()
        may_end.wait()

    runtime = zio.Runtime()
    handled = until(lambda: _waits_shielded(runtime))
    asleep_now = asleep(runtime)
    with Helper(working.wait, asleep_now, press, handled, asleep_now, press), pytest.raises(KeyboardInterrupt):
        runtime.run(zio.to_thread, job)
    may_end.set()
    threads[0].join()


def test_in_mains_own_cleanup_it_is_raised_there() -> None:
    """T54: in cleanup."""
    log: list[str] = []

    def main() -> None:
        try:
            log.append("work")
        finally:
            try:
                zio.sleep(3600)
            finally:
                log.append("cleanup went on")

    runtime = zio.Runtime()
    with Helper(asleep(runtime), press), pytest.raises(KeyboardInterrupt):
        runtime.run(main)
    assert log == ["work", "cleanup went on"]


def test_during_the_end_of_the_run_the_cleanup_of_all_tasks_still_completes() -> None:
    """T54: main has ended; other tasks are in their ``finally``. The run raises it when they are done."""
    log: list[str] = []
    runtime = zio.Runtime()
    cleaning = threading.Event()
    may_end = threading.Event()

    def child(name: str) -> None:
        try:
            zio.sleep(3600)
        finally:
            cleaning.set()
            with zio.shield():
                zio.to_thread(may_end.wait)
            log.append(name)

    def main() -> None:
        zio.spawn(child, "one")
        zio.spawn(child, "two")
        wait_all_parked()

    pressed = until(lambda: runtime.loop.interruption is not None)
    with Helper(cleaning.wait, asleep(runtime), press, pressed, may_end.set), pytest.raises(KeyboardInterrupt):
        runtime.run(main)
    assert sorted(log) == ["one", "two"]


def test_a_second_one_stops_a_task_that_keeps_main_from_running() -> None:
    """T54: a task that computes and never waits."""
    log: list[str] = []
    spinning = threading.Event()
    runtime = zio.Runtime()

    def hog() -> None:
        try:
            spin(spinning)
        except KeyboardInterrupt:
            log.append("hog")
            raise

    def main() -> None:
        zio.spawn(hog)
        try:
            zio.sleep(3600)
        finally:
            log.append("main")

    noted = until(lambda: runtime.loop.interruption is not None)
    with Helper(spinning.wait, press, noted, press), pytest.raises(KeyboardInterrupt):
        runtime.run(main)
    assert log == ["hog", "main"]


def test_two_in_quick_succession_still_run_every_finally() -> None:
    """T54: the second comes before the first was delivered."""
    log: list[str] = []

    def child() -> None:
        try:
            zio.sleep(3600)
        finally:
            with zio.shield():
                zio.sleep(0)
            log.append("child")

    def main() -> None:
        zio.spawn(child)
        try:
            zio.sleep(3600)
        except KeyboardInterrupt:
            log.append("main")
            raise

    runtime = zio.Runtime()

    def press_twice() -> None:
        # Raised by the hub itself, and ordered there, so that both handlers run before it delivers anything.
        runtime.loop.post(signal.raise_signal, signal.SIGINT)
        runtime.loop.post(signal.raise_signal, signal.SIGINT)

    with Helper(asleep(runtime), lambda: runtime.loop.post(press_twice)), pytest.raises(KeyboardInterrupt):
        runtime.run(main)
    assert log == ["main", "child"]


def test_an_error_raised_by_a_signal_handler_in_the_hub_still_ends_the_run_in_order() -> None:
    """T52, T54: such as ``sys.exit`` in a handler of SIGTERM while the loop is idle."""
    log: list[str] = []

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(3)

    def child() -> None:
        try:
            zio.sleep(3600)
        finally:
            with zio.shield():
                zio.sleep(0)
            log.append("child")

    def main() -> None:
        zio.spawn(child)
        try:
            zio.sleep(3600)
        finally:
            log.append("main")

    runtime = zio.Runtime()
    before = signal.signal(signal.SIGTERM, leave)
    try:
        with Helper(asleep(runtime), lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(SystemExit) as caught:
            runtime.run(main)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 3
    assert log == ["main", "child"]


def test_main_may_take_it_and_go_on() -> None:
    """T54"""

    def main() -> str:
        try:
            zio.sleep(3600)
        except KeyboardInterrupt:
            zio.sleep(0.001)
            return "went on"
        return "not interrupted"

    runtime = zio.Runtime()
    with Helper(asleep(runtime), press):
        assert runtime.run(main) == "went on"


def test_a_handler_of_the_program_is_left_in_place() -> None:
    """T54"""
    seen: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))

    def main() -> None:
        press()
        zio.sleep(0)

    try:
        zio.run(main)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == [signal.SIGINT]


def test_a_handler_set_during_the_run_is_kept() -> None:
    """T54"""

    def handler(number: int, frame: FrameType | None) -> None:
        pass

    zio.run(lambda: signal.signal(signal.SIGINT, handler))
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is handler


def test_a_runtime_in_another_thread_takes_no_signal() -> None:
    """T54"""
    thread = threading.Thread(target=zio.run, args=(zio.sleep, 0))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_another_thread_received_wakes_an_idle_main() -> None:
    """T54: the system may hand it to any thread; the handler runs in the main one, which sleeps in the poller."""
    may_end = threading.Event()
    runtime = zio.Runtime()

    def receive() -> None:
        asleep(runtime)()
        time.sleep(0.01)  # now the poller is surely inside its system call
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        may_end.wait()

    def main() -> None:
        try:
            zio.sleep(3600)
        finally:
            may_end.set()

    with Helper(receive), pytest.raises(KeyboardInterrupt):
        runtime.run(main)
    assert signal.set_wakeup_fd(-1) == -1
