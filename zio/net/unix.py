"""Unix sockets: streams and listeners on a path of the file system."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .._core import Waiter
from .sockets import Listener, SocketStream, tcp_stream

if TYPE_CHECKING:
    from .._core import Fiber, Loop

FIRST_PAUSE = 0.001  # seconds before a listener whose queue is full is tried again; doubled each time
LONGEST_PAUSE = 0.05


class UnixListener(Listener):
    """A listening unix socket. Its file goes when it is closed."""

    def __init__(self, sock: socket.socket, loop: Loop, path: str) -> None:
        self._path = path
        self._file = _identity(path)
        super().__init__(sock, loop)

    @property
    def path(self) -> str:
        """Where it listens."""
        return self._path

    @property
    def port(self) -> NoReturn:
        raise AttributeError("a unix listener has a path and no port")

    def close(self) -> None:
        """Stop listening and remove the file; who waits in ``accept`` gets zio.Closed. Never blocks; idempotent."""
        polled = self._polled
        # In a forked child the file is the parent's; and another listener may have taken its place.
        ours = not polled.closed and not polled.loop.forked and _identity(self._path) == self._file
        super().close()
        if ours and self._file is not None:
            Path(self._path).unlink(missing_ok=True)


def listen_unix_socket(path: str, loop: Loop, backlog: int) -> UnixListener:
    """Bind and listen. OSError, with the file left alone, if something is there already."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        try:
            sock.bind(path)
        except OSError as exc:
            raise _explained(exc, "listening at", path) from None
        try:
            sock.listen(backlog)
            return UnixListener(sock, loop, path)
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise
    except BaseException:
        sock.close()
        raise


def connect_unix_socket(fiber: Fiber, path: str) -> SocketStream:
    """Connect, waiting while the listener's queue is full; the socket is closed again if that fails or is cancelled."""
    loop = fiber.loop
    pause = FIRST_PAUSE
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(False)
            sock.connect(path)
        except BlockingIOError:  # the queue is full, and no event will tell when it has room
            sock.close()
        except OSError as exc:
            sock.close()
            raise _explained(exc, "connecting to", path) from None
        except BaseException:
            sock.close()
            raise
        else:
            return tcp_stream(sock, loop)
        loop.wait(Waiter(fiber, f"room in the queue of {path}", sleeping=True), pause, _nothing)
        pause = min(pause * 2, LONGEST_PAUSE)


def unix_path(path: str | os.PathLike[str]) -> str:
    """The path as text. TypeError or ValueError if it is none."""
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is no path")
    return text


def _explained(exc: OSError, what: str, path: str) -> OSError:
    if exc.errno is None:  # the path is too long: the module's own words
        return OSError(errno.ENAMETOOLONG, f"{exc}: {what} {path}")
    return OSError(exc.errno, f"{os.strerror(exc.errno)}: {what} {path}")


def _identity(path: str) -> tuple[int, int] | None:
    """Which file that is, None if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _nothing(_waiter: Waiter) -> None:
    """Whoever waited forgets the waiter."""
