"""Unix sockets: on a path of the file system, or under an abstract name, which begins with a NUL and needs no file."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .._core import Sleeper
from .datagrams import SystemDatagramSocket
from .sockets import SocketStream
from .tcp import Listener, tcp_stream

if TYPE_CHECKING:
    from .._core import Fiber, Loop, Waiter
    from .polled import PolledSocket

FIRST_PAUSE = 0.001  # seconds before a listener whose queue is full is tried again; doubled each time
LONGEST_PAUSE = 0.05


class UnixListener(Listener):
    """A listening unix socket. Its file goes when it is closed."""

    def __init__(self, sock: socket.socket, loop: Loop, path: str) -> None:
        self._path = path
        self._file = _File(path)
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
        ours = self._file.is_ours(self._polled)
        super().close()
        if ours:
            self._file.remove()


class UnixDatagramSocket(SystemDatagramSocket):
    """A unix socket for datagrams. Its file goes when it is closed."""

    def __init__(self, sock: socket.socket, loop: Loop, path: str | None) -> None:
        self._file = None if path is None else _File(path)
        super().__init__(sock, loop)

    def close(self) -> None:
        ours = self._file is not None and self._file.is_ours(self._polled)
        super().close()
        if self._file is not None and ours:
            self._file.remove()

    @property
    def port(self) -> NoReturn:
        raise AttributeError("a unix socket has an address and no port")

    def _wait_for_room(self, fiber: Fiber, target: Any, pause: float) -> float:
        if target is None:
            return super()._wait_for_room(fiber, target, pause)
        # It is the queue of the other that is full, of which no event tells.
        return _pause(fiber, target, pause or FIRST_PAUSE)

    def _target(self, fiber: Fiber, address: Any) -> Any:
        return unix_path(address)

    def _plain(self, address: Any) -> Any:
        return os.fsdecode(address) if address else None


class _File:
    """The file of a socket, which goes with it. An abstract name has none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = None if is_abstract(path) else _identity(path)

    def is_ours(self, polled: PolledSocket) -> bool:
        """Whether it is ours to remove: in a forked child it is the parent's; another may have taken its place."""
        if polled.closed or polled.loop.forked or self._identity is None:
            return False
        return _identity(self._path) == self._identity

    def remove(self) -> None:
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
            if not is_abstract(path):
                Path(path).unlink(missing_ok=True)
            raise
    except BaseException:
        sock.close()
        raise


def unix_datagram_socket(path: str | None, remote: str | None, loop: Loop) -> UnixDatagramSocket:
    """Bind and connect, as far as there are addresses. OSError, with the file left alone, if something is there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        if path is not None:
            try:
                sock.bind(path)
            except OSError as exc:
                raise _explained(exc, "binding to", path) from None
        try:
            if remote is not None:
                try:
                    sock.connect(remote)
                except OSError as exc:
                    raise _explained(exc, "connecting to", remote) from None
            return UnixDatagramSocket(sock, loop, path)
        except BaseException:
            if path is not None and not is_abstract(path):
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
        pause = _pause(fiber, path, pause)


def unix_path(path: str | os.PathLike[str]) -> str:
    """The path as text. TypeError or ValueError if it is none; on Linux it may be an abstract name."""
    text = os.fsdecode(path)
    if is_abstract(text) and len(text) > 1 and sys.platform == "linux":
        return text
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is no path")
    return text


def is_abstract(path: str) -> bool:
    """Whether this is a name that is no file."""
    return path.startswith("\0")


def _pause(fiber: Fiber, path: str, seconds: float) -> float:
    """Wait a while for room in the queue of the other side; how long to wait the next time."""
    fiber.loop.wait(Sleeper(fiber, f"room in the queue of {_shown(path)}"), seconds, _nothing)
    return min(seconds * 2, LONGEST_PAUSE)


def _shown(path: str) -> str:
    """An abstract name as other tools show it."""
    return "@" + path[1:] if is_abstract(path) else path


def _explained(exc: OSError, what: str, path: str) -> OSError:
    path = _shown(path)
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
