"""The background runtime of plain threads: there when needed, never inside ``zio.run``, gone with the process."""

from __future__ import annotations

import os
import threading

import pytest

import zio
from tests.zio.helpers_scripts import run_script
from zio._core import runtime as runtime_module


def test_inside_run_there_is_no_background_runtime_and_no_second_thread() -> None:
    """Done 7: all that needs neither a pool nor a name look-up."""
    runtime_module_background = runtime_module._background
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
    assert runtime_module._background is runtime_module_background


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

    before = runtime_module._background
    assert zio.run(main) == 5
    assert runtime_module._background is before


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


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_in_a_patched_process_every_way_in_raises_one_clear_error(kind: str) -> None:
    done = run_script("patched.py", kind)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(set(done.stdout.splitlines())) == 1


@pytest.mark.parametrize(("name", "value"), [("ZIO_POLLER", "kqueue"), ("ZIO_SCHED_SEED", "random")])
def test_a_wrong_value_in_the_environment_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name}='{value}': must be"):
        zio.run(int)


def test_empty_values_in_the_environment_mean_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIO_POLLER", "")
    monkeypatch.setenv("ZIO_SCHED_SEED", "")
    assert zio.run(os.getpid) == os.getpid()
