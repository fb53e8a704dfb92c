"""What is kept for the next connection: how much that may be, and what of it nobody wants any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ReconnectBufferFullError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kept:
    """The lines of the outbound queue while it waits for a connection; they are the queue's own list.

    Threads may append at any time. So lines are counted up to where they were, and taken out of the beginning only.
    """

    def __init__(self, lines: list[bytes], limit: int) -> None:
        self._lines = lines
        self._limit = limit
        self._measured = 0  # how many of the lines were measured, and their bytes
        self._bytes = 0
        self._withdrawn: dict[int, bytes] = {}  # command lines of messages not to be sent any more, by identity

    def check(self, size: int) -> None:
        """ReconnectBufferFullError unless there is room. Whole frames count, or empty messages would fill the memory.

        Indexing, unlike a loop, does not mind that the other side appends meanwhile.
        """
        lines, measured, total = self._lines, self._measured, self._bytes
        for index in range(measured, len(lines)):
            total += len(lines[index]) + 2
            measured += 1
        self._measured, self._bytes = measured, total  # together: another thread may measure the same lines
        if total + size > self._limit or not self._limit:
            raise ReconnectBufferFullError(
                f"not connected, and a message of {size} bytes does not fit beside the {total} of "
                f"{self._limit} bytes buffered for the reconnect"
            )

    def measure(self) -> None:
        """Anew, since lines were taken out."""
        lines = self._lines
        self._measured, self._bytes = len(lines), sum(map(len, lines)) + 2 * len(lines)

    def forget(self) -> None:
        """There is a connection: nothing is kept any more."""
        self._measured = self._bytes = 0

    def withdraw(self, line: bytes) -> bool:
        """The message with this command line is not wanted any more. True if somebody is to drop what is not.

        From any thread, a finalizer too.
        """
        first = not self._withdrawn
        self._withdrawn[id(line)] = line
        return first

    def drop_withdrawn(self) -> int:
        """Take it out, as if it had never been accepted; how many payload bytes that was."""
        withdrawn, self._withdrawn = self._withdrawn, {}
        if not withdrawn:
            return 0
        old = self._lines[:]
        count = len(old)
        left = [line for frame in frames(old) if id(frame[0]) not in withdrawn for line in frame]
        self._lines[:count] = left
        return payload_bytes(old) - payload_bytes(left)


def frames(lines: list[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Lines grouped into whole frames: two for a message, one for anything else."""
    each = iter(lines)
    for line in each:
        yield (line, next(each)) if line.startswith((b"PUB ", b"HPUB ")) else (line,)


def payload_bytes(lines: list[bytes]) -> int:
    """Of lines that are messages only."""
    return sum(map(len, lines[1::2]))
