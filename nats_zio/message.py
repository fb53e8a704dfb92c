"""A message, as the user sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import Error
from .protocol import Headers, RawMessage, Status, decode_headers, encode_headers, plain

if TYPE_CHECKING:
    from .core import Core
    from .framing import Data
    from .protocol import HeadersInput


class Message(RawMessage):
    """One message: ``subject`` (str), ``data`` (bytes), ``reply`` (str or None), ``headers`` and ``status``.

    Received from a subscription or as a reply; or made, ``Message("subject", b"data", reply=..., headers=...)``, to be
    published by ``client.publish_msg``, which checks it. Headers are read when first asked for. It can be copied and
    pickled: then it has no client, and ``respond`` says so. Changing ``headers`` of a received message changes nothing
    but that; publish what you have changed as a message of your own.
    """

    __slots__ = ("_headers", "_status")

    owner: Core | None
    _headers: Headers
    _status: Status | None

    def __init__(
        self, subject: str, data: Data = b"", *, reply: str | None = None, headers: HeadersInput | None = None
    ) -> None:
        self.subject = plain(subject)
        self.reply = plain(reply)
        self.data = data  # type: ignore[assignment]  # what is no bytes becomes so when it is published
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
        raw = self.raw_headers
        if raw is None:
            raw = encode_headers(self.headers) or None
        return _restored, (self.subject, self.data, self.reply, raw)

    def __repr__(self) -> str:
        reply = f" reply={self.reply!r}" if self.reply else ""
        return f"<Message {self.subject!r}{reply} {len(self.data)} bytes>"


class ReceivedMessage(Message):
    """What the parser makes: without arguments, and without a function of Python's, which would take 100 ns more."""

    __slots__ = ()

    __init__ = object.__init__


def _restored(subject: str, data: bytes, reply: str | None, raw_headers: bytes | None) -> Message:
    """What was copied or pickled."""
    message: Message = ReceivedMessage()
    message.subject = subject
    message.data = data
    message.reply = reply
    message.raw_headers = raw_headers
    message.owner = None
    return message
