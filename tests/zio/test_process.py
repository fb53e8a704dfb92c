"""zio.process: programs are waited for, fed, read and ended, and none is left behind (see leak_check)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import zio
from tests.zio.helpers_pool import pool_taken
from zio.process import DEVNULL, PIPE, STDOUT, Popen, run
from zio.testing import wait_all_parked

CHILD = [sys.executable, str(Path(__file__).parent / "scripts" / "child.py")]


@pytest.fixture(params=["pidfd", "thread"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the end of a process is noticed."""
    if request.param == "thread":
        monkeypatch.delattr(os, "pidfd_open")
    return str(request.param)


def child(*steps: str) -> list[str]:
    return [*CHILD, *steps]


# run


def test_run_returns_what_the_program_wrote_and_how_it_ended(way: str) -> None:
    """T56"""

    def main() -> Any:
        return run(child("out=to stdout", "err=to stderr", "exit=3"), capture_output=True)

    done = zio.run(main)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"to stdout", b"to stderr")
    assert done.args == child("out=to stdout", "err=to stderr", "exit=3")


def test_text_is_encoded_and_decoded() -> None:
    def main() -> Any:
        return run(["cat"], input="grüße\r\nzwei\n", capture_output=True, encoding="utf-8").stdout

    assert zio.run(main) == "grüße\nzwei\n"
    assert zio.run(lambda: run(["cat"], input="plain", stdout=PIPE, text=True)).stdout == "plain"


def test_check_raises_for_a_failure() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        zio.run(lambda: run(child("err=why", "exit=4"), capture_output=True, check=True))
    assert caught.value.returncode == 4
    assert caught.value.stderr == b"why"


def test_output_may_go_together_to_a_file_or_nowhere(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        done = zio.run(lambda: run(child("out=1", "err=2"), stdout=file, stderr=STDOUT, stdin=DEVNULL))
    assert (done.stdout, done.stderr) == (None, None)
    assert (tmp_path / "out").read_bytes() == b"12"
    assert zio.run(lambda: run(child("err=2"), stdout=PIPE, stderr=DEVNULL)).stdout == b""


@pytest.mark.parametrize(
    ("options", "script", "expected"),
    [
        ({"cwd": "/"}, "pwd", b"/\n"),
        ({"env": {"NAME": "value"}}, "echo $NAME", b"value\n"),
        ({"umask": 0o77}, "umask", b"0077\n"),
        ({"start_new_session": True}, "ps -o sid= -p $$ | tr -d ' '; echo $$", None),
        ({"process_group": 0}, "ps -o pgid= -p $$ | tr -d ' '; echo $$", None),
        ({"executable": "/bin/sh"}, "echo $0", b"not a program\n"),
    ],
)
def test_options_are_those_of_subprocess(options: dict[str, Any], script: str, expected: bytes | None) -> None:
    program = "not a program" if "executable" in options else "/bin/sh"
    output = zio.run(lambda: run([program, "-c", script], stdout=PIPE, **options)).stdout
    if expected is None:
        one, other = output.split()
        assert one == other
    else:
        assert output == expected


def test_a_shell_and_a_file_of_the_parent() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through a file\n")
    os.close(writing)
    try:
        command = f"head -n 1 < /dev/fd/{reading} | tr a-z A-Z"
        assert zio.run(lambda: run(command, shell=True, stdout=PIPE, pass_fds=[reading])).stdout == b"THROUGH A FILE\n"
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"capture_output": True, "stdout": PIPE}, "capture_output=True"),
        ({"input": b"x", "stdin": PIPE}, "stdin= must be left out"),
        ({"input": "x"}, "bytes without text=True"),
        ({"input": b"x", "text": True}, "str with text=True"),
        ({"grace": -1}, "grace=-1"),
        ({"bufsize": 1}, "no option bufsize"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(options: dict[str, Any], problem: str) -> None:
    with pytest.raises((ValueError, TypeError), match=problem):
        zio.run(lambda: run(["false"], **options))


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="No such"):
        zio.run(lambda: run(["no such program"], capture_output=True, input=b""))
    with pytest.raises(ValueError, match="empty"):
        zio.run(lambda: run([]))


def test_outside_a_runtime_it_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"inside zio\.run"):
        run(["true"])


# Waiting.


def test_other_tasks_run_while_a_program_does(way: str) -> None:
    """T56"""

    def main() -> tuple[int, bytes]:
        with Popen(child("line"), stdin=PIPE, stdout=PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            waiting = zio.spawn(process.wait)
            for _ in range(3):
                zio.sleep(0.001)
            assert process.poll() is None
            process.stdin.send_all(b"go on\n")
            answer = process.stdout.recv_until(b"\n", 100)
            return waiting.join(), answer

    assert zio.run(main) == (0, b"go on\n")


def test_many_programs_at_once(way: str) -> None:
    """T56"""

    def main() -> list[int]:
        with zio.TaskGroup() as group:
            tasks = [group.spawn(lambda n=n: run(["/bin/sh", "-c", f"exit {n}"]).returncode) for n in range(30)]
        return [task.join() for task in tasks]

    assert zio.run(main) == list(range(30))


def test_several_tasks_wait_for_one_program(way: str) -> None:
    def main() -> list[int]:
        with Popen(child("line", "exit=5"), stdin=PIPE, stdout=DEVNULL) as process:
            assert process.stdin is not None
            tasks = [zio.spawn(process.wait) for _ in range(3)]
            zio.sleep(0.01)
            process.stdin.close()
            return [task.join() for task in tasks] + [process.wait(), process.wait(0)]

    assert zio.run(main) == [5] * 5


def test_a_wait_that_times_out_or_is_cancelled_leaves_the_program_alone(way: str) -> None:
    def main() -> int:
        with Popen(child("line", "exit=6"), stdin=PIPE, stdout=DEVNULL) as process:
            assert process.stdin is not None
            with pytest.raises(TimeoutError, match=r"did not end within 0\.01 s"):
                process.wait(0.01)
            with zio.move_on_after(0.01) as scope:
                process.wait()
            assert scope.expired
            assert process.poll() is None
            process.stdin.close()
            return process.wait()

    assert zio.run(main) == 6


def test_a_program_that_a_signal_ended(way: str) -> None:
    def main() -> int:
        with Popen(["sleep", "60"]) as process:
            process.send_signal(signal.SIGUSR1)
            code = process.wait()
            process.kill()  # of one that has ended: nothing
            return code

    assert zio.run(main) == -signal.SIGUSR1


def test_waiting_for_a_program_is_no_deadlock(way: str) -> None:
    """T59"""
    assert zio.run(lambda: run(["sleep", "0.05"])).returncode == 0


# Pipes.


def test_much_input_and_much_output_on_two_pipes_do_not_stop_each_other() -> None:
    """T56"""
    size = 500_000

    def main() -> Any:
        return run(child(f"fill={size}", "echo"), input=b"y" * size, capture_output=True)

    done = zio.run(main)
    assert done.stdout == b"x" * size + b"y" * size
    assert done.stderr == b"x" * size


def test_a_program_that_does_not_read_its_input_is_no_error() -> None:
    assert zio.run(lambda: run(["true"], input=b"x" * 1_000_000)).returncode == 0


def test_communicate_goes_on_after_a_timeout() -> None:
    """Nothing that was read, and nothing that was not sent yet, is lost."""
    size = 300_000

    def main() -> tuple[bytes | None, bytes | None]:
        gate = os.pipe()
        command = f"echo begun; head -c 1 < /dev/fd/{gate[0]} > /dev/null; cat"
        with Popen(["/bin/sh", "-c", command], stdin=PIPE, stdout=PIPE, pass_fds=[gate[0]]) as process:
            os.close(gate[0])
            with pytest.raises(TimeoutError):
                process.communicate(b"z" * size, timeout=0.1)
            with pytest.raises(ValueError, match="called before"):
                process.communicate(b"again")
            os.write(gate[1], b"!")
            os.close(gate[1])
            return process.communicate()

    assert zio.run(main) == (b"begun\n" + b"z" * size, None)


def test_input_without_a_pipe_is_refused() -> None:
    def main() -> None:
        with Popen(["true"]) as process, pytest.raises(ValueError, match="stdin=PIPE"):
            process.communicate(b"x")

    zio.run(main)


def test_leaving_the_block_does_not_wait_for_output_that_nobody_reads() -> None:
    def main() -> int | None:
        with zio.timeout(45), Popen(child("fill=1000000"), stdout=PIPE, stderr=DEVNULL) as process:
            pass
        return process.returncode

    assert zio.run(main) != 0


def test_the_childs_descriptors_block_as_programs_expect() -> None:
    code = "import os; print([os.get_blocking(fd) for fd in (0, 1, 2)])"
    done = zio.run(lambda: run([sys.executable, "-c", code], input=b"", capture_output=True))
    assert done.stdout == b"[True, True, True]\n"


def test_a_pipe_of_zio_is_refused_since_it_does_not_block() -> None:
    def main() -> None:
        reader, writer = zio.fs.pipe()
        with reader, writer, pytest.raises(TypeError, match=r"os\.pipe"):
            Popen(["true"], stdout=writer)  # type: ignore[arg-type]

    zio.run(main)


# The end.


def test_a_cancelled_run_ends_the_program_in_good_order(way: str) -> None:
    """T56: SIGTERM first, and the program's own way out."""
    codes: list[int | None] = []

    def main() -> None:
        ready = child("polite", "out=ready\n", "sleep=60")
        with zio.CancelScope() as scope, Popen(ready, stdout=PIPE) as process:
            assert process.stdout is not None
            process.stdout.recv_until(b"\n", 100)
            scope.cancel()
            try:
                process.wait()
            finally:
                codes.append(process.returncode)
        codes.append(process.returncode)

    zio.run(main)
    assert codes == [None, 17]


def test_a_program_that_will_not_end_is_killed(way: str) -> None:
    """T56"""

    def main() -> tuple[bool, int | None]:
        ready = child("ignore", "out=ready\n", "sleep=60")
        with zio.CancelScope() as scope, Popen(ready, stdout=PIPE, grace=0.05) as process:
            assert process.stdout is not None
            process.stdout.recv_until(b"\n", 100)
            scope.cancel()
            process.wait()
        return scope.cancelled_caught, process.returncode

    assert zio.run(main) == (True, -signal.SIGKILL)


def test_run_that_takes_too_long_ends_the_program_and_raises(way: str) -> None:
    """T56"""
    with pytest.raises(TimeoutError, match=r"timed out after 0\.05 s"):
        zio.run(lambda: run(["sleep", "300"], timeout=0.05))


def test_a_grandchild_that_keeps_the_pipes_does_not_keep_a_cancelled_run() -> None:
    with pytest.raises(TimeoutError):
        zio.run(lambda: run(child("grandchild=300", "sleep=300"), capture_output=True, timeout=0.5))


def test_an_error_in_the_block_ends_the_program() -> None:
    processes: list[Popen] = []

    def main() -> None:
        with Popen(["sleep", "60"]) as process:
            processes.append(process)
            raise ValueError("the block's own")

    with pytest.raises(ValueError, match="the block's own"):
        zio.run(main)
    assert processes[0].returncode == -signal.SIGTERM


def test_the_end_of_the_run_ends_the_program_of_a_task() -> None:
    """T57: the task is cancelled, so the program is ended."""

    before = children()  # a server of the tests, perhaps

    def main() -> None:
        zio.spawn(run, ["sleep", "60"])
        wait_all_parked()
        while children() == before:
            zio.sleep(0.001)

    zio.run(main)
    assert children() == before


def children() -> set[str]:
    """Of whatever thread."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_cancelled_in_the_queue_of_the_pool_nothing_is_started(tmp_path: Path) -> None:
    """T14"""
    mark = tmp_path / "mark"

    def main() -> None:
        with pool_taken() as pool:
            task = zio.spawn(run, ["touch", mark])
            pool.queued()
            task.cancel()
            with pytest.raises(zio.Cancelled):
                task.join()

    zio.run(main)
    assert not mark.exists()


def test_a_program_that_is_started_while_its_task_is_interrupted_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets to see it, so nobody could."""
    began, release = threading.Event(), threading.Event()
    started: list[Any] = []
    plain = subprocess.Popen

    def slow(*args: Any, **kwargs: Any) -> Any:
        process = plain(*args, **kwargs)
        started.append(process)
        began.set()
        release.wait()
        return process

    def interrupt() -> None:
        while not began.is_set():
            zio.sleep(0.001)
        signal.raise_signal(signal.SIGINT)
        for _ in range(5):
            zio.sleep(0)
        release.set()

    def main() -> None:
        zio.spawn(interrupt)
        monkeypatch.setattr(subprocess, "Popen", slow)
        Popen(["sleep", "60"], stdout=PIPE)

    with pytest.raises(KeyboardInterrupt):
        zio.run(main)
    assert started[0].returncode == -signal.SIGKILL


# SIGCHLD.


@pytest.fixture
def sigchld() -> Iterator[Any]:
    """Installs a handler for the test."""
    before = signal.getsignal(signal.SIGCHLD)

    def install(handler: Any) -> None:
        signal.signal(signal.SIGCHLD, handler)

    yield install
    signal.signal(signal.SIGCHLD, before)


def test_a_program_may_have_a_sigchld_handler_which_stays_and_is_called(way: str, sigchld: Any) -> None:
    """T56"""
    seen: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    sigchld(handler)

    def main() -> int:
        code: int = run(["/bin/sh", "-c", "exit 9"]).returncode
        assert signal.getsignal(signal.SIGCHLD) is handler
        return code

    assert zio.run(main) == 9
    assert seen


def test_other_children_of_the_program_are_not_waited_for(way: str) -> None:
    """T56: their status is for those who started them."""
    with subprocess.Popen(["/bin/sh", "-c", "exit 8"]) as other:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert zio.run(lambda: run(["true"])).returncode == 0
        assert other.wait() == 8


def test_a_status_that_somebody_else_takes_is_said_to_be_lost(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """As a handler does that waits for every child."""

    def main() -> int:
        with Popen(["sleep", "60"]) as process:
            waiting = zio.spawn(process.wait)
            zio.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            return waiting.join()

    assert zio.run(main) == 255
    assert "somebody else has waited for it" in caplog.text


def test_no_handler_is_installed(way: str) -> None:
    """T56"""
    before = signal.getsignal(signal.SIGCHLD)

    def main() -> Any:
        with Popen(["true"]) as process:
            process.wait()
            return signal.getsignal(signal.SIGCHLD)

    assert zio.run(main) == before


# Use from elsewhere, and what it shows.


def test_from_another_thread_or_loop_it_is_refused() -> None:
    def main() -> None:
        with Popen(["sleep", "60"]) as process:
            for call in (process.wait, process.communicate, process.kill, process.poll):
                with pytest.raises(RuntimeError, match="task of the process's runtime"):
                    zio.to_thread(call)
            with pytest.raises(zio.WrongLoop, match="belongs to"):
                zio.to_thread(zio.run, process.wait)
            process.kill()

    zio.run(main)


def test_its_arguments_are_not_shown() -> None:
    def main() -> str:
        with Popen(["true", "hush"]) as one, Popen("true hush", shell=True) as other:
            return repr(one) + repr(other)

    shown = zio.run(main)
    assert "'true'" in shown
    assert "hush" not in shown


# Without a block.


def test_a_process_without_a_block_ends_with_the_run() -> None:
    def main() -> Popen:
        return Popen(["sleep", "1000"])

    with pytest.warns(ResourceWarning, match="still running when the run ended"):
        process = zio.run(main)
    with pytest.raises(ChildProcessError):  # no zombie either
        os.waitpid(process.pid, 0)


def test_so_does_one_that_nobody_holds_and_that_takes_no_notice_of_sigterm() -> None:
    def main() -> int:
        process = Popen(["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.01; done"], stdout=PIPE, grace=0.05)
        assert process.stdout is not None
        assert process.stdout.recv(1) == b"\n"
        process.stdout.close()
        return process.pid

    with pytest.warns(ResourceWarning, match="still running when the run ended"):
        pid = zio.run(main)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


@pytest.mark.filterwarnings("error")
def test_one_that_has_ended_by_then_is_only_cleared_away() -> None:
    def main() -> int:
        process = Popen(["true"], stdout=PIPE)
        with process.stdout:  # type: ignore[union-attr]
            assert process.stdout.recv(1) == b""  # type: ignore[union-attr]
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return process.pid

    pid = zio.run(main)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


@pytest.mark.filterwarnings("error")
def test_a_detached_process_outlives_its_block_and_the_run_and_is_no_zombie_for_long() -> None:
    def main() -> int:
        with Popen(["cat"], stdin=reading) as process:
            process.detach()
        return process.pid

    reading, writing = os.pipe()
    try:
        pid = zio.run(main)
    finally:
        os.close(reading)
    os.kill(pid, 0)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.close(writing)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    zio.run(run, ["true"])
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
