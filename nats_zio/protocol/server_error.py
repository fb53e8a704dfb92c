"""What a `-ERR` text means: its kind, whom it is about, and whether the server closes the connection after it.

Invariants: texts are compared without case; a text not known here is of kind UNKNOWN and does not close; `closes`
says what the server announces, only the end of the stream proves it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["ErrorKind", "ServerErrorInfo", "classify"]


class ErrorKind(Enum):
    """Kinds of `-ERR`, by what a client does about them."""

    UNKNOWN = auto()
    UNKNOWN_OPERATION = auto()
    AUTHORIZATION_VIOLATION = auto()
    AUTHENTICATION_TIMEOUT = auto()
    USER_AUTHENTICATION_EXPIRED = auto()
    ACCOUNT_AUTHENTICATION_EXPIRED = auto()
    USER_AUTHENTICATION_REVOKED = auto()
    ACCOUNT_REGISTRATION = auto()
    MAX_CONNECTIONS = auto()
    MAX_ACCOUNT_CONNECTIONS = auto()
    CONNECTION_THROTTLING = auto()
    MAX_PAYLOAD = auto()
    MAX_CONTROL_LINE = auto()
    STALE_CONNECTION = auto()
    TLS_REQUIRED = auto()
    CLIENT_PROTOCOL = auto()
    WRONG_PORT = auto()
    PUBLISH_PERMISSION = auto()
    REPLY_PERMISSION = auto()
    SUBSCRIPTION_PERMISSION = auto()
    TOO_MANY_TOKENS = auto()
    MAX_SUBSCRIPTIONS = auto()
    INVALID_SUBJECT = auto()
    INVALID_PUBLISH_SUBJECT = auto()


@dataclass(frozen=True, slots=True)
class ServerErrorInfo:
    """One classified `-ERR`.

    `subject` is the one the error names (for REPLY_PERMISSION the reply subject), unescaped; `queue` and `sid` are
    set where the text has them.
    """

    kind: ErrorKind
    text: str
    subject: str | None = None
    queue: str | None = None
    sid: int | None = None
    closes: bool = False


# The beginning of the text in lower case, its kind, and whether the server closes the connection.
_TEXTS: tuple[tuple[str, ErrorKind, bool], ...] = (
    ("unknown protocol operation", ErrorKind.UNKNOWN_OPERATION, True),
    ("authorization violation", ErrorKind.AUTHORIZATION_VIOLATION, True),
    ("authentication timeout", ErrorKind.AUTHENTICATION_TIMEOUT, True),
    ("authorization timeout", ErrorKind.AUTHENTICATION_TIMEOUT, True),
    ("user authentication expired", ErrorKind.USER_AUTHENTICATION_EXPIRED, True),
    ("account authentication expired", ErrorKind.ACCOUNT_AUTHENTICATION_EXPIRED, True),
    ("user authentication revoked", ErrorKind.USER_AUTHENTICATION_REVOKED, True),
    ("failed account registration", ErrorKind.ACCOUNT_REGISTRATION, False),
    ("maximum connections exceeded", ErrorKind.MAX_CONNECTIONS, True),
    ("maximum account active connections exceeded", ErrorKind.MAX_ACCOUNT_CONNECTIONS, True),
    ("connection throttling is active", ErrorKind.CONNECTION_THROTTLING, True),
    ("maximum payload violation", ErrorKind.MAX_PAYLOAD, True),
    ("maximum control line exceeded", ErrorKind.MAX_CONTROL_LINE, True),
    ("stale connection", ErrorKind.STALE_CONNECTION, True),
    ("secure connection - tls required", ErrorKind.TLS_REQUIRED, True),
    ("invalid client protocol", ErrorKind.CLIENT_PROTOCOL, True),
    ("no responders requires headers support", ErrorKind.CLIENT_PROTOCOL, True),
    ("attempted to connect to", ErrorKind.WRONG_PORT, True),
    ("maximum subscriptions exceeded", ErrorKind.MAX_SUBSCRIPTIONS, False),
    ("invalid subject", ErrorKind.INVALID_SUBJECT, False),
    ("invalid publish subject", ErrorKind.INVALID_PUBLISH_SUBJECT, False),
)

_QUOTED = r'("(?:[^"\\]|\\.)*"|[^\s",]+)'
_PERMISSION = re.compile(
    rf"permissions violation for (publish with reply of|publish to|subscription to) {_QUOTED}"
    rf'(?: using queue {_QUOTED})?(?: \(sid "?([0-9]{{1,18}})"?\))?(, too many tokens)?.*',
    re.IGNORECASE | re.DOTALL,
)
_PERMISSION_KINDS = {
    "publish to": ErrorKind.PUBLISH_PERMISSION,
    "publish with reply of": ErrorKind.REPLY_PERMISSION,
    "subscription to": ErrorKind.SUBSCRIPTION_PERMISSION,
}

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def classify(text: str) -> ServerErrorInfo:
    """Classify the text of a `-ERR`; quotes and whitespace around it do not matter."""
    text = text.strip().strip("'").strip()
    found = _PERMISSION.fullmatch(text)
    if found is not None:
        kind = ErrorKind.TOO_MANY_TOKENS if found[5] else _PERMISSION_KINDS[found[1].lower()]
        queue = None if found[3] is None else _unquote(found[3])
        return ServerErrorInfo(kind, text, _unquote(found[2]), queue, None if found[4] is None else int(found[4]))
    lowered = text.lower()
    for start, kind, closes in _TEXTS:
        if lowered.startswith(start):
            return ServerErrorInfo(kind, text, closes=closes)
    return ServerErrorInfo(ErrorKind.UNKNOWN, text)


def _unquote(text: str) -> str:
    """Undo Go's %q. Bytes that were not UTF-8 become surrogate escapes, as in the subjects the parser reads."""
    if not text.startswith('"'):
        return text
    return _ESCAPE.sub(_unescape, text[1:-1])


def _unescape(found: re.Match[str]) -> str:
    byte, short, long, letter = found.groups()
    if byte:
        return bytes([int(byte, 16)]).decode("utf-8", "surrogateescape")
    code = short or long
    if code:
        return chr(int(code, 16)) if int(code, 16) <= 0x10FFFF else "\ufffd"
    return _LETTERS.get(letter, letter)
