"""The limits of what a subscription keeps: what fits in, what is dropped, what was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..message import Message
    from .backpressure import Backlog
    from .pending import Pending


def size_of(message: Message) -> int:
    """The size that counts: payload and headers, in bytes."""
    raw = message.raw_headers
    return len(message.data) + (0 if raw is None else len(raw))


class Limits:
    """The limits of one subscription, and its policy beyond them. Belongs to the home loop.

    ``slow`` is true from the moment at which something did not fit until everything fits again.
    """

    __slots__ = ("backlog", "bytes", "dropped", "dropped_bytes", "msgs", "overflow", "slow")

    def __init__(self, msgs: int | None, size: int | None, overflow: str, backlog: Backlog | None) -> None:
        self.msgs = msgs
        self.bytes = size
        self.overflow = overflow
        self.backlog = backlog  # that of "block"
        self.slow = False
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
                self.slow = True
            return self.backlog.size, 0
        dropped, size = self._choose(messages, queue, waiting)
        self.slow = bool(dropped)
        self.dropped += len(dropped)
        self.dropped_bytes += sum(map(size_of, dropped))
        return size, len(dropped)

    def _choose(self, messages: list[Message], queue: Pending, waiting: int) -> tuple[list[Message], int]:
        limit_msgs, limit_bytes, drop_old = self.msgs, self.bytes, self.overflow == "drop_old"
        size = sum(map(size_of, list(queue)))
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
