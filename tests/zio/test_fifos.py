"""Named pipes: opening one waits for the other side, and that wait ends with a cancel."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import zio
from zio.testing import wait_all_parked


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def _fds() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("mode", ["r", "rb", "w", "wb", "a"])
def test_a_cancelled_opening_ends_at_once_and_leaves_no_thread_and_no_descriptor(fifo: Path, mode: str) -> None:
    def main() -> list[str]:
        zio.to_thread(str)  # the pool has begun
        before = _fds()
        with zio.move_on_after(0.02) as scope:
            zio.fs.open(fifo, mode)
        assert scope.cancelled_caught
        wait_all_parked()  # returns when no thread has a job any more
        return sorted(_fds() ^ before)

    assert zio.run(main) == []


@pytest.mark.parametrize("call", ["read_bytes", "read_text", "write_bytes", "write_text"])
def test_so_do_calls_for_whole_files(fifo: Path, call: str) -> None:
    args = {"write_bytes": (b"x",), "write_text": ("x",)}.get(call, ())

    def main() -> None:
        with pytest.raises(TimeoutError), zio.timeout(0.02):
            getattr(zio.fs, call)(fifo, *args)

    zio.run(main)


def test_an_opening_that_no_thread_has_begun_can_be_cancelled_too(fifo: Path) -> None:
    def main() -> None:
        with zio.TaskGroup() as group:
            for _ in range(60):  # more than there are threads
                group.spawn(zio.fs.open, fifo)
            zio.sleep(0.02)
            group.cancel()

    zio.run(main)


def test_a_pipe_opens_when_its_other_side_comes(fifo: Path) -> None:
    def main() -> str:
        reader = zio.spawn(zio.fs.read_text, fifo)
        zio.spawn(zio.fs.write_text, fifo, "through the pipe")
        return reader.join()

    assert zio.run(main) == "through the pipe"


def test_a_cancel_finds_the_pipe_under_whatever_name_it_has_by_then(fifo: Path) -> None:
    def main() -> None:
        opening = zio.spawn(zio.fs.open, fifo)
        zio.sleep(0.02)
        fifo.rename(fifo.with_name("elsewhere"))
        opening.cancel()

    zio.run(main)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("zio-worker")]
