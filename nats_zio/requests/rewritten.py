"""Replies that come under another subject than the one they were asked to come to.

The server rewrites it where the reply is a message of a stream (a pull of one message), and a service import may. Then
nothing in the message says which request it answers; only the subscription that it came by does. So a request that is
known to be answered so has an inbox, and a subscription, of its own. Of others it can be told only if one waits alone.
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

# A pull, by whatever prefix or domain: the token before the stream's and the consumer's name.
_PULL = re.compile(r"\.CONSUMER\.MSG\.NEXT\.")


def is_rewritten(subject: str) -> bool:
    """Whether the reply to a request to ``subject`` is known to come under another one."""
    return isinstance(subject, str) and _PULL.search(subject) is not None


class OwnInboxes:
    """The inboxes of single requests, by their tokens."""

    def __init__(
        self, core: Core, deliver: Callable[[str, list[Message]], None], refused: Callable[[str, ServerError], None]
    ) -> None:
        self._core = core
        self._deliver = deliver
        self._refused = refused
        self._entries: dict[str, Inbox] = {}

    def open(self, token: str) -> str:
        """Subscribe one; its subject. At home."""
        subject = self._core.new_inbox()
        came, refused = partial(self._came, token), partial(self._end, token)
        self._entries[token] = self._core.table.add_inbox(subject, came, refused)
        return subject

    def __contains__(self, token: str) -> bool:
        return token in self._entries

    def _came(self, token: str, messages: list[Message], _bound: int) -> None:
        self._deliver(token, messages)

    def _end(self, token: str, error: ServerError) -> None:
        self._entries.pop(token, None)
        self._refused(token, error)

    def forget(self, token: str) -> None:
        """Nothing more is wanted. From any thread, a finalizer too."""
        entry = self._entries.pop(token, None)
        if entry is not None:
            self._core.loop.urgent(partial(self._core.table.unsubscribe, entry))
