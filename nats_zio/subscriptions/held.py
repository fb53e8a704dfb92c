"""Who still holds a client that its user has let go of.

A subscription with a handler does: it goes on, as it does elsewhere. So does one that the user has in hand. In the
table of a client that is in use all subscriptions are held anyway; when the :class:`~nats_zio.Client` itself is gone,
those without a handler stand there by proxy, and go with the user's last reference to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from .subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..message import Message
    from .subscribing import SubscriptionTable


class Held:
    """In the table in place of a subscription, for as long as somebody holds that."""

    def __init__(self, sub: Subscription, gone: Callable[[], object]) -> None:
        self.subject = sub.subject
        self.queue = sub.queue
        self.sid = sub.sid
        self.known = ref(sub, lambda _: gone())

    @property
    def remaining(self) -> int | None:
        sub = self.known()
        return None if sub is None else sub.remaining

    @property
    def heard_of(self) -> bool:
        sub = self.known()
        return sub is not None and sub.heard_of

    def deliver(self, messages: list[Message], bound: int) -> None:
        sub = self.known()
        if sub is not None:
            sub.deliver(messages, bound)


def hold_no_more(table: SubscriptionTable, gone: Callable[[], object]) -> None:
    """Have the table hold only what nobody else can; ``gone()`` is called when one of the others is gone.

    From any thread, a finalizer too: each step is a single one.
    """
    for sid, sub in list(table.entries.items()):
        if isinstance(sub, Subscription) and not sub.has_handler:
            held = Held(sub, gone)
            table.entries[sid] = held
            table.unconfirmed.replace(held)
            if sub.closed:  # meanwhile
                table.entries.pop(sid, None)


def in_use(table: SubscriptionTable) -> bool:
    """Whether there is a subscription that somebody may still have messages from."""
    for entry in list(table.entries.values()):
        if isinstance(entry, Subscription) or (isinstance(entry, Held) and entry.known() is not None):
            return True
    return False
