"""File objects whose calls run in threads of the pool, so that only the calling task waits for the disk."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections import deque
from typing import IO, TYPE_CHECKING, Any, AnyStr, Generic, Literal, Self, TypeVar, overload

from .._core import shield
from ..tasks import maybe_pause
from ..threads import to_thread
from .fifos import open_fifo, opening_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

T = TypeVar("T")
StrPath = str | os.PathLike[str]
Where = StrPath | int
ReadsText = Literal["r", "rt", "w", "wt", "a", "at", "x", "xt", "r+", "rt+", "r+t", "w+", "wt+", "w+t", "a+", "x+"]
ReadsBytes = Literal["rb", "wb", "ab", "xb", "rb+", "r+b", "wb+", "w+b", "ab+", "a+b", "xb+", "x+b"]

AHEAD = 65536  # characters or bytes of whole lines that a loop over a file takes from a thread at a time


def made_in_thread(make: Callable[[], T], dispose: Callable[[T], object]) -> T:
    """``make()`` in a pool thread. If this call is interrupted and cannot give out what was made, it is disposed of."""
    made: list[T] = []
    try:
        to_thread(lambda: made.append(make()))
    except BaseException:
        for thing in made:
            dispose(thing)
        raise
    return made[0]


@overload
def open(
    path: Where,
    mode: ReadsText = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> File[str]: ...


@overload
def open(path: Where, mode: ReadsBytes, buffering: int = -1) -> File[bytes]: ...


@overload
def open(
    path: Where,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> File[Any]: ...


def open(
    path: Where,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> File[Any]:
    """Open a file, with the arguments of the built-in ``open`` and its errors. Use it in a ``with`` block.

    Cancelled before a thread was free, nothing is opened (or created). A file descriptor may stand for ``path``; it is
    closed with the file. Opening a named pipe waits for its other side, and can be cancelled. Reading and writing pipes
    and terminals may keep a thread waiting for ever: see ``fd_stream``.
    """

    def make() -> File[Any] | None:
        if opening_waits(path, mode):
            return None
        return File(io.open(path, mode, buffering, encoding, errors, newline))  # noqa: UP020

    file = made_in_thread(make, lambda file: None if file is None else file.wrapped.close())
    return file or File(open_fifo(path, mode, buffering, encoding, errors, newline))


class File(Generic[AnyStr]):
    """An open file: the methods of a file object, each run in a thread of the pool.

    A call that is cancelled before a thread was free has done nothing; later it completes, since the disk cannot be
    interrupted, and returns what it did. Several tasks and threads may share a file: each call is done as a whole.
    Iterating gives the lines; it reads ahead, so that a line costs no thread of its own. Leaving the ``with`` block
    closes the file, whatever is cancelled.
    """

    def __init__(self, file: IO[AnyStr]) -> None:
        self._file: IO[AnyStr] = file
        self._guard = threading.Lock()  # held in the threads only
        self._ahead: deque[AnyStr] = deque()  # lines that a loop has read, and not given out yet
        # From what is no file on a disk, a line is taken when it comes.
        self._batch = AHEAD if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else 1

    @property
    def wrapped(self) -> IO[AnyStr]:
        """The file object of the standard library that this one stands for."""
        return self._file

    @property
    def name(self) -> Any:
        """What it was opened with."""
        return self._file.name

    @property
    def mode(self) -> str:
        """How it was opened."""
        return self._file.mode

    @property
    def encoding(self) -> str | None:
        """How text is encoded; None of a binary file."""
        return getattr(self._file, "encoding", None)

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._file.closed

    def fileno(self) -> int:
        """The file descriptor."""
        return self._file.fileno()

    def readable(self) -> bool:
        """Whether it can be read."""
        return self._file.readable()

    def writable(self) -> bool:
        """Whether it can be written."""
        return self._file.writable()

    def seekable(self) -> bool:
        """Whether ``seek`` and ``tell`` work."""
        return self._file.seekable()

    # Reading.

    def read(self, n: int | None = -1) -> AnyStr:
        """At most ``n`` characters or bytes; all there are if negative or None. Empty at the end of the file."""
        return self._run(self._read, -1 if n is None else n)

    def readline(self, limit: int = -1) -> AnyStr:
        """The next line with its end, or at most ``limit`` of it. Empty at the end of the file."""
        return self._run(self._readline, limit)

    def readlines(self) -> list[AnyStr]:
        """All lines that are left."""
        return self._run(self._readlines)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill ``buffer`` from a binary file; how many bytes were read, 0 at the end."""
        return self._run(self._at_its_place, self._file.readinto, buffer)  # type: ignore[attr-defined,no-any-return]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> AnyStr:
        if self._ahead and not self._file.closed:
            maybe_pause()
            try:
                return self._ahead.popleft()
            except IndexError:
                pass  # another thread was faster
        line = self._run(self._next_line)
        if not line:
            raise StopIteration
        return line

    # Writing, and the rest.

    def write(self, data: AnyStr) -> int:
        """Write ``data``; how many characters or bytes. What is buffered goes out with ``flush`` and ``close``."""
        return self._run(self._at_its_place, self._file.write, data)  # type: ignore[no-any-return]

    def writelines(self, lines: Iterable[AnyStr]) -> None:
        """Write ``lines`` one after the other, as they are."""
        self._run(self._at_its_place, self._file.writelines, lines)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position; it is returned."""
        return self._run(self._seek, offset, whence)

    def tell(self) -> int:
        """The position. OSError while lines of a text file are read ahead by a loop."""
        return self._run(self._at_its_place, self._file.tell)  # type: ignore[no-any-return]

    def truncate(self, size: int | None = None) -> int:
        """Cut it off, or extend it, at ``size`` bytes; at the position if None. The new size."""
        return self._run(self._at_its_place, self._file.truncate, size)  # type: ignore[no-any-return]

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._run(self._file.flush)

    def sync(self) -> None:
        """Flush, and have the system write it to the disk."""
        self._run(self._sync)

    def close(self) -> None:
        """Flush and close. Not a cancel point: it is done whatever is cancelled. Idempotent."""
        if not self._file.closed:
            with shield():
                self._run(self._close)

    def __enter__(self) -> Self:
        if self._file.closed:
            raise ValueError(f"{self!r} is closed")
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<File {self._file.name!r} mode {self._file.mode!r}{' closed' if self._file.closed else ''}>"

    # In the threads.

    def _run(self, fn: Callable[..., T], *args: Any) -> T:
        return to_thread(self._guarded, fn, args)  # type: ignore[no-any-return]

    def _guarded(self, fn: Callable[..., T], args: tuple[Any, ...]) -> T:
        with self._guard:
            return fn(*args)

    def _next_line(self) -> AnyStr | None:
        ahead, readline, size = self._ahead, self._file.readline, 0
        if not ahead or self._file.closed:
            while size < self._batch and (line := readline()):
                ahead.append(line)
                size += len(line)
        return ahead.popleft() if ahead else None

    def _read(self, n: int) -> AnyStr:
        if not self._ahead or self._file.closed:
            return self._file.read(n)
        parts: list[AnyStr] = []
        while self._ahead and n != 0:
            line = self._ahead.popleft()
            if 0 <= n < len(line):
                self._ahead.appendleft(line[n:])
                line = line[:n]
            parts.append(line)
            n -= len(line) if n > 0 else 0
        if n:
            parts.append(self._file.read(n))
        return parts[0][:0].join(parts) if parts else self._file.read(0)

    def _readline(self, limit: int) -> AnyStr:
        if not self._ahead or self._file.closed:
            return self._file.readline(limit)
        line = self._ahead.popleft()
        if 0 <= limit < len(line):
            self._ahead.appendleft(line[limit:])
            return line[:limit]
        return line

    def _readlines(self) -> list[AnyStr]:
        ahead = list(self._ahead)
        self._ahead.clear()
        return ahead + self._file.readlines()

    def _seek(self, offset: int, whence: int) -> int:
        if whence == os.SEEK_CUR:
            return self._at_its_place(self._file.seek, offset, whence)  # type: ignore[no-any-return]
        position = self._file.seek(offset, whence)
        self._ahead.clear()
        return position

    def _at_its_place(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Call what depends on the position: first lines that were read ahead are given back."""
        if self._ahead and not self._file.closed:
            if isinstance(self._file, io.TextIOBase):
                raise OSError("the position in a text file is not known while a loop reads its lines; seek first")
            self._file.seek(-sum(map(len, self._ahead)), os.SEEK_CUR)
            self._ahead.clear()
        return fn(*args)

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _close(self) -> None:
        try:
            self._file.close()
        finally:
            self._ahead.clear()


# Whole files.


def _with_file(use: Callable[[IO[Any]], T], path: StrPath, mode: str, *options: Any) -> T:
    """Open the file, use and close it, all in one go of a thread unless opening it has to wait."""

    def in_one_go() -> tuple[T] | None:
        if opening_waits(path, mode):
            return None
        with io.open(path, mode, *options) as file:  # noqa: UP020 (open is ours here)
            return (use(file),)

    done = to_thread(in_one_go)
    if done is not None:
        return done[0]
    file = open_fifo(path, mode, *options)

    def use_it() -> T:
        with file:
            return use(file)

    return to_thread(use_it)


def read_bytes(path: StrPath) -> bytes:
    """All of a file. OSError as of ``open``; a cancel leaves nothing open."""

    def read(file: IO[bytes]) -> bytes:
        return file.read()

    return _with_file(read, path, "rb")


def read_text(path: StrPath, encoding: str | None = None, errors: str | None = None) -> str:
    """All of a text file. OSError as of ``open``; UnicodeDecodeError; a cancel leaves nothing open."""

    def read(file: IO[str]) -> str:
        return file.read()

    return _with_file(read, path, "r", -1, encoding, errors)


def write_bytes(path: StrPath, data: bytes | bytearray | memoryview) -> int:
    """Make ``data`` all there is in the file; how many bytes. Who reads meanwhile may see a part: see ``atomic_write``.

    Cancelled before a thread was free it has done nothing; later it completes.
    """
    if isinstance(data, str):
        raise TypeError("write_bytes needs bytes; use write_text for text")

    def write(file: IO[bytes]) -> int:
        return file.write(data)

    return _with_file(write, path, "wb")


def write_text(
    path: StrPath, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
) -> int:
    """Make the text ``data`` all there is in the file; how many characters. Otherwise like ``write_bytes``."""
    if not isinstance(data, str):
        raise TypeError(f"write_text needs text, not {type(data).__name__}; use write_bytes for bytes")

    def write(file: IO[str]) -> int:
        return file.write(data)

    return _with_file(write, path, "w", -1, encoding, errors, newline)
