"""Requests over one shared inbox: each has a token, the last part of its reply subject.

The table of tokens is a dict whose single steps are atomic, so a plain thread registers its request itself and
waits on a lock of its own; only the first request of a client needs the home loop, to subscribe the inbox.
"""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from .errors import DisconnectedError, NoRespondersError, PermissionDeniedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .client import Client
    from .message import Message
    from .protocol import ServerErrorInfo

_NO_RESPONDERS = b"NATS/1.0 503"


class Replied(Protocol):
    """What waits for a reply: a waiter of the loop, or a plain thread's."""

    def wake(self, value: Any = None, source: object = None) -> bool: ...
    def fail(self, error: BaseException) -> bool: ...


class ThreadReply:
    """A reply that a plain thread waits for."""

    __slots__ = ("_lock", "error", "settled", "value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.settled = False
        self.value: Any = None
        self.error: BaseException | None = None

    def wake(self, value: Any = None, source: object = None) -> bool:
        self.value = value
        self.settled = True
        self.interrupt()
        return True

    def fail(self, error: BaseException) -> bool:
        self.error = error
        self.settled = True
        self.interrupt()
        return True

    def wait(self, seconds: float) -> bool:
        """Until an outcome or an interruption, at most ``seconds``."""
        return self._lock.acquire(timeout=max(seconds, 0))

    def interrupt(self) -> None:
        """Have ``wait`` return."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it is about to return anyway


class Requests:
    """The pending requests of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self.prefix = b""  # of reply subjects
        self._skip = 0
        self._denied: Callable[[], BaseException] | None = None  # the server refused the inbox
        self._pending: dict[str, tuple[Replied, bytes, str]] = {}
        self._tokens = count(1)

    def open(self) -> None:
        """Subscribe the shared inbox. In the home loop, once."""
        if not self._inbox:
            inbox = self._client.new_inbox()
            self.prefix = inbox.encode() + b"."
            self._skip = len(inbox) + 1
            self._client.subscribe_inbox(f"{inbox}.*", self.deliver)
            self._inbox = inbox
            self._denied = None

    @property
    def opened(self) -> bool:
        return bool(self._inbox)

    def new_token(self) -> str:
        """The token of a new request."""
        return str(next(self._tokens))

    def add(self, token: str, waiter: Replied, frame: bytes, subject: str) -> None:
        """From now on a reply with ``token`` wakes ``waiter``. The frame tells after a disconnect if it was written."""
        self._pending[token] = (waiter, frame, subject)
        if self._denied is not None:  # after the entry was made: a plain thread may be overtaken by the refusal
            self.close(self._denied)

    def forget(self, token: str) -> None:
        """Nobody waits for it any more."""
        self._pending.pop(token, None)

    def deliver(self, messages: list[Message]) -> None:
        """Replies have come."""
        pop, skip = self._pending.pop, self._skip
        for message in messages:
            entry = pop(message.subject[skip:], None)
            if entry is None:
                continue  # late, or a second reply
            raw = message.raw_headers
            if raw is not None and raw.startswith(_NO_RESPONDERS) and not message.data:
                entry[0].fail(NoRespondersError(entry[2]))
            else:
                entry[0].wake(message)

    def disconnected(self, kept: set[int]) -> None:
        """Requests that were written end now; those still in the queue will be sent after the reconnect."""
        for token, (waiter, frame, subject) in self._pending.copy().items():
            if frame and id(frame) not in kept:
                self._pending.pop(token, None)
                waiter.fail(
                    DisconnectedError(f"the connection broke while the request to {subject!r} waited for its reply")
                )

    def denied(self, info: ServerErrorInfo, error: PermissionDeniedError) -> None:
        """The server refused a publish: if a request to that subject (or with that reply) waits, it is that one's."""
        for token, (waiter, _frame, subject) in self._pending.copy().items():
            if info.subject in (subject, f"{self._inbox}.{token}"):
                self._pending.pop(token, None)
                waiter.fail(error)
                return

    def inbox_denied(self, error: PermissionDeniedError) -> None:
        """The server refused the inbox: no request can have a reply. The next one tries again, with a new inbox."""
        self._inbox = ""
        self._denied = lambda: PermissionDeniedError(error.text, error.subject)
        self.close(self._denied)

    def close(self, make_error: Any) -> None:
        """Fail all that wait."""
        for token, (waiter, _frame, _subject) in self._pending.copy().items():
            self._pending.pop(token, None)
            waiter.fail(make_error())

    def __len__(self) -> int:
        return len(self._pending)
