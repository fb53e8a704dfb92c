"""The background runtime of plain threads: there when needed, never inside ``zio.run``, gone with the process."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator

import pytest

import zio
from tests.zio.helpers_scripts import run_script
from zio._core import background_runtime as background_module


def test_inside_run_there_is_no_background_runtime_and_no_second_thread() -> None:
    """Done 7: all that needs neither a pool nor a name look-up."""
    before_runtime = background_module.background_if_started()
    seen: set[threading.Thread] = set()

    def echo(listener: zio.net.Listener) -> None:
        with listener.accept() as stream:
            stream.send_all(stream.recv(100))

    def main() -> None:
        channel: zio.Channel[int] = zio.Channel(1)
        with zio.TaskGroup() as group:
            group.spawn(channel.send, 1)
            channel.recv()
        with zio.timeout(1):
            zio.sleep(0.001)
        zio.select(channel, zio.after(0.001))
        with zio.net.listen("127.0.0.1", 0) as listener:
            zio.spawn(echo, listener)
            with zio.net.connect("127.0.0.1", listener.port) as stream:  # a number needs no look-up
                stream.send_all(b"hello")
                assert stream.recv(100) == b"hello"
        event = zio.Event()
        zio.spawn(event.set)
        event.wait()
        seen.update(threading.enumerate())

    before = set(threading.enumerate())
    zio.run(main)
    assert seen <= before
    assert background_module.background_if_started() is before_runtime


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_numeric_address_needs_no_thread(host: str) -> None:
    """Done 7"""

    def main() -> int:
        zio.net.resolve(host, 80)
        return threading.active_count()

    before = threading.active_count()
    assert zio.run(main) == before


def test_a_name_is_looked_up_in_a_thread_of_the_pool() -> None:
    """Done 7: a resolver that takes its time must not stop the loop."""

    def main() -> list[str]:
        zio.net.resolve("localhost", 80)
        return [thread.name for thread in threading.enumerate()]

    assert "zio-worker" in zio.run(main)


def test_objects_made_outside_any_task_are_at_home_in_the_run_that_uses_them() -> None:
    """Done 7: no background runtime for a channel made at import time."""
    channel: zio.Channel[int] = zio.Channel(0)

    def main() -> int:
        zio.spawn(channel.send, 5)
        return channel.recv()

    before = background_module.background_if_started()
    assert zio.run(main) == 5
    assert background_module.background_if_started() is before


def test_there_is_one_for_all_threads(background_runtime: zio.Runtime) -> None:
    found: list[zio.Runtime] = []
    threads = [threading.Thread(target=lambda: found.append(zio.background())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [background_runtime] * 8


def test_after_close_the_next_use_starts_a_new_one() -> None:
    first = zio.background()
    first.close()
    second = zio.background()
    try:
        assert second is not first
        assert second.call(lambda: 5) == 5
    finally:
        second.close()


# KeyboardInterrupt and SystemExit of a task.


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("stop")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("system", [False, True], ids=["a task of zio.spawn", "a system task"])
def test_an_exit_in_a_task_is_reported_and_ends_nothing_else(
    background_runtime: zio.Runtime, caplog: pytest.LogCaptureFixture, error: BaseException, system: bool
) -> None:
    """The runtime belongs to the whole process: what else lives in it goes on, as beside a thread that exits."""
    channel: zio.Channel[str] = zio.Channel()
    other = zio.spawn(channel.recv)

    def leave() -> None:
        raise error

    def begin() -> None:
        task = background_runtime.loop.spawn_system(leave, name="leave") if system else zio.spawn(leave, name="leave")
        zio.lowlevel.wait_done(task)

    background_runtime.call(begin)
    channel.send("went on", timeout=30)
    assert other.join(30) == "went on"
    reported = [record for record in caplog.records if record.exc_info is not None and record.exc_info[1] is error]
    assert len(reported) == 1
    assert "leave" in reported[0].getMessage()


def test_who_joins_a_task_that_exits_gets_its_exit(background_runtime: zio.Runtime) -> None:
    def leave() -> None:
        raise SystemExit(4)

    with pytest.raises(SystemExit, match="4"):
        zio.spawn(leave).join(30)
    assert background_runtime.call(lambda: 5) == 5


# The end of a script, in an interpreter of its own.


@pytest.mark.parametrize(
    ("how", "code", "printed"),
    [
        ("normally", 0, []),
        ("error", 1, []),
        ("exit", 7, []),
        ("thread job", 0, ["job ran"]),
        ("thread waits", 0, []),
    ],
)
def test_a_script_that_ends_cancels_its_tasks_and_runs_its_closers(how: str, code: int, printed: list[str]) -> None:
    """T57, Done 3: in whatever way it ends, and within the limits."""
    done = run_script("exit_with_background.py", how)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines() == [*printed, "finally ran", "closer ran"]
    assert ("the script's own" in done.stderr) == (how == "error")


def test_a_task_that_refuses_to_end_delays_the_exit_only_so_long() -> None:
    """T57: then the process ends with a warning."""
    done = run_script("exit_with_background.py", "stubborn")
    assert done.returncode == 0, done.stderr
    assert "did not end within" in done.stderr


# Where it cannot work.


def test_a_runtime_tells_which_one_it_is_and_where() -> None:
    runtime = zio.Runtime()
    number = re.fullmatch(r"<Runtime (\d+), not begun>", repr(runtime))
    assert number
    assert runtime.run(lambda: repr(runtime)) == f"<Runtime {number[1]}, in thread 'MainThread'>"
    assert repr(runtime) == f"<Runtime {number[1]}, ended>"
    assert repr(runtime.loop) == f"<loop of Runtime {number[1]}, ended>"


@pytest.mark.parametrize(
    ("kind", "patched"),
    [
        ("gevent", ("threading", "select")),
        ("gevent", ("subprocess",)),
        ("eventlet", ("thread", "select")),
        ("eventlet", ("subprocess",)),
    ],
)
def test_in_a_patched_process_every_way_in_raises_one_clear_error(kind: str, patched: tuple[str, ...]) -> None:
    done = run_script("patched.py", kind, *patched)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = set(done.stdout.splitlines())
    assert "cannot run in a process patched by" in line


@pytest.mark.parametrize(("name", "value"), [("ZIO_POLLER", "kqueue"), ("ZIO_SCHED_SEED", "random")])
def test_a_wrong_value_in_the_environment_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name}='{value}': must be"):
        zio.run(int)


def test_empty_values_in_the_environment_mean_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIO_POLLER", "")
    monkeypatch.setenv("ZIO_SCHED_SEED", "")
    assert zio.run(os.getpid) == os.getpid()


# It begins without a lock, since whoever wants it may have interrupted its beginning.


@pytest.fixture
def not_started(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """There is none, until the test asks for one."""
    monkeypatch.setattr(background_module, "_current", background_module._NotStarted())
    yield
    runtime = background_module.background_if_started()
    if runtime is not None:
        runtime.close()


def test_a_handler_that_asks_for_it_while_it_is_being_started_gets_the_one_that_counts(
    not_started: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_thread = background_module._start_thread
    found: list[zio.Runtime] = []

    def interrupted(target: Callable[[], object]) -> None:
        monkeypatch.setattr(background_module, "_start_thread", start_thread)
        found.append(zio.background())  # as a signal handler might, or a finalizer
        start_thread(target)

    monkeypatch.setattr(background_module, "_start_thread", interrupted)
    before = set(threading.enumerate())
    found.append(zio.background())
    assert found[0] is found[1]
    assert found[0].call(lambda: 5) == 5
    others = [thread for thread in threading.enumerate() if thread not in before and thread.name == "zio-background"]
    for thread in others:
        thread.join(0 if found[0].loop.thread_id == thread.ident else 10)
    assert [thread.ident for thread in others if thread.is_alive()] == [found[0].loop.thread_id]


def test_what_a_signal_handler_raises_while_it_is_being_started_leaves_no_thread(
    not_started: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_thread = background_module._start_thread
    started: list[threading.Thread] = []

    def interrupted(target: Callable[[], object]) -> None:
        before = set(threading.enumerate())
        start_thread(target)
        started.extend(set(threading.enumerate()) - before)
        raise KeyboardInterrupt

    monkeypatch.setattr(background_module, "_start_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        zio.background()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()
    assert background_module.background_if_started() is None
