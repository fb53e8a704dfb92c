"""A message, as the user sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import Error
from .framing import payload
from .protocol import Headers, RawMessage, Status, checked_text, decode_headers

if TYPE_CHECKING:
    from .core import Core
    from .framing import Data
    from .protocol import HeadersInput


class Message(RawMessage):
    """One message: ``subject`` (str), ``data`` (bytes), ``reply`` (str or None), ``headers`` and ``status``.

    Received from a subscription or as a reply; or made, ``Message("subject", b"data", reply=..., headers=...)``, to be
    published by ``client.publish_msg``, which checks it; ``data`` is then a copy of what was given, as bytes. Headers
    are read when first asked for, and may be changed: that is what ``publish_msg`` and copies have. A message can be
    copied and pickled: then it has no client, and ``respond`` says so.

    BadSubjectError for a subject or reply that is no str, HeaderError, TypeError for data that is none.
    """

    __slots__ = ("_headers", "_status")

    owner: Core | None
    _headers: Headers
    _status: Status | None

    def __init__(
        self, subject: str, data: Data = b"", *, reply: str | None = None, headers: HeadersInput | None = None
    ) -> None:
        self.subject = checked_text("subject", subject)
        self.reply = None if reply is None else checked_text("reply", reply)
        self.data = payload(data)
        self.raw_headers = None
        self.owner = None
        self._headers = Headers(headers)
        self._status = None

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

    def respond(self, data: Data = b"", *, headers: HeadersInput | None = None) -> None:
        """Publish ``data`` to the reply subject of this message. Otherwise like ``publish``.

        Error if it has no reply subject, or no client: one that was made, copied or pickled has none.
        """
        reply = self.reply
        if not reply:
            raise Error(f"the message on {self.subject!r} has no reply subject to respond to")
        owner = self.owner
        if owner is None:
            raise Error(
                f"the message on {self.subject!r} has no client to respond with: it was made, copied or pickled; "
                "publish to its reply subject"
            )
        owner.publish_reply(reply, data, headers)

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            read: tuple[Headers, Status | None] | None = self._headers, self._status
        except AttributeError:  # nobody has looked at them, and so nobody has changed them
            read = None
        return _restored, (self.subject, self.data, self.reply, self.raw_headers, read)

    def __repr__(self) -> str:
        reply = f" reply={self.reply!r}" if self.reply else ""
        return f"<Message {self.subject!r}{reply} {len(self.data)} bytes>"


class ReceivedMessage(Message):
    """What the parser makes: without arguments, and without a function of Python's, which would take 100 ns more."""

    __slots__ = ()

    __init__ = object.__init__


def _restored(
    subject: str,
    data: bytes,
    reply: str | None,
    raw_headers: bytes | None,
    read: tuple[Headers, Status | None] | None,
) -> Message:
    """What was copied or pickled."""
    message: Message = ReceivedMessage()
    message.subject = subject
    message.data = data
    message.reply = reply
    message.raw_headers = raw_headers
    message.owner = None
    if read is not None:
        message._headers, message._status = read[0].copy(), read[1]
    return message
