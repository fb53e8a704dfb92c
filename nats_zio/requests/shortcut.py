"""A plain thread that asks, alone, reads the reply itself.

Else the loop's thread is woken by the reply, wakes the asking thread, and both contend for the interpreter: that costs
half as much again as the whole request in a task. The thread borrows the stream while the session's task waits in
``recv``, looks at what comes without taking it, and takes it only if it is exactly its reply: a plain message with its
token. Everything else it leaves to the session and waits like any other. So nothing is taken that could be lost.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from zio.lowlevel import threads_in_scopes

from ..message import Message

if TYPE_CHECKING:
    from ..core import Core
    from ..latch import ThreadLatch

LOOK = 1.0  # seconds between two looks whether the request has failed meanwhile
PEEK = 8192  # bytes; a larger reply is for the session


def read_reply(core: Core, prefix: bytes, token: str, latch: ThreadLatch, until: float | None) -> Message | None:
    """Wait for the reply to ``prefix`` and ``token``, until it comes, time is up, or something else is to be read.

    Only the reply itself is returned, and was taken; None says nothing.
    """
    connection = core.connection
    if connection is None:
        return None
    stream = connection.stream
    try:
        loan = stream.lend()
        if loan is None:
            return None
        if connection.parser.buffered:
            return None
        while not (loan.over or latch.settled or threads_in_scopes):  # one of which this thread may be by now
            left = LOOK if until is None else min(until - monotonic(), LOOK)
            if left <= 0:
                return None
            if loan.wait(left) and not loan.over:
                message, size = _parse(loan.peek(PEEK), prefix, token)
                if message is not None:
                    if not loan.skip(size):
                        return None
                    message.owner = core
                    connection.parser.messages += 1
                    connection.parser.payload_bytes += len(message.data)
                    core.heard()
                return message
        return None
    finally:
        stream.end_loan()


def _parse(data: bytes, prefix: bytes, token: str) -> tuple[Message | None, int]:
    """The reply that ``data`` begins with, whole and without headers, and the length of its frame."""
    head = b"MSG %b%b " % (prefix, token.encode())
    body = data.find(b"\r\n") + 2
    if not data.startswith(head) or body < 2:
        return None, 0
    sid, _, raw_size = data[len(head) : body - 2].partition(b" ")
    if not sid.isdigit() or not raw_size.isdigit():
        return None, 0
    end = body + int(raw_size)
    if data[end : end + 2] != b"\r\n":
        return None, 0
    message = Message()
    message.subject = (prefix + token.encode()).decode()
    message.reply = None
    message.data = data[body:end]
    message.raw_headers = None
    return message, end + 2
