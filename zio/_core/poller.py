"""Readiness of file descriptors: epoll, edge-triggered, each registered once; ``selectors`` elsewhere.

A :class:`Pollable` is the state of one fd. ``readable`` and ``writable`` say that an attempt may succeed:
they start true, an edge sets them, and only the owner's own system call clears them (EAGAIN, or a read
that returned less than asked and so has drained the socket). They are kept when a waiter is cancelled, so a
cancelled waiter loses no edge. ``hangup`` is set for good by RDHUP, HUP, ERR and PRI: from then on a short
read proves nothing, since the end of the stream or the urgent mark came with the same edge.

An event that belongs to a closed fd of the same number (a forked child can keep a registration alive) does
no harm: it makes the new owner try once more in vain.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .waiter import WOKEN, Waiter

if TYPE_CHECKING:
    from collections import deque

READ = 1
WRITE = 2


class Pollable:
    """What the poller knows of one fd, for as long as its owner keeps it open."""

    __slots__ = ("awaits_room", "fd", "hangup", "lent_to", "readable", "reader", "writable", "writer")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.readable = True
        self.writable = True
        self.hangup = False
        self.lent_to: int | None = None  # the plain thread that reads here in our stead
        self.awaits_room = True  # registered for writability; no more when it was lent once, until someone waits for it
        self.reader: Waiter | None = None
        self.writer: Waiter | None = None

    def now_readable(self, ready: deque[Any]) -> None:
        self.readable = True
        waiter = self.reader
        if waiter is not None and not waiter.state:
            waiter.state = WOKEN
            ready.append(waiter.fiber)

    def now_writable(self, ready: deque[Any]) -> None:
        self.writable = True
        waiter = self.writer
        if waiter is not None and not waiter.state:
            waiter.state = WOKEN
            ready.append(waiter.fiber)


class Poller(Protocol):
    """``must_arm``: ``arm`` has to be called before each wait (level-triggered back ends). ``can_lend``: see Loan."""

    must_arm: bool
    can_lend: bool

    def add(self, fd: int) -> Pollable: ...
    def arm(self, pollable: Pollable, direction: int) -> None: ...
    def register(self, pollable: Pollable) -> None: ...
    def remove(self, pollable: Pollable) -> None: ...
    def poll(self, timeout: float | None, ready: deque[Any]) -> None: ...
    def suspect_all(self, ready: deque[Any]) -> None: ...
    def wake(self) -> object: ...
    def signal_fd(self) -> int: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


class EpollPoller:
    """Linux."""

    must_arm = False
    can_lend = True

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._table: dict[int, Pollable] = {}
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Edge-triggered: each write is an edge of its own, so the counter need not be read.
        self._epoll.register(self._eventfd, select.EPOLLIN | select.EPOLLET)
        self.wake = partial(os.eventfd_write, self._eventfd, 1)  # no function of Python's: see Inbox.put
        self._signal_pipe: tuple[int, int] | None = None

    def add(self, fd: int) -> Pollable:
        mask = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET
        try:
            self._epoll.register(fd, mask)
        except FileExistsError:  # somebody closed the fd behind our back and the number is used again
            self._epoll.modify(fd, mask)
        pollable = self._table[fd] = Pollable(fd)
        return pollable

    def arm(self, pollable: Pollable, direction: int) -> None:
        """Nothing to do: the registration lasts."""

    def register(self, pollable: Pollable) -> None:
        """Listen for what ``lent_to`` and ``awaits_room`` say; what is true already is told again. From any thread."""
        mask = select.EPOLLET
        if pollable.lent_to is None:
            mask |= select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLPRI
        if pollable.awaits_room:
            mask |= select.EPOLLOUT
        self._epoll.modify(pollable.fd, mask)

    def remove(self, pollable: Pollable) -> None:
        """Forget the fd. To be called before it is closed."""
        if self._table.get(pollable.fd) is pollable:
            del self._table[pollable.fd]
            try:
                self._epoll.unregister(pollable.fd)
            except (FileNotFoundError, OSError):
                return  # closed behind our back: the kernel has forgotten it already

    def poll(self, timeout: float | None, ready: deque[Any]) -> None:
        get = self._table.get
        for fd, events in self._epoll.poll(-1 if timeout is None else timeout, 256):
            pollable = get(fd)
            if pollable is None:  # the eventfd, a signal, or a registration that a child keeps alive
                if self._signal_pipe is not None and fd == self._signal_pipe[0]:
                    os.read(fd, 4096)
                continue
            if events & ~5:  # neither IN (1) nor OUT (4): RDHUP, HUP, ERR or PRI
                pollable.hangup = True
                pollable.now_readable(ready)
                if events & (4 | select.EPOLLHUP | select.EPOLLERR):
                    pollable.now_writable(ready)
                continue
            # now_readable and now_writable, written out: this is every arrival of data there is.
            if events & 1:
                pollable.readable = True
                waiter = pollable.reader
                if waiter is not None and not waiter.state:
                    waiter.state = WOKEN
                    ready.append(waiter.fiber)
            if events & 4:
                pollable.writable = True
                waiter = pollable.writer
                if waiter is not None and not waiter.state:
                    waiter.state = WOKEN
                    ready.append(waiter.fiber)

    def suspect_all(self, ready: deque[Any]) -> None:
        """Something that the system has told may be lost: all look for themselves."""
        for pollable in list(self._table.values()):
            pollable.now_readable(ready)
            pollable.now_writable(ready)

    def signal_fd(self) -> int:
        """What ``signal.set_wakeup_fd`` may write to; not the eventfd, which takes eight bytes at a time."""
        if self._signal_pipe is None:
            self._signal_pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._epoll.register(self._signal_pipe[0], select.EPOLLIN | select.EPOLLET)
        return self._signal_pipe[1]

    def close(self) -> None:
        self._table.clear()
        self._epoll.close()
        os.close(self._eventfd)
        if self._signal_pipe is not None:
            os.close(self._signal_pipe[0])
            os.close(self._signal_pipe[1])

    def abandon(self) -> None:
        """In a forked child: the epoll set is shared with the parent, so it must not be changed, only closed."""
        self.close()


class SelectPoller:
    """Any platform: level-triggered, so interest is declared for each wait and dropped when it fires."""

    must_arm = True
    can_lend = False

    def __init__(self) -> None:
        self._selector: selectors.BaseSelector = getattr(selectors, "PollSelector", selectors.DefaultSelector)()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._interest: dict[int, int] = {}
        self._table: dict[int, Pollable] = {}

    def add(self, fd: int) -> Pollable:
        if self._interest.get(fd):  # somebody closed the fd behind our back and the number is used again
            self._selector.unregister(fd)
        pollable = self._table[fd] = Pollable(fd)
        self._interest[fd] = 0
        return pollable

    def arm(self, pollable: Pollable, direction: int) -> None:
        fd = pollable.fd
        if self._table.get(fd) is pollable:
            self._change(fd, self._interest[fd] | direction)

    def register(self, pollable: Pollable) -> None:
        """Nothing is lent here."""
        raise NotImplementedError

    def _change(self, fd: int, interest: int) -> None:
        before = self._interest[fd]
        if interest == before:
            return
        self._interest[fd] = interest
        if not interest:
            self._selector.unregister(fd)
        elif not before:
            self._selector.register(fd, interest, self._table[fd])
        else:
            self._selector.modify(fd, interest, self._table[fd])

    def remove(self, pollable: Pollable) -> None:
        fd = pollable.fd
        if self._table.get(fd) is pollable:
            self._change(fd, 0)
            del self._table[fd], self._interest[fd]

    def poll(self, timeout: float | None, ready: deque[Any]) -> None:
        for key, events in self._selector.select(timeout):
            pollable = key.data
            if pollable is None:
                while True:
                    try:
                        if len(self._wake_read.recv(4096)) < 4096:
                            break
                    except BlockingIOError:
                        break
                continue
            self._change(pollable.fd, self._interest[pollable.fd] & ~events)
            if events & selectors.EVENT_READ:
                pollable.now_readable(ready)
            if events & selectors.EVENT_WRITE:
                pollable.now_writable(ready)

    def suspect_all(self, ready: deque[Any]) -> None:
        """Nothing is lost: what is true is told again."""

    def wake(self) -> None:
        try:
            self._wake_write.send(b"\0")
        except BlockingIOError:
            return  # full of wake-ups already

    def signal_fd(self) -> int:
        """What ``signal.set_wakeup_fd`` may write to."""
        return self._wake_write.fileno()

    def close(self) -> None:
        self._table.clear()
        self._interest.clear()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def abandon(self) -> None:
        """In a forked child: nothing is shared but the wake-up sockets."""
        self.close()


def make_poller() -> Poller:
    """The poller named by ``ZIO_POLLER`` (``epoll`` or ``select``); by default the best of the platform."""
    choice = os.environ.get("ZIO_POLLER", "")
    if choice not in ("", "epoll", "select"):
        raise ValueError(f"ZIO_POLLER={choice!r}: must be 'epoll' or 'select'")
    have_epoll = hasattr(select, "epoll") and hasattr(os, "eventfd")
    if choice == "epoll" and not have_epoll:
        raise ValueError("ZIO_POLLER='epoll': this platform has none")
    return EpollPoller() if have_epoll and choice != "select" else SelectPoller()
