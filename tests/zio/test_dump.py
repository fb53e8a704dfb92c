"""zio.debug.dump: the tree of tasks, what each waits on, and where."""

from __future__ import annotations

import re
import threading

import pytest

import zio
from zio._core import background_runtime as background_module
from zio._core import dump as dump_module
from zio.testing import wait_all_parked


def outline(text: str) -> list[str]:
    """Tasks and groups with their place in the tree; addresses and stacks left out."""
    return [re.sub(r" at 0x\w+", "", line) for line in text.splitlines() if "─ " in line]


def test_in_a_thread_of_the_pool_it_shows_the_runtime_whose_job_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_module, "_current", background_module._NotStarted())

    def main() -> str:
        with zio.TaskGroup() as group:
            group.spawn(zio.sleep, 1000, name="the sleeper")
            text = zio.to_thread(zio.debug.dump)
            group.cancel()
        return text

    text = zio.run(main)
    assert "<Task the sleeper" in text
    assert "<job dump in a thread>" in text
    assert background_module.background_if_started() is None


def test_a_dump_starts_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_module, "_current", background_module._NotStarted())
    before = threading.active_count()
    assert zio.debug.dump().startswith("no runtime: ")
    assert background_module.background_if_started() is None
    assert threading.active_count() == before


def test_a_callback_in_the_hub_may_dump() -> None:
    texts: list[str] = []

    def main() -> None:
        zio.lowlevel.here().loop.post(lambda: texts.append(zio.debug.dump()))
        zio.sleep(0.001)

    zio.run(main)
    assert "<Task main" in texts[0]


def test_tasks_stand_below_their_groups_and_groups_below_their_tasks() -> None:
    def main() -> str:
        event = zio.Event()

        def parent() -> None:
            with zio.timeout(60), zio.TaskGroup() as inner:
                inner.spawn(event.wait, name="deep")

        zio.spawn(event.wait, name="beside")
        with zio.TaskGroup() as outer:
            outer.spawn(parent, name="parent")
            outer.spawn(event.wait, name="sibling")
            wait_all_parked()
            text = zio.debug.dump()
            event.set()
        return text

    assert outline(zio.run(main)) == [
        "├─ <Task main running>: running",
        "│  └─ group of 2 tasks",
        "│     ├─ <Task parent running>: waits on <TaskGroup of 1 tasks>",
        "│     │  └─ group of 1 task",
        "│     │     └─ <Task deep running>: waits on <Event clear>",
        "│     └─ <Task sibling running>: waits on <Event clear>",
        "└─ <Task beside running>: waits on <Event clear>",
    ]


def test_states_are_told_apart() -> None:
    def main() -> str:
        event = zio.Event()
        woken = zio.spawn(event.wait, name="woken")
        stubborn = zio.spawn(shielded, zio.Event(), name="stubborn")
        wait_all_parked()
        zio.spawn(int, name="new")
        event.set()
        stubborn.cancel()
        text = zio.debug.dump()
        woken.join()
        return text

    def shielded(event: zio.Event) -> None:
        with zio.move_on_after(0.05), zio.shield(0.05):
            event.wait()

    assert outline(zio.run(main)) == [
        "├─ <Task main running>: running",
        "├─ <Task woken running>: ready",
        "├─ <Task stubborn running>: waits on <Event clear>, cancelled",
        "└─ <Task new pending>: not started",
    ]


def test_a_lock_names_its_owner_and_a_thread_its_job() -> None:
    def main() -> str:
        lock, began, release = zio.Lock(), threading.Event(), threading.Event()

        def slow_job() -> None:
            began.set()
            release.wait()

        job = zio.spawn(zio.to_thread, slow_job, name="with a job")
        with lock:
            zio.spawn(lock.acquire, name="without the lock")
            while not began.is_set():
                zio.sleep(0.001)
            text = zio.debug.dump()
        release.set()
        job.join()
        return text

    text = zio.run(main)
    assert re.search(r"<Task without the lock .*waits on <Lock held by <Task main ", text)
    assert re.search(r"<Task with a job .*waits on <job .*slow_job in a thread>", text)
    assert re.search(r"^   zio-worker: <job .*slow_job in a thread>$", text, re.MULTILINE)


def test_a_stack_is_the_users_own_and_short() -> None:
    def deep(level: int, event: zio.Event) -> None:
        if level:
            deep(level - 1, event)
        else:
            event.wait()  # the innermost

    def main() -> str:
        event = zio.Event()
        task = zio.spawn(deep, 50, event, name="deep")
        wait_all_parked()
        text = zio.debug.dump()
        event.set()
        task.join()
        return text

    lines = zio.run(main).partition("<Task deep")[2].splitlines()[1:]
    assert lines[0].endswith("43 calls above")
    assert len(lines) == 9
    assert lines[-1].endswith("in deep: event.wait()  # the innermost")
    assert all(__file__ in line for line in lines[1:])


def test_the_running_task_shows_where_it_asked() -> None:
    def main() -> str:
        return zio.debug.dump()  # here

    assert f"{__file__}:" in (text := zio.run(main))
    assert text.rstrip().endswith("in main: return zio.debug.dump()  # here")


def test_of_very_many_tasks_some_are_shown_and_the_rest_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_module, "MOST_TASKS", 3)

    def main() -> str:
        event = zio.Event()
        for _ in range(10):
            zio.spawn(event.wait)
        wait_all_parked()
        text = zio.debug.dump()
        event.set()
        return text

    text = zio.run(main)
    assert len(outline(text)) == 3
    assert "and 8 more" in text


def test_tasks_that_are_nested_very_deep_can_be_dumped() -> None:
    """T4"""

    def nest(level: int, event: zio.Event) -> None:
        with zio.TaskGroup() as group:
            if level:
                group.spawn(nest, level - 1, event)
            else:
                group.spawn(event.wait, name="the deepest")

    def main() -> str:
        event = zio.Event()
        task = zio.spawn(nest, 400, event)
        wait_all_parked()
        text = zio.debug.dump()
        event.set()
        task.join()
        return text

    assert "<Task the deepest" in zio.run(main)


def test_from_a_plain_thread_it_is_of_the_background(background_runtime: zio.Runtime) -> None:
    event = zio.Event()
    task = zio.spawn(event.wait, name="in the background")
    background_runtime.call(wait_all_parked)
    assert "<Task in the background" in zio.debug.dump()
    event.set()
    task.join()


def test_two_tasks_waiting_on_each_other_are_both_in_the_deadlock_with_stacks_and_objects() -> None:
    """T59"""
    held: list[zio.Lock] = []

    def first(mine: zio.Lock, other: zio.Lock) -> None:
        with mine:
            held.append(mine)
            while len(held) < 2:
                zio.pause()
            with other:  # first wants the second's
                raise AssertionError

    def second(mine: zio.Lock, other: zio.Lock) -> None:
        with mine:
            held.append(mine)
            while len(held) < 2:
                zio.pause()
            with other:  # second wants the first's
                raise AssertionError

    def main() -> None:
        one, two = zio.Lock(), zio.Lock()
        tasks = [zio.spawn(first, one, two, name="the first"), zio.spawn(second, two, one, name="the second")]
        for task in tasks:
            task.join()

    with pytest.raises(zio.Deadlock) as caught:
        zio.run(main)
    text = str(caught.value)
    assert re.search(r"<Task the first running at \S+>: waits on <Lock held by <Task the second running", text)
    assert re.search(r"<Task the second running at \S+>: waits on <Lock held by <Task the first running", text)
    assert "in first: with other:  # first wants the second's" in text
    assert "in second: with other:  # second wants the first's" in text
    assert "in main: task.join()" in text
