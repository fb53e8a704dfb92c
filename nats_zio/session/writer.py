"""Taking the lines of a queue to a stream: one thread at a time, whoever that is, and nobody waits for it.

Who wants to write takes the right to; who does not get it has nothing to do, since whoever has it looks again when it
has given it back. What is taken from the queue, what of it is still to be written, and how much the system has just
taken are three notes, each changed in a stretch without any call. There no other thread comes in, no signal handler and
no error, so whatever strikes finds a whole state, and the next one goes on from it. This relies on the interpreter's
lock.

A thread that is interrupted, by a signal handler that waits for the loop say, gives the right back before it waits; it
looks whether it has it still at the beginning of each such stretch.
"""

from __future__ import annotations

import os
from time import sleep
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from zio.lowlevel import NOT_NOW, Fiber

from ..errors import DisconnectedError
from .kept import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zio.lowlevel import ThreadHolder
    from zio.net import Stream

PATIENCE = 1.0  # seconds that the loop waits for a thread in the middle of a write; then it goes on without
LOOK = 5e-5  # seconds between two looks meanwhile


class Queue:
    """Lines without their CRLF, in the order in which they were accepted; a message is two of them.

    ``accepted`` counts the payload bytes of the home loop's messages, ``accepted_by_threads`` those of others. Each
    message is counted and appended without a call in between.
    """

    __slots__ = ("accepted", "accepted_by_threads", "limit", "limit_of_threads", "lines")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.accepted = 0
        self.accepted_by_threads = 0
        self.limit = -1
        self.limit_of_threads = -1


class Writer:
    """Writes a queue to a stream.

    ``on_full`` is called when there is no more room, ``on_error(error)`` at its end, ``on_left`` when a thread has
    given the right back in the middle, so that somebody else has to go on.
    """

    __slots__ = (
        "_noted",
        "_on_error",
        "_on_full",
        "_on_left",
        "_pid",
        "_queue",
        "_right",
        "batch",
        "bytes_taken",
        "lines_taken",
        "rest",
        "stream",
    )

    def __init__(
        self,
        queue: Queue,
        on_full: Callable[[], None],
        on_error: Callable[[BaseException], None],
        on_left: Callable[[], None],
    ) -> None:
        self.stream: Stream | None = None
        self.batch: list[bytes] = []  # lines taken from the queue, not wholly written
        self.rest: bytes | memoryview | None = None  # what is left to write of it
        self.lines_taken = 0  # since the beginning
        self.bytes_taken = 0  # of payload
        self._queue = queue
        self._on_full = on_full
        self._on_error = on_error
        self._on_left = on_left
        self._right: dict[int, list[Any]] = {}  # the right of who writes just now, at 0
        self._noted: list[int] = []  # how much of the rest the system has taken, until that is subtracted
        self._pid = os.getpid()

    @property
    def idle(self) -> bool:
        """Whether nothing is taken from the queue that is not wholly written."""
        return self.rest is None

    def write(self, holder: ThreadHolder | None = None) -> None:
        """Write until all is out, the stream is full, or somebody else has the right. From any thread.

        ``holder`` is the calling plain thread; None in the home loop. What an error strikes goes on with the next call.
        Errors of the stream are for ``on_error``.
        """
        fiber = getcurrent()
        if type(fiber) is not Fiber or fiber.waiter is not None:
            self._write(holder)
            return
        try:
            fiber.waiter = NOT_NOW  # a signal handler must not wait here: nobody else would write meanwhile
            self._write(holder)
        finally:
            fiber.waiter = None

    def _write(self, holder: ThreadHolder | None) -> None:
        queue, have = self._queue, self._right
        while self.stream is not None and (queue.lines or self.rest is not None) and self._pid == os.getpid():
            right = [holder]  # empty when it has been given back
            lent = None
            try:
                if holder is not None:  # before it has the right: what interrupts it from here on can give it back
                    lent = _Lent(have, right, self._on_left)
                    holder.lent.append(lent)
                if have.setdefault(0, right) is not right:
                    return
                if not self._write_on(right, self.stream):
                    return
            finally:
                del right[:]
                if 0 in have and have[0] is right:
                    del have[0]
                if holder is not None and lent in holder.lent:
                    holder.lent.remove(lent)

    def _write_on(self, right: list[Any], stream: Stream | None) -> bool:
        """Write until the queue is empty; False if the stream is full or has failed, or the right is gone."""
        queue, noted = self._queue, self._noted
        while stream is not None:
            rest = self.rest
            if noted:
                sent = noted[0]
                left = None if rest is None or sent >= len(rest) else memoryview(rest)[sent:]
                if not right:
                    return False
                self.rest = left  # from here on without a call
                if left is None:
                    self.batch = []
                del noted[:]
                if left is None:
                    continue
                self._on_full()
                return False
            if rest is None:
                batch = queue.lines[:]
                accepted = queue.accepted + queue.accepted_by_threads
                if not batch:
                    return True
                batch.append(b"")  # for the last CRLF
                data = b"\r\n".join(batch)
                batch.pop()
                count = len(batch)
                if not right or self.stream is not stream:
                    return False
                self.batch = batch  # from here on without a call
                self.rest = rest = data
                del queue.lines[:count]  # others may have appended more
                self.lines_taken += count
                self.bytes_taken = accepted
            try:
                failed = stream.send_noted(rest, noted, right)
            except BaseException as exc:
                if noted or stream.lends_sending:
                    raise  # from elsewhere; what went out is known
                self._in_doubt(stream, DisconnectedError(f"writing was interrupted by {type(exc).__name__}"))
                if not isinstance(exc, Exception):
                    raise
                return False  # an odd error of a stream of the user's own: it ends the connection, and nothing else
            if failed is not None:
                if self.stream is stream:
                    self.stream = None
                    self._on_error(failed)
                return False
            if not noted:
                return False
        return False

    def _in_doubt(self, stream: Stream, error: Exception) -> None:
        """How much has gone out nobody knows: so all of it may have, and none of it is sent again."""
        self.forget()
        if self.stream is stream:
            self.stream = None
            self._on_error(error)

    def take_over(self) -> None:
        """For the home loop: make sure that nobody writes any more, once there is no stream.

        A thread in the middle of a write is given a moment to end it; if it does not, because a signal handler keeps
        it, what it has written just now is not known.
        """
        looks = int(PATIENCE / LOOK)
        while (right := self._right.get(0)) and right[0] is not None and looks > 0:
            looks -= 1
            sleep(LOOK)
        right = self._right.pop(0, None)
        if right is not None:
            del right[:]
        noted, rest = self._noted, self.rest
        if noted and rest is not None:
            sent = noted[0]
            self.rest = None if sent >= len(rest) else memoryview(rest)[sent:]
        del noted[:]

    def forget(self) -> None:
        """What was taken, and not written, is seen to."""
        self.batch, self.rest = [], None

    # What of the current batch is not written to its end.

    def unwritten(self) -> Iterator[tuple[bytes, ...]]:
        """The messages of the current batch of which something is left."""
        rest = self.rest
        if rest is None:
            return
        written, end = sum(map(len, self.batch)) + 2 * len(self.batch) - len(rest), 0
        for frame in frames(self.batch):
            end += sum(map(len, frame)) + 2 * len(frame)
            if end > written and len(frame) == 2:
                yield frame

    def begun(self) -> bytes | None:
        """The command line of the message of which a part is written, and a part is left."""
        rest = self.rest
        if rest is None:
            return None
        written, end = sum(map(len, self.batch)) + 2 * len(self.batch) - len(rest), 0
        for frame in frames(self.batch):
            begin, end = end, end + sum(map(len, frame)) + 2 * len(frame)
            if begin < written < end:
                return frame[0] if len(frame) == 2 else None
        return None

    def lines_written(self) -> int:
        """How many lines may be written to their end, since the beginning.

        A thread that writes a whole batch may be overtaken by the answer to it, so that counts as written.
        """
        taken, rest, batch = self.lines_taken, self.rest, self.batch  # without a call: they belong together
        left = len(rest) if isinstance(rest, memoryview) else 0
        for line in reversed(batch):
            if left <= 0:
                break
            left -= len(line) + 2
            taken -= 1
        return taken


class _Lent:
    """The right to write, among what a plain thread gives back before it waits for anything."""

    __slots__ = ("_have", "_on_left", "_right")

    def __init__(self, have: dict[int, list[Any]], right: list[Any], on_left: Callable[[], None]) -> None:
        self._have = have
        self._right = right
        self._on_left = on_left

    def end(self, holder: ThreadHolder) -> None:
        have, right = self._have, self._right
        del right[:]
        if 0 in have and have[0] is right:
            del have[0]
        if self in holder.lent:
            holder.lent.remove(self)
        self._on_left()
