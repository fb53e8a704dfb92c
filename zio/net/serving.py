"""Serving: a task for each connection, and what ends them."""

from __future__ import annotations

import errno
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from .._core import Closed, Waiter, check_function, check_seconds, here, log_later, move_on_after, shield
from ..groups import TaskGroup
from ..sync import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .stream import Stream

logger = logging.getLogger("zio")

# The system has no room for another connection; it goes on waiting in the queue.
NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
ROOM_PAUSE = 0.1  # seconds before it is tried again, unless a connection ends before


class Acceptor(ABC):
    """What listens for connections. Iterating accepts; ``with`` closes it."""

    @abstractmethod
    def accept(self) -> Any:
        """Wait for a connection. zio.Closed when the listener gets closed; a cancel takes no connection."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening; who waits in ``accept`` gets zio.Closed. Never blocks; idempotent."""

    def serve(
        self,
        handler: Callable[[Any], object],
        *,
        limit: int | None = None,
        grace: float = 0.0,
        stop_on_error: bool = False,
    ) -> None:
        """Accept connections and call ``handler(stream)`` for each in a task of its own; at its end close the stream.

        ``limit``: at most so many at once, others wait in the listener's queue. Returns when the listener is closed and
        the handlers have ended. Cancelled, before or after that, it closes the listener, gives the handlers ``grace``
        seconds to end, cancels those that have not, and raises.

        An error of a handler is told to the runtime's ``on_unhandled`` (by default it is logged), and the others go on;
        with ``stop_on_error`` it ends the serving, cancels the others and is raised in an ExceptionGroup. When the
        process has no descriptors left that is logged, and connections wait until there are.
        """
        check_function("serve", "handler", handler)
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise ValueError(f"limit={limit!r} must be a whole number, 1 or more, or None")
        check_seconds("grace", grace)
        if grace < 0:
            raise ValueError(f"grace={grace!r} must be a number of seconds, 0 or more")
        _Server(self, handler, limit, grace, stop_on_error).run()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return self.accept()
        except Closed:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Server:
    """One ``serve``. The handlers live in a shielded task, so that a cancel finds the listener first."""

    def __init__(
        self,
        listener: Acceptor,
        handler: Callable[[Any], object],
        limit: int | None,
        grace: float,
        stop_on_error: bool,
    ) -> None:
        self._listener = listener
        self._handler = handler
        self._name = f"serve {getattr(handler, '__name__', handler)}"
        self._limit = limit
        self._grace = grace
        self._stop_on_error = stop_on_error
        self._loop = here().loop
        self._streams: set[Stream] = set()
        self._failed: Sequence[Exception] = ()
        self._waiter: Waiter | None = None  # for the end of a connection
        self._all: TaskGroup
        self._handlers: TaskGroup
        self._housed = Event()
        self._over = Event()
        self._cut_short = True

    def run(self) -> None:
        refused: Exception | None = None
        try:
            with TaskGroup() as self._all:
                self._all.spawn(self._house, name="serve: the handlers")
                try:
                    self._housed.wait()
                    self._accept_all()
                    self._handlers.wait()  # here, where a cancel is felt
                    self._cut_short = False
                except Exception as exc:
                    refused = exc
                finally:
                    self._listener.close()
                    self._over.set()
        finally:
            for stream in self._streams:  # whose handlers were cancelled before they had begun
                stream.close()
        if self._failed:
            raise ExceptionGroup("errors of handlers", self._failed)
        if refused is not None:
            raise refused

    def _house(self) -> None:
        try:
            with shield(), TaskGroup() as self._handlers:
                self._housed.set()
                self._over.wait()
                if self._cut_short:
                    with move_on_after(self._grace):
                        self._handlers.wait()
                    self._handlers.cancel()
        except ExceptionGroup as exc:
            self._failed = exc.exceptions
            self._all.cancel()

    def _accept_all(self) -> None:
        complained = False
        while True:
            while self._limit is not None and len(self._streams) >= self._limit:
                self._wait_for_one(None)
            try:
                stream = self._listener.accept()
            except Closed:
                return
            except OSError as exc:
                if exc.errno not in NO_ROOM:
                    raise
                if not complained:
                    complaint = "%r: connections wait, %d are open: %s"
                    log_later(logger, logging.WARNING, complaint, self._listener, len(self._streams), exc)
                    complained = True
                self._wait_for_one(ROOM_PAUSE)
                continue
            complained = False
            self._streams.add(stream)
            self._handlers.spawn(self._handle, stream, name=self._name)

    def _handle(self, stream: Stream) -> None:
        try:
            self._handler(stream)
        except Exception as exc:
            if self._stop_on_error:
                raise
            task = here().task
            assert task is not None
            self._loop.on_unhandled(task, exc)
        finally:
            stream.close()
            self._streams.discard(stream)
            if self._waiter is not None:
                self._waiter.wake()

    def _wait_for_one(self, seconds: float | None) -> None:
        """Wait until a connection has ended, or so many seconds."""
        fiber = here()
        if fiber.cancelled:
            self._loop.checkpoint(fiber)
        self._waiter = waiter = Waiter(fiber, self)
        try:
            self._loop.wait(waiter, seconds, _nothing)
        finally:
            self._waiter = None

    def __repr__(self) -> str:
        return f"<{self._listener!r}, {len(self._streams)} connections>"


def _nothing(_waiter: Waiter) -> None:
    """Whoever waited forgets the waiter."""
