"""The subscriptions of a client: made, kept in a table that is replayed on each new connection, and refused.

The table is the truth: SUB and UNSUB are sent when it changes, and dropped while there is no connection.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from copy import copy
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from zio.lowlevel import here

from ..closed_reason import ClosedReason
from ..errors import DisconnectedError, OptionError, PermissionDeniedError, TimeoutError
from ..options import check_limit, check_overflow
from ..protocol import encoder, plain
from ..user_functions import check_plain
from .attribution import Unconfirmed
from .held import Held
from .subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ..core import Core
    from ..errors import ServerError
    from ..message import Message
    from ..protocol import ServerErrorInfo

_REFUSED = (ClosedReason.PERMISSION_DENIED, ClosedReason.SERVER_ERROR)


@dataclass(slots=True, kw_only=True)
class Terms:
    """What a subscription was asked to be. OptionError for what it cannot be."""

    cb: Callable[[Message], object] | None
    workers: int
    key: Callable[[Message], Hashable] | None
    max_msgs: int | None
    pending_msgs: int | None
    pending_bytes: int | None
    overflow: str
    context: Context = field(default_factory=copy_context, repr=False)  # of who subscribes; each call has a copy

    def __post_init__(self) -> None:
        if self.cb is not None and not callable(self.cb):
            raise OptionError(f"cb={self.cb!r}: must be callable")
        check_plain("cb", self.cb)
        check_limit("workers", self.workers, none_allowed=False)
        if self.workers > 1 and self.cb is None:
            raise OptionError(f"workers={self.workers} without cb: they call the handler")
        if self.key is not None:
            if not callable(self.key):
                raise OptionError(f"key={self.key!r}: must be callable")
            check_plain("key", self.key)
            if self.cb is None:
                raise OptionError("key without cb: it chooses the worker that calls the handler")
        check_limit("max_msgs", self.max_msgs)
        check_limit("pending_msgs", self.pending_msgs)
        check_limit("pending_bytes", self.pending_bytes)
        self.overflow = plain(self.overflow)
        check_overflow(self.overflow)


class Inbox:
    """An entry in the table whose batches go straight to a function: no queue, no limits.

    ``refused`` is called with the error if the server does not take it.
    """

    queue = None
    remaining = None
    heard_of = False

    def __init__(
        self,
        subject: str,
        sid: int,
        deliver: Callable[[list[Message], int], None],
        refused: Callable[[ServerError], None],
    ) -> None:
        self.subject = subject
        self.sid = sid
        self.deliver = deliver
        self.refused = refused


Entry = Subscription | Inbox | Held


class SubscriptionTable:
    """The subscriptions of one client. All of it runs in the client's home loop."""

    def __init__(self, core: Core) -> None:
        self.entries: dict[int, Entry] = {}
        self.unconfirmed = Unconfirmed()
        self._core = core
        self._sids = count(1)
        self.on_less: Callable[[], object] | None = None  # is told when a subscription has ended

    def living(self) -> list[Subscription]:
        """Those of the user's."""
        found = [entry.known() if isinstance(entry, Held) else entry for entry in self.entries.values()]
        return [sub for sub in found if isinstance(sub, Subscription)]

    def make(self, made: list[Subscription], subject: str, queue: str | None, terms: Terms) -> Subscription:
        """A new subscription. Never blocks. ConnectionClosedError, DrainingError.

        It is put into ``made`` first: whoever does not get it as a result has to end it.
        """
        self._core.check_subscribable()
        sub = Subscription(self._core, subject, queue, next(self._sids), terms)
        made.append(sub)
        self._add(sub)
        if terms.max_msgs is not None:
            self._core.outbound.control(encoder.unsub(sub.sid, terms.max_msgs))
        return sub

    def make_confirmed(
        self, made: list[Subscription], subject: str, queue: str | None, terms: Terms, timeout: float | None
    ) -> Subscription:
        """Like ``make``; returns when the server has accepted it. What it raised otherwise, or TimeoutError."""
        clock = here().loop.clock
        deadline = None if timeout is None else clock.now() + timeout
        here().loop.checkpoint(here())
        sub = self.make(made, subject, queue, terms)
        while True:
            try:
                self._core.flush_here(None if deadline is None else max(deadline - clock.now(), 0))
            except DisconnectedError:
                continue  # it is sent again on the next connection
            except TimeoutError:
                raise TimeoutError(f"the server has not confirmed {sub!r} within {timeout} s") from None
            if sub.closed_reason in _REFUSED:
                raise sub.error
            return sub

    def add_inbox(
        self, subject: str, deliver: Callable[[list[Message], int], None], refused: Callable[[ServerError], None]
    ) -> Inbox:
        """Subscribe an inbox of the client's own: batches go to ``deliver``."""
        inbox = Inbox(subject, next(self._sids), deliver, refused)
        self._add(inbox)
        return inbox

    def _add(self, sub: Entry) -> None:
        core = self._core
        self.entries[sub.sid] = sub
        core.outbound.control(encoder.sub(sub.subject, sub.queue, sub.sid))
        if core.is_connected and self.unconfirmed.sent(sub):
            core.ping()

    def replay(self, entries: list[Entry]) -> list[bytes]:
        """The SUBs of these subscriptions, all of them in general, for a new connection."""
        frames = self._subs_of(entries)
        self.unconfirmed.sent_anew(entries)
        return frames

    def send_again(self, entries: list[Entry]) -> None:
        """Some more of them, on the same connection."""
        for frame in self._subs_of(entries):
            self._core.outbound.control(frame)
        for sub in entries:
            self.unconfirmed.sent(sub)

    def give_up(self, sid: int, error: ServerError) -> Subscription | None:
        """The server ends each connection because of it."""
        entry = self.entries.pop(sid, None)
        sub = entry.known() if isinstance(entry, Held) else entry
        if isinstance(sub, Subscription):
            sub.close(ClosedReason.SERVER_ERROR, error)
            return sub
        if isinstance(sub, Inbox):
            sub.refused(copy(error))
        return None

    def _subs_of(self, entries: list[Entry]) -> list[bytes]:
        frames = []
        for sub in entries:
            frames.append(encoder.sub(sub.subject, sub.queue, sub.sid))
            own = sub.known() if isinstance(sub, Held) else sub
            if isinstance(own, Subscription):
                own.count_anew()
            if sub.remaining is not None:
                frames.append(encoder.unsub(sub.sid, sub.remaining))
        return frames

    def unsubscribe(self, sub: Entry) -> None:
        """End it on the server."""
        if self.entries.pop(sub.sid, None) is not None:
            self._core.outbound.control(encoder.unsub(sub.sid))
            if self.on_less is not None:
                self.on_less()

    def limit(self, sub: Subscription, after: int) -> None:
        """Have the server end it after so many messages, counted on this connection."""
        self._core.outbound.control(encoder.unsub(sub.sid, after))

    def forget(self, sub: Subscription) -> None:
        """It has ended on the server, and is not to be replayed."""
        self.entries.pop(sub.sid, None)
        if self.on_less is not None:
            self.on_less()

    def refused(self, info: ServerErrorInfo, error: ServerError, before: int | None) -> Subscription | None:
        """The server has refused a subscription: end it. ``before``: the mark of the first PING not answered.

        Not every error says which one it is about. Should it be another one, its messages would come on and on with
        nobody to take them; so it is unsubscribed as well, which a server that has refused it does not mind.
        """
        sub = self.unconfirmed.refused(info, before, self.entries.values())
        if sub is None:
            return None
        self.unsubscribe(sub)
        if isinstance(sub, Held):
            sub = sub.known()
            if sub is None:
                return None
        if isinstance(sub, Subscription):
            denied = isinstance(error, PermissionDeniedError)
            sub.close(ClosedReason.PERMISSION_DENIED if denied else ClosedReason.SERVER_ERROR, error)
            return sub
        sub.refused(copy(error))
        return None
