"""What the present server will never take: judged anew against each INFO, and given up one by one.

A kept message that is larger than the server's limit, or has headers where it knows none, would break each connection
in turn, and with it all that stands behind. So would one that has broken it twice before it was written to its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import DisconnectedError, Error, HeadersNotSupportedError, MaxPayloadError
from .kept import frames

if TYPE_CHECKING:
    from ..protocol import ServerInfo

MOST_BREAKS = 2  # connections that broke, with nothing proved on them, while the message was being written


class GivenUp(NamedTuple):
    """A message that will not be sent; its size is in bytes, headers included."""

    subject: str
    size: int
    error: Error


def judge(lines: list[bytes], info: ServerInfo, broken_by: list[bytes]) -> tuple[list[bytes], list[GivenUp]]:
    """What of these lines is to be sent, and what is given up.

    ``broken_by`` has a line once for each connection that broke with it.
    """
    fit: list[bytes] = []
    given_up: list[GivenUp] = []
    for frame in frames(lines):
        error = None if len(frame) == 1 else _why_not(frame[0], len(frame[1]), info, broken_by)
        if error is None:
            fit += frame
        else:
            given_up.append(GivenUp(_subject(frame[0]), len(frame[1]), error))
    return fit, given_up


def _why_not(line: bytes, size: int, info: ServerInfo, broken_by: list[bytes]) -> Error | None:
    if size > info.max_payload:
        return MaxPayloadError(size, info.max_payload)
    if line.startswith(b"HPUB ") and not info.headers:
        return HeadersNotSupportedError("the server does not support headers")
    breaks = sum(line is other for other in broken_by)
    if breaks >= MOST_BREAKS:
        return DisconnectedError(f"the connection broke {breaks} times while the message was being written")
    return None


def _subject(line: bytes) -> str:
    return line.split(b" ", 2)[1].decode("utf-8", "surrogateescape")
