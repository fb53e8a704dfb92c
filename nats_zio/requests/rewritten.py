"""Replies that come under another subject than the one they were asked to come to.

The server rewrites it where the reply is a message of a stream (a pull of one message), and a service import may. Then
nothing in the message says which request it answers; only the subscription that it came by does. So a request that is
known to be answered so has an inbox, and a subscription, of its own: a pull, and whatever was asked of a subject from
which such a reply seems to have come before. The first of those can be told only if it waits alone.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core import Core
    from ..errors import ServerError
    from ..message import Message
    from ..subscriptions.subscribing import Inbox

REMEMBERED = 1024  # subjects

# A pull, by whatever prefix or domain: the token before the stream's and the consumer's name.
_PULL = re.compile(r"\.CONSUMER\.MSG\.NEXT\.")
_NO_RESPONDERS = b"NATS/1.0 503"


class OwnInbox:
    """The inbox of one request to ``asked``. ``entry``: its subscription, once it is made."""

    __slots__ = ("asked", "entry", "over", "subject")

    def __init__(self, subject: str, asked: str) -> None:
        self.subject = subject
        self.asked = asked
        self.entry: Inbox | None = None
        self.over = False


class OwnInboxes:
    """The inboxes of single requests, by their tokens."""

    def __init__(
        self, core: Core, deliver: Callable[[str, Message], None], refused: Callable[[str, ServerError], None]
    ) -> None:
        self._core = core
        self._deliver = deliver
        self._refused = refused
        self._inboxes: dict[str, OwnInbox] = {}
        self._learnt: dict[str, None] = {}

    def wanted(self, subject: object) -> bool:
        """Whether the reply to a request to ``subject`` is expected under another one."""
        return isinstance(subject, str) and (subject in self._learnt or _PULL.search(subject) is not None)

    def learn(self, subject: str) -> None:
        """A reply to a request to this subject has come, or seems to have come, under another one."""
        if len(self._learnt) >= REMEMBERED:
            self._learnt.clear()
        self._learnt[subject] = None

    def reserve(self, token: str, asked: str) -> str:
        """The subject of one, which ``open`` will subscribe. From any thread."""
        subject = self._core.new_inbox()
        self._inboxes[token] = OwnInbox(subject, asked)
        return subject

    def open(self, token: str) -> None:
        """Subscribe it, unless it is forgotten already. At home."""
        inbox = self._inboxes.get(token)
        if inbox is not None:
            table = self._core.table
            came, refused = partial(self._came, token, inbox), partial(self._end, token)
            inbox.entry = table.add_inbox(inbox.subject, came, refused)
            if inbox.over:  # by now: either `forget` has seen the entry, or this sees that
                table.unsubscribe(inbox.entry)

    def subject(self, token: str) -> str | None:
        inbox = self._inboxes.get(token)
        return None if inbox is None else inbox.subject

    def __contains__(self, token: str) -> bool:
        return token in self._inboxes

    def _came(self, token: str, inbox: OwnInbox, messages: list[Message], _bound: int) -> None:
        for message in messages:
            if message.subject == inbox.subject and not (message.raw_headers or b"").startswith(_NO_RESPONDERS):
                self._learnt.pop(inbox.asked, None)  # it was another's reply
            self._deliver(token, message)

    def _end(self, token: str, error: ServerError) -> None:
        self._inboxes.pop(token, None)
        self._refused(token, error)

    def forget(self, token: str) -> None:
        """Nothing more is wanted. From any thread, a finalizer too."""
        inbox = self._inboxes.pop(token, None)
        if inbox is not None:
            inbox.over = True
            if inbox.entry is not None:
                self._core.loop.urgent(partial(self._core.table.unsubscribe, inbox.entry))
