"""Commands in, bytes out.

A message is two lines, made apart and without their CRLF, since a client gathers many and joins them once.

Invariants: what is written is what the server's grammar wants, strictly (single spaces, CRLF); nothing is
validated here: subjects, queues and header blocks must have gone through `subjects` and `headers` before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_KNOWN_SIZE", "PING", "PONG", "SIZES", "connect", "pub", "pub_prefix", "sub", "unsub"]

PING = b"PING\r\n"
PONG = b"PONG\r\n"

MAX_KNOWN_SIZE = 1024
SIZES = [b"%d" % size for size in range(MAX_KNOWN_SIZE + 1)]

# The server takes each of these for true when it is missing.
_CONNECT_DEFAULTS = {"verbose": False, "pedantic": False, "echo": True}


def connect(fields: Mapping[str, Any]) -> bytes:
    """Return CONNECT with `fields` as its JSON; `verbose`, `pedantic` and `echo` are always in it.

    Left out they are false, false and true. Fields whose value is None are left out.
    """
    values = {key: value for key, value in {**_CONNECT_DEFAULTS, **fields}.items() if value is not None}
    for key, default in _CONNECT_DEFAULTS.items():
        values.setdefault(key, default)
    return b"CONNECT %b\r\n" % json.dumps(values, separators=(",", ":")).encode()


def sub(subject: str, queue: str | None, sid: int) -> bytes:
    """Return SUB for `subject`, in the queue group `queue` if there is one."""
    if queue:
        return f"SUB {subject} {queue} {sid}\r\n".encode()
    return f"SUB {subject} {sid}\r\n".encode()


def unsub(sid: int, max_msgs: int | None = None) -> bytes:
    """Return UNSUB: at once, or when `max_msgs` messages have been delivered since the SUB."""
    return b"UNSUB %d\r\n" % sid if max_msgs is None else b"UNSUB %d %d\r\n" % (sid, max_msgs)


def pub_prefix(subject: str) -> bytes:
    """Return `PUB <subject> `, the constant part of the lines of messages without reply and headers.

    Such a line is the prefix and the decimal size of the payload; up to `MAX_KNOWN_SIZE` that is in `SIZES`.
    """
    return b"PUB %b " % subject.encode()


def pub(subject: str, reply: str | None, data: bytes, raw_headers: bytes | None = None) -> tuple[bytes, bytes]:
    """Return the two lines of one message, each to be followed by CRLF: PUB, or HPUB when there is a header block."""
    target = (f"{subject} {reply}" if reply else subject).encode("utf-8", "surrogateescape")  # a reply may be any bytes
    if raw_headers:
        size = len(raw_headers)
        return b"HPUB %b %d %d" % (target, size, size + len(data)), raw_headers + data
    return b"PUB %b %d" % (target, len(data)), data
