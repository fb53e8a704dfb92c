"""A received message, as the user sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import Error
from .protocol import Headers, RawMessage, Status, decode_headers

if TYPE_CHECKING:
    from .core import Core

_NO_HEADERS = object()


class Message(RawMessage):
    """One message: ``subject`` (str), ``data`` (bytes), ``reply`` (str or None), ``headers`` and ``status``.

    Headers are read when first asked for.
    """

    __slots__ = ("_headers", "_status")

    owner: Core
    _headers: Headers
    _status: Status | None

    @property
    def headers(self) -> Headers:
        """The headers; empty if there are none."""
        try:
            return self._headers
        except AttributeError:
            self._decode()
            return self._headers

    @property
    def status(self) -> Status | None:
        """Code and description of a status message (503 no responders, say); None for ordinary ones."""
        try:
            return self._status
        except AttributeError:
            self._decode()
            return self._status

    def _decode(self) -> None:
        raw = self.raw_headers
        self._headers, self._status = (Headers(), None) if raw is None else decode_headers(raw)

    def respond(self, data: bytes | bytearray | memoryview | str = b"", *, headers: Any = None) -> None:
        """Publish ``data`` to the reply subject of this message. Error if it has none. Otherwise like ``publish``."""
        reply = self.reply
        if not reply:
            raise Error(f"the message on {self.subject!r} has no reply subject to respond to")
        self.owner.publish_reply(reply, data, headers)

    def __repr__(self) -> str:
        reply = f" reply={self.reply!r}" if self.reply else ""
        return f"<Message {self.subject!r}{reply} {len(self.data)} bytes>"
