"""Messages of the user made into frames: everything checked, and checked subjects remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import HeadersNotSupportedError
from .protocol import check_control_line, check_publish_subject, encode_headers, encoder, plain, plain_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .protocol import HeadersInput

Data = bytes | bytearray | memoryview | str

REMEMBERED = 4096  # checked subjects


class Framer:
    """Makes the two lines of messages: PUB or HPUB, and the payload with its headers.

    ``prefixes`` has, for each subject checked before, the beginning of its PUB lines: hot paths look there
    first and add the size themselves.
    """

    def __init__(
        self, headers_supported: Callable[[], bool], check_subject: Callable[[str], None] = check_publish_subject
    ) -> None:
        self.prefixes: dict[str, bytes] = {}
        self._headers_supported = headers_supported
        self._check_subject = check_subject

    def frame(self, subject: str, data: Data, reply: str | None, headers: HeadersInput | None) -> tuple[bytes, bytes]:
        """The lines of a message."""
        data = payload(data)
        subject = plain(subject)
        prefix = self.prefix(subject)
        if reply is None and not headers:
            return b"%b%d" % (prefix, len(data)), data
        if reply is not None:
            reply = plain(reply)
            self._check_subject(reply)
            check_control_line(subject, reply)
        return encoder.pub(subject, reply, data, self._raw_headers(headers))

    def request_frame(
        self, subject: str, data: Data, inbox: bytes, token: str, headers: HeadersInput | None
    ) -> tuple[bytes, bytes]:
        """Like ``frame``, with a reply subject of our own making, ``inbox`` and ``token``, which needs no check."""
        if headers:
            return self.frame(subject, data, inbox.decode() + token, headers)
        prefix = self.prefix(subject)
        data = payload(data)
        return b"%b%b%b %d" % (prefix, inbox, token.encode(), len(data)), data

    def answer_frame(self, reply: str, data: Data, headers: HeadersInput | None) -> tuple[bytes, bytes]:
        """Like ``frame``, to a subject that came from the server: it needs no check, and need not even be UTF-8."""
        return encoder.pub(reply, None, payload(data), self._raw_headers(headers))

    def _raw_headers(self, headers: HeadersInput | None) -> bytes | None:
        if not headers:
            return None
        raw = encode_headers(headers)
        if not self._headers_supported():
            raise HeadersNotSupportedError("the server does not support headers")
        return raw

    def prefix(self, subject: str) -> bytes:
        """The beginning of a PUB line to ``subject``; BadSubjectError."""
        if type(subject) is not str:
            subject = plain(subject)
        prefix = self.prefixes.get(subject) if type(subject) is str else None
        if prefix is None:
            self._check_subject(subject)
            prefix = encoder.pub_prefix(subject)
            if len(self.prefixes) >= REMEMBERED:
                self.prefixes.clear()
            self.prefixes[subject] = prefix
        return prefix


def payload(data: Any) -> bytes:
    """The bytes to send. A copy where the caller could change them before they go out."""
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        return str.encode(data)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return plain_bytes(data)
    raise TypeError(f"data must be bytes, bytearray, memoryview or str, not {type(data).__name__}")
