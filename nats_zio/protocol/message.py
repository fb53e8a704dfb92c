"""The message object that the parser fills in.

Invariants: the parser makes it by calling the class without arguments and then sets exactly these five
slots, so that neither this class nor a subclass given to the parser may need arguments; nothing here parses:
`raw_headers` is the undecoded header block.
"""

from __future__ import annotations

__all__ = ["RawMessage"]


class RawMessage:
    """One MSG or HMSG as it came from the server.

    `subject` and `reply` are decoded as UTF-8 with `surrogateescape`, `reply` is None when there is none;
    `data` is the payload without headers; `raw_headers` is the header block including the `NATS/1.0` line,
    None for a MSG; `owner` is the object the parser was made with.
    """

    __slots__ = ("data", "owner", "raw_headers", "reply", "subject")

    subject: str
    reply: str | None
    data: bytes
    raw_headers: bytes | None
    owner: object
