"""The limits of what a subscription keeps, message by message: called when they are near."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .message import Message
    from .pending import Pending


def size_of(message: Message) -> int:
    """The size that counts: payload and headers, in bytes."""
    raw = message.raw_headers
    return len(message.data) + (0 if raw is None else len(raw))


def fit_in(
    messages: list[Message],
    queue: Pending,
    limit_msgs: int | None,
    limit_bytes: int | None,
    waiting: int,
    *,
    drop_old: bool,
) -> tuple[list[Message], int]:
    """Add ``messages`` to ``queue`` as far as the limits allow; those dropped, and the size of what is pending now.

    ``waiting`` consumers wait: each takes a message at once, so that one never counts as pending. With ``drop_old``
    the oldest ones are dropped in favour of the new.
    """
    size = sum(map(size_of, list(queue)))
    dropped: list[Message] = []
    for message in messages:
        more = size_of(message)
        while (limit_msgs is not None and len(queue) - waiting >= limit_msgs) or (
            limit_bytes is not None and size + more > limit_bytes
        ):
            if drop_old:
                try:
                    oldest = queue.popleft()
                except IndexError:
                    dropped.append(message)  # larger than the limit by itself
                    break
                size -= size_of(oldest)
                dropped.append(oldest)
                continue
            dropped.append(message)
            break
        else:
            queue.append(message)
            size += more
    return dropped, size
