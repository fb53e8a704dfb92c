"""zio.fs.open and the functions for whole files: work for the pool, done as a whole or not at all."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import zio
from tests.zio.helpers_pool import pool_taken
from zio.testing import wait_all_parked


def test_what_is_written_can_be_read_as_text_and_as_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def main() -> tuple[str, bytes]:
        with zio.fs.open(path, "w", encoding="utf-8") as file:
            assert file.write("grüße\n") == 6
            file.writelines(["one\n", "two\n"])
        with zio.fs.open(path, encoding="utf-8") as text, zio.fs.open(path, "rb") as data:
            return text.read(), data.read()

    assert zio.run(main) == ("grüße\none\ntwo\n", "grüße\none\ntwo\n".encode())


def test_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def main() -> None:
        assert zio.fs.write_text(path, "grüße", encoding="utf-8") == 5
        assert zio.fs.read_bytes(path) == "grüße".encode()
        assert zio.fs.read_text(path, encoding="utf-8") == "grüße"
        assert zio.fs.write_bytes(path, memoryview(b"bytes")) == 5
        assert zio.fs.read_bytes(str(path)) == b"bytes"

    zio.run(main)


@pytest.mark.parametrize(
    "call",
    [
        partial(zio.fs.read_bytes, "there/is/none"),
        partial(zio.fs.read_text, "there/is/none"),
        partial(zio.fs.write_text, "there/is/none", "x"),
        partial(zio.fs.open, "there/is/none"),
    ],
)
def test_errors_are_those_of_the_standard_library(call: Any) -> None:
    with pytest.raises(FileNotFoundError, match="there/is/none"):
        zio.run(call)


def test_text_for_bytes_and_bytes_for_text_are_refused_before_the_file_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(TypeError, match="write_text for text"):
        zio.fs.write_bytes(path, "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not bytes"):
        zio.fs.write_text(path, b"bytes")  # type: ignore[arg-type]
    assert path.read_text() == "old"


def test_other_tasks_run_while_a_file_is_waited_for(tmp_path: Path) -> None:
    """T50: the fifo keeps the thread that opens it waiting, and this thread goes on."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def main() -> str:
        reader = zio.spawn(zio.fs.read_text, fifo)
        with zio.fs.open(fifo, "w") as file:
            file.write("passed")
        return reader.join()

    assert zio.run(main) == "passed"


def test_every_call_runs_in_a_thread_of_the_pool(tmp_path: Path) -> None:
    """T50"""
    path = tmp_path / "file"
    threads: set[int] = set()

    class Spy:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            value = getattr(self.file, name)
            if not callable(value) or name in {"fileno", "readable", "writable", "seekable"}:
                return value

            def call(*args: Any) -> Any:
                threads.add(threading.get_ident())
                return value(*args)

            return call

    def main() -> None:
        with zio.fs.open(path, "wb+") as file:
            file._file = Spy(file._file)  # type: ignore[assignment]
            file.write(b"one\ntwo\n")
            file.flush()
            file.sync()
            file.seek(0)
            assert file.tell() == 0
            assert file.read(1) == b"o"
            assert file.readline() == b"ne\n"
            assert file.readinto(bytearray(2)) == 2
            assert file.readlines() == [b"o\n"]
            assert list(file) == []
            file.writelines([b"three"])
            file.truncate(3)
        assert threading.get_ident() not in threads
        assert threads

    zio.run(main)
    assert path.read_bytes() == b"one"


def test_a_file_in_a_plain_thread_is_read_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = threading.active_count()
    with zio.fs.open(path, "w") as file:
        file.write("one\n")
        assert threading.active_count() == before
    with zio.fs.open(path) as file:
        assert list(file) == ["one\n"]


# Lines.


def test_a_loop_gives_all_lines_and_takes_few_threads_for_them(tmp_path: Path) -> None:
    path = tmp_path / "file"
    lines = [f"line {number}\n" for number in range(10_000)] + ["and no end"]
    path.write_text("".join(lines))

    def main() -> int:
        pool, jobs = zio.lowlevel.here().loop.runtime.pool, 0
        submit = pool.submit

        def counted(job: Any) -> None:
            nonlocal jobs
            jobs += 1
            submit(job)

        with zio.fs.open(path) as file:
            pool.submit = counted
            assert list(file) == lines
        return jobs

    assert zio.run(main) < 10


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_after_a_loop_was_left_reading_goes_on_behind_its_last_line(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_text("one\ntwo\u2028!\nthree\nfour\nfive\nsix\n", encoding="utf-8")

    def main() -> None:
        with zio.fs.open(path, mode, encoding=None if "b" in mode else "utf-8") as file:
            assert len(next(file)) == 4
            parts = [file.read(2), file.readline(1), file.readline(), file.readline(), file.read(6), file.readlines()]
            together = [part if isinstance(part, bytes) else part.encode() for part in [*parts[:-1], *parts[-1]]]
            assert b"".join(together) == path.read_bytes()[4:]
            assert file.read() == (b"" if "b" in mode else "")

    zio.run(main)


def test_the_position_in_a_binary_file_is_that_behind_the_last_line_given_out(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree\n")

    def main() -> None:
        with zio.fs.open(path, "rb+") as file:
            assert next(file) == b"one\n"
            assert file.tell() == 4
            assert next(file) == b"two\n"
            file.write(b"THREE")
            file.seek(0)
            assert next(file) == b"one\n"
            assert file.seek(4, os.SEEK_CUR) == 8

    zio.run(main)
    assert path.read_bytes() == b"one\ntwo\nTHREE\n"


def test_a_text_file_says_that_a_loop_has_read_ahead(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one\ntwo\n")

    def main() -> None:
        with zio.fs.open(path, "r+") as file:
            assert next(file) == "one\n"
            with pytest.raises(OSError, match="seek first"):
                file.tell()
            with pytest.raises(OSError, match="seek first"):
                file.write("x")
            file.seek(0)
            assert file.tell() == 0
            assert next(file) == "one\n"

    zio.run(main)
    assert path.read_text() == "one\ntwo\n"


def test_a_line_of_a_pipe_comes_before_the_next_one_is_written(tmp_path: Path) -> None:
    """Reading ahead is for files only."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def main() -> list[str]:
        opened = zio.spawn(lambda: zio.fs.open(fifo))
        got = []
        with zio.fs.open(fifo, "w", 1) as writer, opened.join() as reader:
            for word in ("one\n", "two\n"):
                writer.write(word)
                got.append(next(reader))
        return got

    assert zio.run(main) == ["one\n", "two\n"]


def test_two_tasks_share_the_lines_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    lines = {f"line {number}\n" for number in range(20_000)}
    path.write_text("".join(sorted(lines)))

    def main() -> list[str]:
        with zio.fs.open(path) as file, zio.TaskGroup() as group:
            tasks = [group.spawn(lambda: list(file)) for _ in range(2)]
        return [line for task in tasks for line in task.join()]

    got = zio.run(main)
    assert len(got) == len(lines)
    assert set(got) == lines


def test_calls_on_one_file_are_made_one_after_the_other(tmp_path: Path) -> None:
    """The buffers of the standard library's files are not made for several threads."""
    path = tmp_path / "file"
    inside, most = 0, 0

    def slow(n: int) -> str:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        inside -= 1
        return "x"

    def main() -> None:
        with zio.fs.open(path, "w+") as file:
            file._read = slow  # type: ignore[method-assign]
            with zio.TaskGroup() as group:
                for _ in range(10):
                    group.spawn(file.read, 1)

    zio.run(main)
    assert most == 1


# The end.


def test_a_file_is_closed_in_a_cancelled_block_and_what_was_written_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def main() -> None:
        with zio.CancelScope() as scope, zio.fs.open(path, "w") as file:
            file.write("kept")
            scope.cancel()
            zio.sleep(1)
        assert file.closed
        with pytest.raises(ValueError, match="closed"):
            file.read()
        with pytest.raises(ValueError, match="closed"), file:
            raise AssertionError

    zio.run(main)
    assert path.read_text() == "kept"


def test_after_close_a_loop_gives_nothing_that_was_read_ahead(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one\ntwo\n")

    def main() -> None:
        file = zio.fs.open(path)
        assert next(file) == "one\n"
        file.close()
        file.close()
        with pytest.raises(ValueError, match="closed"):
            next(file)

    zio.run(main)


def test_cancelled_in_the_queue_nothing_is_opened_or_created(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def main() -> None:
        with pool_taken() as pool:
            task = zio.spawn(zio.fs.open, path, "w")
            pool.queued()
            task.cancel()
            with pytest.raises(zio.Cancelled):
                task.join()

    zio.run(main)
    assert not path.exists()


def test_a_file_that_is_opened_while_its_task_is_interrupted_is_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody gets it, so nobody could close it."""
    path = tmp_path / "file"
    path.write_text("")
    opened: list[Any] = []
    began, release = threading.Event(), threading.Event()
    plain_open = io.open

    def slow_open(*args: Any) -> Any:
        file = plain_open(*args)
        opened.append(file)
        began.set()
        release.wait()
        return file

    def interrupt() -> None:
        while not began.is_set():
            zio.sleep(0.001)
        signal.raise_signal(signal.SIGINT)
        wait_until_delivered()
        release.set()

    def wait_until_delivered() -> None:
        for _ in range(5):
            zio.sleep(0)

    def main() -> None:
        zio.spawn(interrupt)
        monkeypatch.setattr(io, "open", slow_open)
        zio.fs.open(path)

    with pytest.raises(KeyboardInterrupt):
        zio.run(main)
    assert [file.closed for file in opened] == [True]


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode"):
        zio.run(lambda: zio.fs.open("file", "q"))


def test_wait_all_parked_takes_a_file_for_work(tmp_path: Path) -> None:
    """T67"""

    def main() -> bool:
        task = zio.spawn(zio.fs.write_text, tmp_path / "file", "x" * 1000)
        wait_all_parked()
        return task.done

    assert zio.run(main)
