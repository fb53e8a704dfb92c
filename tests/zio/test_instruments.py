"""Instruments are told what the scheduler does, and nothing is different without any."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import zio
from zio._core import Loop
from zio.lowlevel import runtime_here
from zio.testing import wait_all_parked


class Log(zio.debug.Instrument):
    def __init__(self, *only: str) -> None:
        self.events: list[tuple[str, str]] = []
        self.only = only

    def note(self, event: str, task: Any) -> None:
        if not self.only or task.name in self.only:
            self.events.append((event, task.name))

    def task_spawned(self, task: Any) -> None:
        self.note("spawned", task)

    def task_running(self, task: Any) -> None:
        self.note("running", task)

    def task_parked(self, task: Any, what: object) -> None:
        self.note(f"parked on {type(what).__name__}", task)

    def task_ended(self, task: Any) -> None:
        self.note(f"ended with {task.error!r}", task)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    before = zio.Task.__init__, zio.Task.finish
    yield
    assert (zio.Task.__init__, zio.Task.finish) == before


def runtime() -> zio.Runtime:
    found = runtime_here()
    assert found is not None
    return found


def test_the_whole_life_of_a_task() -> None:
    log = Log("it")

    def it(event: zio.Event) -> None:
        event.wait()
        zio.pause()

    def main() -> None:
        runtime().add_instrument(log)
        event = zio.Event()
        task = zio.spawn(it, event, name="it")
        wait_all_parked()
        event.set()
        while not task.done:  # somebody to let run
            zio.pause()

    zio.run(main)
    assert log.events == [
        ("spawned", "it"),
        ("running", "it"),
        ("parked on Event", "it"),
        ("running", "it"),
        ("parked on NoneType", "it"),
        ("running", "it"),
        ("ended with None", "it"),
    ]


def test_a_task_that_waits_for_data_is_parked_too() -> None:
    """As in any other wait, though reading has its own way to it."""
    log = Log("reader")

    def main() -> None:
        runtime().add_instrument(log)
        with zio.net.listen("127.0.0.1", 0) as listener:
            client = zio.net.connect("127.0.0.1", listener.port)
            with client, listener.accept() as server:
                reader = zio.spawn(server.recv, 10, name="reader")
                wait_all_parked()
                client.send_all(b"x")
                assert reader.join() == b"x"

    zio.run(main)
    assert ("parked on SocketStream", "reader") in log.events
    assert log.events[-2:] == [("running", "reader"), ("ended with None", "reader")]


def _receive(made: tuple[zio.Channel[int], zio.Semaphore]) -> None:
    made[0].recv()


def _acquire(made: tuple[zio.Channel[int], zio.Semaphore]) -> None:
    made[1].acquire()


def _pause(made: tuple[zio.Channel[int], zio.Semaphore]) -> None:
    zio.pause()


def _sleep(made: tuple[zio.Channel[int], zio.Semaphore]) -> None:
    zio.sleep(0.001)


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize(
    ("call", "what"), [(_receive, "Channel"), (_acquire, "Semaphore"), (_pause, "NoneType"), (_sleep, "_Sleep")]
)
def test_a_task_that_goes_straight_to_another_one_is_parked_too(call: Callable[..., None], what: str) -> None:
    """The calls that do so without a word to the loop, while another task is ready."""
    log = Log("it")

    def other(made: tuple[zio.Channel[int], zio.Semaphore]) -> None:
        for _ in range(3):
            zio.lowlevel.here().loop.budget = 64  # so that none of the waits goes by way of the hub
            zio.pause()
        made[0].send(1)
        made[1].release()

    def main() -> None:
        runtime().add_instrument(log)
        made = zio.Channel[int](1), zio.Semaphore(0)
        with zio.TaskGroup() as group:
            group.spawn(other, made)
            group.spawn(call, made, name="it")
            for _ in range(3):
                zio.pause()

    zio.run(main)
    assert log.events == [
        ("spawned", "it"),
        ("running", "it"),
        (f"parked on {what}", "it"),
        ("running", "it"),
        ("ended with None", "it"),
    ]


@pytest.mark.usefixtures("in_order")
def test_with_one_the_order_of_tasks_is_the_same() -> None:
    def order(instrument: Log | None) -> list[str]:
        seen: list[str] = []

        def player(name: str, mine: zio.Channel[int], theirs: zio.Channel[int]) -> None:
            for turn in range(200):
                seen.append(f"{name} {turn}")
                if turn % 7 == 0:
                    zio.pause()
                theirs.send(turn)
                if turn % 5 == 0:
                    zio.sleep(0.5)
                mine.recv()

        def main() -> None:
            if instrument is not None:
                runtime().add_instrument(instrument)
            one, two = zio.Channel[int](2), zio.Channel[int](2)
            with zio.TaskGroup() as group:
                group.spawn(player, "a", one, two)
                group.spawn(player, "b", two, one)
                group.spawn(zio.sleep, 3)

        zio.testing.run_virtual(main)
        return seen

    plain = order(None)
    assert len(plain) == 400
    assert order(Log()) == plain


def test_tasks_of_a_group_their_errors_and_those_that_never_run() -> None:
    log = Log()

    def boom() -> None:
        raise ValueError("boom")

    def main() -> None:
        runtime().add_instrument(log)
        never = zio.spawn(int, name="never")
        never.cancel()
        wait_all_parked()
        try:
            with zio.TaskGroup() as group:
                group.spawn(boom)
        except* ValueError:
            pass
        runtime().remove_instrument(log)
        zio.spawn(int, name="unseen").join()

    zio.run(main)
    assert [event for event, name in log.events if name == "never"] == ["spawned", "ended with Cancelled()"]
    assert [event for event, name in log.events if name == boom.__qualname__] == [
        "spawned",
        "running",
        "ended with ValueError('boom')",
    ]
    assert "unseen" not in {name for _, name in log.events}


def test_a_task_that_gives_up_its_time_slice() -> None:
    log = Log("main")

    def main() -> None:
        runtime().add_instrument(log)
        loop = runtime().loop
        loop.budget, loop._slice_end = 0, 0.0
        zio.maybe_pause()

    zio.run(main)
    assert log.events[:2] == [("parked on NoneType", "main"), ("running", "main")]


def test_while_there_is_none_nothing_of_it_is_there() -> None:
    plain = zio.Task.__init__, zio.Task.finish
    log = Log()

    def main() -> None:
        assert type(runtime().loop) is Loop
        runtime().add_instrument(log)
        assert type(runtime().loop) is not Loop
        with pytest.raises(ValueError, match="installed already"):
            runtime().add_instrument(log)
        runtime().remove_instrument(log)
        runtime().remove_instrument(log)
        assert type(runtime().loop) is Loop
        assert (zio.Task.__init__, zio.Task.finish) == plain

    zio.run(main)


def test_another_runtime_is_not_seen() -> None:
    log = Log()

    def main() -> None:
        runtime().add_instrument(log)
        log.events.clear()
        zio.to_thread(zio.run, lambda: zio.spawn(int, name="elsewhere").join())

    zio.run(main)
    assert "elsewhere" not in {name for _, name in log.events}


def test_before_the_run_from_a_thread_and_gone_at_the_end() -> None:
    early, late = Log(), Log()
    new = zio.Runtime()
    new.add_instrument(early)

    def main() -> None:
        zio.to_thread(new.add_instrument, late)
        assert threading.active_count() >= 1
        zio.spawn(int, name="seen").join()

    new.run(main)
    assert ("spawned", "main") in early.events
    assert ("spawned", "seen") in early.events
    assert ("spawned", "seen") in late.events
    assert new.loop.instruments == ()
    new.remove_instrument(early)


def test_one_that_fails_is_removed_and_its_error_logged(caplog: pytest.LogCaptureFixture) -> None:
    log = Log()

    class Bad(zio.debug.Instrument):
        def task_parked(self, task: Any, what: object) -> None:
            raise ValueError("bad instrument")

    def main() -> int:
        runtime().add_instrument(Bad())
        runtime().add_instrument(log)
        zio.sleep(0.001)
        assert len(runtime().loop.instruments) == 1
        return 5

    assert zio.run(main) == 5
    assert "bad instrument" in caplog.text
    assert "failed in task_parked and is removed" in caplog.text
    assert log.events


def test_one_that_interrupts_a_wait_leaves_no_waiter_behind() -> None:
    class Exits(zio.debug.Instrument):
        def task_parked(self, task: Any, what: object) -> None:
            runtime().remove_instrument(self)
            raise SystemExit(3)

    def main() -> bool:
        channel: zio.Channel[int] = zio.Channel(1)
        runtime().add_instrument(Exits())
        with pytest.raises(SystemExit):
            channel.recv()
        channel.send(5)
        return channel.recv() == 5

    assert zio.run(main)


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("calls", [0, 1, 63, 64, 65, 128])
def test_a_pause_lets_others_run_whatever_is_left_of_the_budget(calls: int) -> None:
    def main() -> None:
        runtime().add_instrument(Log())
        other = zio.spawn(int)
        for _ in range(calls):
            zio.maybe_pause()
        zio.pause()
        assert other.done

    zio.run(main)
