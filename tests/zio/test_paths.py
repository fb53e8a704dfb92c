"""zio.fs.Path: a path like any other, whose questions to the file system are asked in a thread of the pool."""

from __future__ import annotations

import os
import pathlib
import sys
import threading
from typing import Any

import pytest

import zio
from zio.fs import paths


def test_it_is_a_path_and_equal_to_the_plain_one(tmp_path: pathlib.Path) -> None:
    path = zio.fs.Path(tmp_path)
    assert isinstance(path, pathlib.Path)
    assert path == tmp_path
    assert hash(path) == hash(tmp_path)
    assert os.fspath(path) == str(tmp_path)


def test_paths_made_of_it_are_of_its_class(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()

    def main() -> None:
        path = zio.fs.Path(tmp_path)
        made = [path / "x", path.parent, path.with_suffix(".txt"), path.resolve(), path.absolute(), zio.fs.Path.cwd()]
        made += [*path.iterdir(), *path.glob("*"), *path.rglob("*"), path.joinpath("a", "b")]
        assert {type(other) for other in made} == {zio.fs.Path}

    zio.run(main)


def test_every_question_is_asked_in_a_thread(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T50: whatever pathlib itself calls to find the answer."""
    threads: set[int] = set()

    def spied(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            threads.add(threading.get_ident())
            return function(*args, **kwargs)

        return call

    def main() -> None:
        for name in ("stat", "lstat", "mkdir", "rmdir", "unlink", "rename", "replace", "chmod", "symlink", "scandir"):
            monkeypatch.setattr(os, name, spied(getattr(os, name)))
        monkeypatch.setattr(os, "listdir", spied(os.listdir))
        path = zio.fs.Path(tmp_path)
        folder = path / "folder"
        folder.mkdir()
        file = folder / "file"
        assert file.write_text("text") == 4
        assert file.read_text() == "text"
        assert file.write_bytes(b"bytes") == 5
        assert file.read_bytes() == b"bytes"
        file.chmod(0o600)
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.exists()
        assert file.is_file()
        assert not file.is_dir()
        assert [entry.name for entry in folder.iterdir()] == ["file"]
        assert [entry.name for entry in path.rglob("f*e")] == ["file"]
        link = folder / "link"
        link.symlink_to(file)
        assert link.is_symlink()
        assert link.readlink() == file
        assert link.resolve() == file.resolve()
        assert link.samefile(file)
        link.unlink()
        other = file.rename(folder / "other")
        assert other.replace(file) == file
        file.unlink()
        folder.rmdir()
        assert not folder.exists()
        assert threading.get_ident() not in threads
        assert threads

    zio.run(main)


def test_open_gives_a_file_of_ours(tmp_path: pathlib.Path) -> None:
    def main() -> None:
        path = zio.fs.Path(tmp_path, "file")
        with path.open("w", encoding="utf-8") as file:
            assert isinstance(file, zio.fs.File)
            file.write("grüße")
        assert path.read_text(encoding="utf-8") == "grüße"

    zio.run(main)


def test_keywords_and_errors_are_those_of_pathlib(tmp_path: pathlib.Path) -> None:
    def main() -> None:
        path = zio.fs.Path(tmp_path)
        (path / "a" / "b").mkdir(parents=True)
        (path / "a").mkdir(exist_ok=True)
        with pytest.raises(FileExistsError):
            (path / "a").mkdir()
        with pytest.raises(FileNotFoundError):
            (path / "none").stat()
        with pytest.raises(FileNotFoundError):
            list((path / "none").iterdir())
        (path / "none").unlink(missing_ok=True)

    zio.run(main)


if sys.version_info >= (3, 12):

    def test_a_walk_goes_where_it_is_told(tmp_path: pathlib.Path) -> None:
        for name in ("go", "stay"):
            (tmp_path / name / "deep").mkdir(parents=True)

        def main() -> set[str]:
            seen = set()
            for folder, folders, _files in zio.fs.Path(tmp_path).walk():
                seen.add(folder.name)
                if "stay" in folders:
                    folders.remove("stay")
            return seen

        assert zio.run(main) == {tmp_path.name, "go", "deep"}


def test_what_a_loop_found_before_an_error_is_given_out_before_it() -> None:
    def steps() -> Any:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    def main() -> None:
        found = paths.Steps(steps(), 10)
        assert [next(found), next(found)] == [1, 2]
        with pytest.raises(OSError, match="disk is gone"):
            next(found)
        assert list(found) == []

    zio.run(main)


def test_cancelled_before_it_a_question_changes_nothing(tmp_path: pathlib.Path) -> None:
    """T13, T14"""

    def main() -> None:
        with zio.CancelScope() as scope:
            scope.cancel()
            zio.fs.Path(tmp_path, "folder").mkdir()
        assert scope.cancelled_caught

    zio.run(main)
    assert list(tmp_path.iterdir()) == []
