"""Writing a file so that others see the old content or the new one, and never a part."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING, Any, AnyStr, Generic, Literal, overload

from .._core import shield
from ..threads import to_thread
from .files import File, StrPath

if TYPE_CHECKING:
    from types import TracebackType

LONGEST_NAME = 200  # characters of the target's name that go into that of the temporary file


@overload
def atomic_write(
    path: StrPath,
    mode: Literal["w", "wt"] = "w",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> AtomicWrite[str]: ...


@overload
def atomic_write(path: StrPath, mode: Literal["wb"]) -> AtomicWrite[bytes]: ...


def atomic_write(
    path: StrPath,
    mode: str = "w",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> AtomicWrite[Any]:
    """``with zio.fs.atomic_write(path) as file: file.write(...)``: the file is replaced when the block is left.

    What is written goes to a temporary file beside the target. At the end of the block it is on the disk, and then
    takes the target's name in one step; permissions stay as they were, and a symbolic link stays one. If the block ends
    with an error or is cancelled the temporary file is removed and the target is as it was.
    """
    if mode not in ("w", "wt", "wb"):
        raise ValueError(f"mode={mode!r}: atomic_write writes a file as a whole, so it must be 'w', 'wt' or 'wb'")
    if mode == "wb" and (encoding is not None or errors is not None or newline is not None):
        raise ValueError("encoding, errors and newline are for text; mode='wb' takes none of them")
    target = os.fspath(path)
    if not target:
        raise ValueError(f"path={path!r} must be the path of a file")
    return AtomicWrite(target, mode, encoding, errors, newline)


class AtomicWrite(Generic[AnyStr]):
    """What ``atomic_write`` returns. Its block can be entered once."""

    def __init__(self, path: str, mode: str, encoding: str | None, errors: str | None, newline: str | None) -> None:
        self._path = path
        self._options: tuple[Any, ...] = (mode, -1, encoding, errors, newline)
        self._file: File[AnyStr] | None = None
        self._target = ""
        self._temporary = ""
        self._over = False
        self._guard = threading.Lock()  # held in the threads only

    def __enter__(self) -> File[AnyStr]:
        if self._temporary or self._over:
            raise RuntimeError("the block of an atomic_write can be entered once only")
        try:
            to_thread(self._begin)
        except BaseException:
            self._remove()
            raise
        assert self._file is not None
        return self._file

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if exc is None:
                to_thread(self._commit)
        finally:
            self._remove()

    def _remove(self) -> None:
        if not self._over:
            with shield():
                to_thread(self._give_up)

    # In the threads.

    def _begin(self) -> None:
        with self._guard:
            if self._over:
                return  # an interrupted block that nobody is in any more
            self._target = os.path.realpath(self._path)
            folder, name = os.path.split(self._target)
            temporary = os.path.join(folder, f".{name[:LONGEST_NAME]}.{os.urandom(8).hex()}.tmp")  # noqa: PTH118
            # Nobody may read more of the new content than of the old one, not even for a moment.
            mode = 0o600 if os.path.exists(self._target) else 0o666  # noqa: PTH110
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            self._temporary = temporary
            try:
                self._file = File(os.fdopen(fd, *self._options))
            except BaseException:
                os.close(fd)
                raise

    def _commit(self) -> None:
        with self._guard:
            assert self._file is not None
            file = self._file.wrapped
            if file.closed:  # by the user, so it may be on its way to the disk still
                fd = os.open(self._temporary, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    self._make_durable(fd)
                finally:
                    os.close(fd)
            else:
                file.flush()
                self._make_durable(file.fileno())
                file.close()
            os.replace(self._temporary, self._target)  # noqa: PTH105
            self._over = True
            _sync_folder(os.path.dirname(self._target))  # noqa: PTH120

    def _make_durable(self, fd: int) -> None:
        try:
            mode = stat.S_IMODE(os.stat(self._target).st_mode)  # noqa: PTH116
        except FileNotFoundError:
            pass
        else:
            os.fchmod(fd, mode)
        os.fsync(fd)

    def _give_up(self) -> None:
        with self._guard:
            self._over = True
            if self._temporary:
                try:
                    os.unlink(self._temporary)  # noqa: PTH108
                except FileNotFoundError:
                    pass  # somebody has cleaned up
            if self._file is not None:
                # What is buffered may not fit on the disk; it is not wanted any more.
                _close_at_all_costs(self._file.wrapped)


def _close_at_all_costs(file: Any) -> None:
    try:
        file.close()
    except OSError:
        assert file.closed


def _sync_folder(folder: str) -> None:
    """The new name is on the disk too."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
