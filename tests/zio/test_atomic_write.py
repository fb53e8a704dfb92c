"""zio.fs.atomic_write: the old content or the new one, and nothing left lying about."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

import zio
from tests.zio.helpers_pool import pool_taken


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.write_text("old")
    return path


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_the_new_content_appears_at_the_end_of_the_block(target: Path) -> None:
    def main() -> None:
        with zio.fs.atomic_write(target, encoding="utf-8") as file:
            file.write("grüße")
            file.flush()
            assert target.read_text() == "old"
            assert len(names(target)) == 2

    zio.run(main)
    assert target.read_text(encoding="utf-8") == "grüße"
    assert names(target) == ["target"]


def test_bytes_and_a_file_that_was_not_there(tmp_path: Path) -> None:
    target = tmp_path / "new"

    def main() -> None:
        with zio.fs.atomic_write(target, "wb") as file:
            file.write(b"\x00\xff")

    zio.run(main)
    assert target.read_bytes() == b"\x00\xff"
    (tmp_path / "plain").touch()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_the_old_content_and_no_other_file(
    target: Path, error: type[BaseException]
) -> None:
    """T50"""

    def main() -> None:
        with zio.fs.atomic_write(target) as file:
            file.write("new" * 100_000)
            raise error

    with pytest.raises(error):
        zio.run(main)
    assert target.read_text() == "old"
    assert names(target) == ["target"]


def test_a_cancelled_block_leaves_the_old_content_and_no_other_file(target: Path) -> None:
    """T50"""

    def main() -> None:
        with zio.move_on_after(0.01) as scope, zio.fs.atomic_write(target) as file:
            file.write("new" * 100_000)
            zio.sleep(3600)
        assert scope.expired

    zio.run(main)
    assert target.read_text() == "old"
    assert names(target) == ["target"]


def test_cancelled_before_the_end_of_the_block_was_begun_it_replaces_nothing(target: Path) -> None:
    """T50: also if nothing in the block waited any more."""

    def main() -> None:
        with zio.CancelScope() as scope, zio.fs.atomic_write(target) as file:
            file.write("new")
            scope.cancel()
        assert scope.cancelled_caught

    zio.run(main)
    assert target.read_text() == "old"
    assert names(target) == ["target"]


@pytest.mark.parametrize("at", ["enter", "exit"])
def test_cancelled_in_the_queue_of_the_pool_it_leaves_no_file(target: Path, at: str) -> None:
    """T50"""

    def write(gate: zio.Event, written: zio.Event) -> None:
        if at == "enter":
            gate.wait()
        with zio.fs.atomic_write(target) as file:
            file.write("new")
            written.set()
            gate.wait()

    def main() -> None:
        gate, written = zio.Event(), zio.Event()
        task = zio.spawn(write, gate, written)
        if at == "exit":
            written.wait()
        with pool_taken() as pool:
            gate.set()
            job = pool.queued()
            task.cancel()
            pool.queued(after=job)  # the one that removes the file
            pool.release()
            with pytest.raises(zio.Cancelled):
                task.join()

    zio.run(main)
    assert target.read_text() == "old"
    assert names(target) == ["target"]


def test_a_full_disk_leaves_the_old_content_and_no_other_file(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def main() -> None:
        with zio.fs.atomic_write(target) as file:
            file.write("new")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        zio.run(main)
    assert target.read_text() == "old"
    assert names(target) == ["target"]


def test_it_is_on_the_disk_before_it_takes_the_name_and_the_name_is_afterwards(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(fd: int) -> None:
        log.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"file of {os.fstat(fd).st_size}")
        fsync(fd)

    def logged_replace(old: Any, new: Any) -> None:
        log.append("name")
        replace(old, new)

    def main() -> None:
        with zio.fs.atomic_write(target) as file:
            file.write("12345")

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    zio.run(main)
    assert log == ["file of 5", "name", "folder"]


def test_permissions_stay_and_are_never_wider_meanwhile(target: Path) -> None:
    target.chmod(0o640)

    def main() -> None:
        with zio.fs.atomic_write(target) as file:
            file.write("secret")
            temporary = next(entry for entry in target.parent.iterdir() if entry != target)
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600

    zio.run(main)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_symbolic_link_stays_one(target: Path) -> None:
    link = target.parent / "link"
    link.symlink_to(target)

    def main() -> None:
        with zio.fs.atomic_write(link) as file:
            file.write("new")

    zio.run(main)
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_the_file_may_be_closed_in_the_block(target: Path) -> None:
    def main() -> None:
        with zio.fs.atomic_write(target) as file:
            file.write("new")
            file.close()
        with pytest.raises(RuntimeError, match="once only"):
            writer.__enter__()

    writer = zio.fs.atomic_write(target)

    def twice() -> None:
        with writer:
            pass
        main()

    zio.run(twice)
    assert target.read_text() == "new"
    assert names(target) == ["target"]


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)

    def main() -> None:
        with zio.fs.atomic_write(target) as file:
            file.write("new")

    zio.run(main)
    assert target.read_text() == "new"


def test_what_is_no_whole_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode='a'"):
        zio.fs.atomic_write(tmp_path / "x", "a")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="for text"):
        zio.fs.atomic_write(tmp_path / "x", "wb", encoding="utf-8")  # type: ignore[call-overload]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    def main() -> None:
        with zio.fs.atomic_write(tmp_path / "none" / "x"):
            raise AssertionError

    with pytest.raises(FileNotFoundError):
        zio.run(main)


def test_in_a_plain_thread(target: Path) -> None:
    with zio.fs.atomic_write(target) as file:
        file.write("new")
    assert target.read_text() == "new"
    assert names(target) == ["target"]
