"""``pathlib.Path`` with its I/O in threads of the pool."""

from __future__ import annotations

import functools
import pathlib
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from ..tasks import maybe_pause
from ..threads import to_thread
from . import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .files import File

# What asks the file system, and returns when it knows. Some of it is not in every version of Python.
CALLS = (
    *("absolute", "chmod", "cwd", "exists", "expanduser", "group", "hardlink_to", "home", "is_block_device"),
    *("is_char_device", "is_dir", "is_fifo", "is_file", "is_junction", "is_mount", "is_socket", "is_symlink", "lchmod"),
    *("lstat", "mkdir", "owner", "read_bytes", "read_text", "readlink", "rename", "replace", "resolve", "rmdir"),
    *("samefile", "stat", "symlink_to", "touch", "unlink", "write_bytes", "write_text"),
    *("copy", "copy_into", "move", "move_into"),
)
# Iterators, and how many of their steps are taken in a thread at a time: a walk may be told where not to go.
LOOPS = {"glob": 256, "iterdir": 256, "rglob": 256, "walk": 1}


if TYPE_CHECKING:
    _Base = pathlib.Path
else:
    _Base = type(pathlib.Path())  # the class of this system's paths


class Path(_Base):
    """A ``pathlib.Path`` whose methods that ask the file system run in threads of the pool; ``open`` is ours.

    It is equal to the same ``pathlib.Path`` and may be used in place of one; in plain threads it is one. What makes
    paths of it (``/``, ``parent``, ``iterdir``) makes them of this class. A call that is cancelled before a thread was
    free has done nothing; later it completes.
    """

    __slots__ = ()

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> File[Any]:
        """Open the file, see ``zio.fs.open``."""
        return files.open(self, mode, buffering, encoding, errors, newline)


class Steps:
    """An iterator whose steps are taken in a thread, some at a time."""

    def __init__(self, steps: Iterator[Any], batch: int) -> None:
        self._steps = steps
        self._batch = batch
        self._ahead: list[Any] = []
        self._error: Exception | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._ahead:
            maybe_pause()
            return self._ahead.pop()
        if self._error is None:
            self._ahead = to_thread(self._take)
        if self._ahead:
            return self._ahead.pop()
        error, self._error = self._error, None
        raise error or StopIteration

    def _take(self) -> list[Any]:
        taken = []
        try:
            for step in islice(self._steps, self._batch):
                taken.append(step)  # noqa: PERF402 (what came before an error counts)
        except Exception as exc:
            self._error = exc  # in its turn
        return taken[::-1]


def _in_thread(name: str) -> Any:
    """The method ``name`` of pathlib, in a thread."""
    plain = getattr(pathlib.Path, name)
    if hasattr(plain, "__func__"):
        function = plain.__func__

        @functools.wraps(function)
        def class_call(cls: type[Path], *args: Any, **kwargs: Any) -> Any:
            return to_thread(functools.partial(function, cls, *args, **kwargs))

        return classmethod(class_call)

    @functools.wraps(plain)
    def call(self: Path, *args: Any, **kwargs: Any) -> Any:
        return to_thread(functools.partial(plain, self, *args, **kwargs))

    return call


def _steps_in_thread(name: str, batch: int) -> Callable[..., Any]:
    plain = getattr(pathlib.Path, name)

    @functools.wraps(plain)
    def call(self: Path, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return Steps(to_thread(lambda: iter(plain(self, *args, **kwargs))), batch)

    return call


for _name in CALLS:
    if hasattr(pathlib.Path, _name):
        setattr(Path, _name, _in_thread(_name))
for _name, _batch in LOOPS.items():
    if hasattr(pathlib.Path, _name):
        setattr(Path, _name, _steps_in_thread(_name, _batch))
