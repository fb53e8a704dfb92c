"""lowlevel.waits_on: what a task or a thread waits on at this moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import zio
from zio.lowlevel import current_holder, waits_on
from zio.testing import wait_all_parked


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        zio.sleep(0.001)


def test_a_task_that_waits_for_a_channel() -> None:
    def main() -> None:
        channel: zio.Channel[int] = zio.Channel()
        task = zio.spawn(channel.recv)
        assert waits_on(task) is None  # it has not begun
        wait_all_parked()
        assert waits_on(task) is channel
        channel.send(1)
        task.join()
        assert waits_on(task) is None
        assert waits_on(current_holder()) is None

    zio.run(main)


def test_a_task_that_was_woken_and_has_not_run_yet() -> None:
    def main() -> None:
        event = zio.Event()
        task = zio.spawn(event.wait)
        wait_all_parked()
        event.set()
        assert waits_on(task) is None
        task.join()

    zio.run(main)


def test_a_select_waits_on_its_sources() -> None:
    def main() -> None:
        first: zio.Channel[int] = zio.Channel()
        second: zio.Channel[int] = zio.Channel()
        task = zio.spawn(zio.select, first, second)
        wait_all_parked()
        assert waits_on(task) == [first, second]
        task.cancel()
        with pytest.raises(zio.Cancelled):
            task.join()

    zio.run(main)


def test_a_plain_thread_waits_on_what_its_call_waits_on_at_home() -> None:
    def main() -> None:
        channel: zio.Channel[int] = zio.Channel()
        holders: list[Any] = []

        def receive() -> None:
            holders.append(current_holder())
            channel.recv()

        thread = threading.Thread(target=receive)
        thread.start()
        eventually(lambda: holders and waits_on(holders[0]) is channel)
        channel.send(1)
        zio.to_thread(thread.join)
        assert waits_on(holders[0]) is None

    zio.run(main)


def test_a_task_of_another_loop_waits_on_what_its_call_waits_on_at_home(background_runtime: zio.Runtime) -> None:
    def main() -> None:
        channel: zio.Channel[int] = zio.Channel()
        tasks: list[Any] = []

        def receive() -> None:
            tasks.append(current_holder())
            channel.recv()

        def elsewhere() -> None:
            background_runtime.call(receive)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        eventually(lambda: tasks and waits_on(tasks[0]) is channel)
        channel.send(1)
        zio.to_thread(thread.join)

    zio.run(main)
