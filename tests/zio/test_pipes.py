"""zio.fs.pipe, stdin and stdout, fd_stream: descriptors as streams, left as they were."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

import zio
from tests.zio.helpers_streams import in_turn
from zio.testing import wait_all_parked

SCRIPT = Path(__file__).parent / "scripts" / "reads_stdin.py"


@pytest.fixture(params=["opened again", "asked each time"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a descriptor that must not be changed is used: a second open file, or the same one."""
    if request.param == "asked each time":
        monkeypatch.setattr(os.path, "exists", lambda path: not path.startswith("/proc/self/fd/"))
    return str(request.param)


@pytest.fixture
def blocking_pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        assert os.get_blocking(fd)
        os.close(fd)


def test_what_goes_in_comes_out_and_its_end_too() -> None:
    def main() -> bytes:
        reader, writer = zio.fs.pipe()
        with reader:
            with writer:
                task = zio.spawn(reader.recv_exactly, 5)
                wait_all_parked()
                writer.send_all(b"hello world")
                assert task.join() == b"hello"
            rest = b""
            while data := reader.recv(3):
                rest += data
            return rest

    assert zio.run(main) == b" world"


def test_a_writer_waits_for_room_and_other_tasks_run() -> None:
    size = 1_000_000

    def main() -> int:
        reader, writer = zio.fs.pipe()
        with reader, writer:
            task = zio.spawn(writer.send_all, b"x" * size)
            wait_all_parked()
            assert not task.done
            received = len(reader.recv_exactly(size))
            task.join()
            return received

    assert zio.run(main) == size


def test_a_writer_whose_reader_is_gone_gets_the_systems_error() -> None:
    def main() -> None:
        reader, writer = zio.fs.pipe()
        with writer:
            task = zio.spawn(writer.send_all, b"x" * 1_000_000)
            wait_all_parked()
            reader.close()
            with pytest.raises(BrokenPipeError):
                task.join()

    zio.run(main)


def test_who_waits_in_a_pipe_that_gets_closed_is_told() -> None:
    def main() -> None:
        reader, writer = zio.fs.pipe()
        with writer:
            task = zio.spawn(reader.recv, 1)
            wait_all_parked()
            reader.close()
            reader.close()
            with pytest.raises(zio.Closed, match="closed"):
                task.join()
            with pytest.raises(zio.Closed, match="closed"):
                reader.recv(1)

    zio.run(main)


def test_a_second_reader_is_refused() -> None:
    def main() -> None:
        reader, writer = zio.fs.pipe()
        with reader, writer:
            task = zio.spawn(reader.recv, 1, name="the first")
            wait_all_parked()
            with pytest.raises(zio.Busy, match="the first"):
                reader.recv(1)
            writer.send_all(b"x")
            assert task.join() == b"x"

    zio.run(main)


def test_the_wrong_direction_is_refused() -> None:
    def main() -> None:
        reader, writer = zio.fs.pipe()
        with reader, writer:
            for call in (partial(writer.recv, 1),):
                with pytest.raises(io.UnsupportedOperation, match="for writing"):
                    call()
            for other in (partial(reader.send_all, b"x"), partial(reader.send_some, b"x"), reader.shutdown_write):
                with pytest.raises(io.UnsupportedOperation, match="for reading"):
                    other()

    zio.run(main)


def test_shutdown_write_ends_a_pipe() -> None:
    def main() -> bytes:
        reader, writer = zio.fs.pipe()
        with reader:
            writer.shutdown_write()
            assert writer.closed
            return reader.recv(1)

    assert zio.run(main) == b""


def test_a_cancelled_read_takes_nothing() -> None:
    def main() -> bytes:
        reader, writer = zio.fs.pipe()
        with reader, writer:
            task = zio.spawn(reader.recv, 100)
            wait_all_parked()
            writer.send_all(b"kept")
            task.cancel()
            with pytest.raises(zio.Cancelled):
                task.join()
            return reader.recv(100)

    assert zio.run(main) == b"kept"


# Descriptors of others.


def test_reading_from_a_descriptor_leaves_it_open_and_blocking(way: str, blocking_pipe: tuple[int, int]) -> None:
    """T50"""
    reading, writing = blocking_pipe

    def main() -> bytes:
        with zio.fs.fd_stream(reading) as stream:
            task = zio.spawn(stream.recv, 100)
            wait_all_parked()
            assert os.get_blocking(reading)
            os.write(writing, b"hello")
            return task.join()

    assert zio.run(main) == b"hello"
    os.write(writing, b"still open")
    assert os.read(reading, 100) == b"still open"


def test_a_reader_that_another_process_forestalls_does_not_block_the_loop(
    way: str, blocking_pipe: tuple[int, int]
) -> None:
    """T50: what was announced is gone when we look."""
    reading, writing = blocking_pipe

    def main() -> bytes:
        with zio.fs.fd_stream(reading) as stream:
            task = zio.spawn(stream.recv, 100)
            wait_all_parked()
            os.write(writing, b"for another")
            loop = zio.lowlevel.here().loop
            loop.poller.poll(0, loop.ready)
            assert os.read(reading, 100) == b"for another"
            zio.spawn(in_turn(partial(zio.sleep, 0.01), partial(os.write, writing, b"for us")))
            return task.join()

    assert zio.run(main) == b"for us"


def test_writing_to_a_full_descriptor_waits_in_the_task_only(way: str, blocking_pipe: tuple[int, int]) -> None:
    """T50"""
    reading, writing = blocking_pipe
    size = 1_000_000

    def main() -> int:
        with zio.fs.fd_stream(writing) as stream:
            task = zio.spawn(stream.send_all, b"x" * size)
            wait_all_parked()
            assert not task.done
            assert os.get_blocking(writing)
            with zio.fs.fd_stream(reading) as other_end:
                received = len(other_end.recv_exactly(size))
            task.join()
            return received

    assert zio.run(main) == size


def test_a_file_on_a_disk_is_read_and_written_by_the_pool(tmp_path: Path) -> None:
    """epoll takes no such file; the position is the descriptor's own."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    threads = set()

    def main() -> None:
        with path.open("rb+", buffering=0) as file:
            file.read(2)
            with zio.fs.fd_stream(file.fileno()) as stream:
                if stream._io is None:
                    write = stream._write
                    stream._write = lambda data: threads.add(threading.get_ident()) or write(data)  # type: ignore[method-assign,func-returns-value]
                assert stream.recv(3) == b"234"
                stream.send_all(b"FIVE")
                assert stream.recv(100) == b"9"
                assert stream.recv(100) == b""
            assert file.tell() == 10
        assert threading.get_ident() not in threads

    zio.run(main)
    assert path.read_bytes() == b"01234FIVE9"


def test_a_terminal_gives_its_lines_and_stays_as_it_was(way: str) -> None:
    """T50: a line is a short read, and there may be more."""
    controller, terminal = pty.openpty()

    def main() -> bytes:
        with zio.fs.fd_stream(terminal) as stream:
            assert stream.isatty()
            os.write(controller, b"one\ntwo\n")
            zio.to_thread(until_echoed)
            got = stream.recv(100)
            while not got.endswith(b"two\n"):
                got += stream.recv(100)
            return got

    def until_echoed() -> None:
        echoed = b""
        while b"two" not in echoed:
            echoed += os.read(controller, 100)

    try:
        assert zio.run(main) == b"one\ntwo\n"
        assert os.get_blocking(terminal)
    finally:
        os.close(controller)
        os.close(terminal)


def test_a_socket_cannot_be_opened_again_and_works() -> None:
    import socket

    def main() -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs, zio.fs.fd_stream(ours.fileno()) as stream:
            task = zio.spawn(stream.recv, 100)
            wait_all_parked()
            theirs.sendall(b"question")
            stream.send_all(task.join() + b" answered")
            assert ours.getblocking()
            return theirs.recv(100)

    assert zio.run(main) == b"question answered"


def test_a_descriptor_that_is_not_open() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        zio.run(zio.fs.fd_stream, 987_654)


@pytest.mark.parametrize("call", [zio.fs.pipe, zio.fs.stdin, zio.fs.stdout, zio.fs.stderr])
def test_outside_a_runtime_it_is_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(RuntimeError, match=r"inside zio\.run"):
        call()


def test_sizes_and_separators_that_make_no_sense_are_refused_and_take_nothing() -> None:
    """A pipe has one way only, so ``check_stream`` cannot say this about it."""

    def main() -> None:
        reader, writer = zio.fs.pipe()
        with reader, writer:
            writer.send_all(b"line\nrest")
            for _ in range(2):  # with all in the pipe, and with some of it taken from there
                for wrong in (-1, -2):
                    with pytest.raises(ValueError, match=f"n={wrong} must be 0 or more"):
                        reader.recv(wrong)
                    with pytest.raises(ValueError, match=f"n={wrong} must be 0 or more"):
                        reader.recv_exactly(wrong)
                for kind in (1.5, "a", None):
                    with pytest.raises(TypeError, match=f"n={kind!r} must be a whole number"):
                        reader.recv(kind)  # type: ignore[arg-type]
                with pytest.raises(ValueError, match="max_bytes=1 must be at least the 2 bytes of the separator"):
                    reader.recv_until(b"\r\n", 1)
                if not reader._rest:
                    assert reader.recv_until(b"\n", 100) == b"line\n"
            assert reader.recv_exactly(4) == b"rest"

    zio.run(main)


def _no_input() -> IO[bytes]:
    return Path("/dev/null").open("rb")


def _file_input() -> IO[bytes]:
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(b"x" * 200_000)
    file.seek(0)
    return file


def test_a_program_reads_its_standard_input_from_a_pipe_while_it_works() -> None:
    """T50: and leaves its descriptors as they were, in the middle and afterwards."""
    with subprocess.Popen([sys.executable, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        program.stdin.write(b"x" * 200_000)
        program.stdin.flush()
        time.sleep(0.05)  # in which the other task counts
        program.stdin.close()
        assert program.stdout.read() == b"200000 True True\nTrue\n"


@pytest.mark.parametrize(("source", "size"), [(_no_input, 0), (_file_input, 200_000)])
def test_a_program_reads_its_standard_input_whatever_it_is(source: Callable[[], IO[bytes]], size: int) -> None:
    """T50"""
    with source() as stdin:
        done = subprocess.run([sys.executable, SCRIPT], stdin=stdin, capture_output=True, check=True)
    assert re.fullmatch(rf"ready\n{size} (True|False) True\nTrue\n", done.stdout.decode())
