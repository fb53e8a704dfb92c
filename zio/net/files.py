"""Files into streams: without a copy where the system can, and without holding up the other tasks for the disk.

What the system has of a file in memory it sends at once; the rest a thread reads first, so that it is there.
"""

from __future__ import annotations

import io
import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from .._core import here
from .sockets import SocketStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from .stream import Stream

    StrPath = str | os.PathLike[str]


class HasDescriptor(Protocol):
    """A file that the system has open."""

    def fileno(self) -> int: ...


CHUNK = 128 << 10  # bytes; what systems read ahead


def send_file(stream: Stream, file: StrPath | BinaryIO | HasDescriptor, offset: int, count: int | None) -> int:
    """What ``Stream.send_file`` does."""
    for name, value in (("offset", offset), ("count", count)):
        if value is not None and (not isinstance(value, int) or value < 0):
            raise ValueError(f"{name}={value!r} must be a whole number, 0 or more")
    if isinstance(file, io.TextIOBase):
        raise TypeError(f"{file!r} is a text file; open it in binary mode")
    if not (isinstance(file, (str, os.PathLike)) or hasattr(file, "fileno") or hasattr(file, "read")):
        raise TypeError(f"file={file!r} must be a path or a binary file")
    fiber = here()
    if fiber.cancelled:
        fiber.loop.checkpoint(fiber)
    with ExitStack() as stack:
        opened: Any
        if isinstance(file, (str, os.PathLike)):
            opened = _in_thread(_open, file)
            stack.callback(opened.close)
        else:
            opened = file
        sent = _send_opened(stream, opened, offset, count)
    if count is not None and sent < count:
        stream.partly_sent = sent
        raise EOFError(f"the file ended after {sent} of {count} bytes")
    return sent


def _send_opened(stream: Stream, file: Any, offset: int, count: int | None) -> int:
    fd, size = _descriptor(file)
    most = count
    if size is not None:
        there = max(size - offset, 0)
        most = there if count is None else min(count, there)
    send = _send_directly if fd >= 0 and isinstance(stream, SocketStream) else _send_copies
    sent = 0
    stream.partly_sent = 0
    with stream.hold_sending():
        while most is None or sent < most:
            stream.partly_sent = 0
            try:
                gone = send(stream, file, fd, offset + sent, CHUNK if most is None else min(CHUNK, most - sent))
            except BaseException:
                stream.partly_sent += sent
                raise
            if not gone:
                break
            sent += gone
    return sent


def _descriptor(file: Any) -> tuple[int, int | None]:
    """That of a file on a disk, and its size; -1 and None for anything else."""
    try:
        fd = file.fileno()
    except (OSError, AttributeError):  # made of memory
        return -1, None
    status = os.fstat(fd)
    return (fd, status.st_size) if stat.S_ISREG(status.st_mode) else (-1, None)


def _send_directly(stream: Any, _file: Any, fd: int, offset: int, size: int) -> int:
    """Have the system send a chunk, or a part of it; 0 at the end of the file."""
    fiber = here()
    loop = fiber.loop
    if loop.budget <= 0:
        loop.checkpoint(fiber)
    else:
        loop.budget -= 1
    if not _in_memory(fd, offset, size):
        _in_thread(os.pread, fd, size, offset)
    sent: int = stream.send_from(fd, offset, size)
    return sent


def _send_copies(stream: Stream, file: Any, fd: int, offset: int, size: int) -> int:
    data: bytes = _in_thread(os.pread, fd, size, offset) if fd >= 0 else _in_thread(_read_at, file, offset, size)
    stream.send_held(data)
    return len(data)


def _in_memory(fd: int, offset: int, size: int) -> bool:
    """Whether sending that can do without the disk: both ends of it are in the system's cache."""
    flag = getattr(os, "RWF_NOWAIT", None)
    if flag is None:
        return False
    try:
        return all(os.preadv(fd, [bytearray(1)], at, flag) == 1 for at in (offset, offset + size - 1))
    except OSError:  # BlockingIOError: it is not; others: this file system does not tell
        return False


def _open(path: StrPath) -> BinaryIO:
    return open(path, "rb", buffering=0)  # noqa: PTH123  (closed by the caller)


def _read_at(file: Any, offset: int, size: int) -> Any:
    file.seek(offset)
    return file.read(size)


def _in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    return here().loop.runtime.pool.run(fn, args, abandon=False)
