"""The limits of what a subscription keeps: what fits in, what is dropped, what was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..message import Message
    from .backpressure import Backlog
    from .pending import Pending


EXACT = 1000  # messages: of fewer the bytes are counted whenever some were taken
RECOUNT = 16  # of more, when one in so many was


def size_of(message: Message) -> int:
    """The size that counts: payload and headers, in bytes."""
    raw = message.raw_headers
    return len(message.data) + (0 if raw is None else len(raw))


class Limits:
    """The limits of one subscription, and its policy beyond them. Belongs to the home loop.

    ``slow`` is true from the moment at which something did not fit until what is pending has fallen to half the limits.
    """

    __slots__ = ("_known", "backlog", "bytes", "dropped", "dropped_bytes", "episodes", "msgs", "overflow", "slow")

    def __init__(self, msgs: int | None, size: int | None, overflow: str, backlog: Backlog | None) -> None:
        self.msgs = msgs
        self.bytes = size
        self.overflow = overflow
        self.backlog = backlog  # that of "block"
        self.slow = False
        self.episodes = 0
        self._known: tuple[int, int] | None = None  # messages and bytes pending after the last count
        self.dropped = 0
        self.dropped_bytes = 0

    def change(self, msgs: int | None, size: int | None) -> None:
        """Other limits from now on."""
        self.msgs, self.bytes = msgs, size
        if self.backlog is not None:
            self.backlog.set_limits(msgs, size)

    def end(self) -> None:
        """The subscription has ended."""
        if self.backlog is not None:
            self.backlog.end()

    def fit_in(self, messages: list[Message], queue: Pending, waiting: int) -> tuple[int, int]:
        """The limits are near: add ``messages`` to ``queue`` one by one, as far as they fit.

        ``waiting`` consumers wait: each takes a message at once, so that one never counts as pending. Returns the size
        of what is pending now, and how many were dropped.
        """
        if self.backlog is not None:
            queue.extend(messages)
            if self.backlog.overflows():
                self._begin()
            return self.backlog.size, 0
        dropped, size = self._choose(messages, queue, waiting)
        self._known = len(queue), size
        if dropped:
            self._begin()
        self.dropped += len(dropped)
        self.dropped_bytes += sum(map(size_of, dropped))
        return size, len(dropped)

    def all_fit(self, msgs: int, size: int) -> None:
        """So many are pending now, all within the limits; ``size`` is at least their bytes."""
        self._known = None
        self._is_over(msgs, size)

    def _begin(self) -> None:
        """An episode, unless one goes on."""
        if not self.slow:
            self.slow = True
            self.episodes += 1

    def _is_over(self, msgs: int, size: int) -> None:
        """End the episode if what is pending has fallen far enough."""
        if (
            self.slow
            and (self.msgs is None or msgs <= self.msgs // 2)
            and (self.bytes is None or size <= self.bytes // 2)
        ):
            self.slow = False

    def _size_of(self, queue: Pending) -> int:
        """The bytes pending. Adding them up is work for the whole queue: so of a long one only now and then.

        In between what was taken still counts; how many messages that is at most, ``RECOUNT`` says.
        """
        count, known = len(queue), self._known
        if known is not None and (taken := known[0] - count) >= 0:
            if not taken:
                return known[1]
            if count > EXACT and taken * RECOUNT < count:
                return known[1]
        return sum(map(size_of, list(queue)))

    def _choose(self, messages: list[Message], queue: Pending, waiting: int) -> tuple[list[Message], int]:
        limit_msgs, limit_bytes, drop_old = self.msgs, self.bytes, self.overflow == "drop_old"
        size = self._size_of(queue)
        self._is_over(len(queue), size)
        dropped: list[Message] = []
        for message in messages:
            more = size_of(message)
            while (limit_msgs is not None and len(queue) - waiting >= limit_msgs) or (
                limit_bytes is not None and size + more > limit_bytes
            ):
                if drop_old and (limit_bytes is None or more <= limit_bytes):  # else it fits in no queue, however empty
                    try:
                        oldest = queue.popleft()
                    except IndexError:  # another thread has taken the rest
                        size = 0
                        continue
                    size -= size_of(oldest)
                    dropped.append(oldest)
                    continue
                dropped.append(message)
                break
            else:
                queue.append(message)
                size += more
        return dropped, size
