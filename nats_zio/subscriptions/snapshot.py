"""What is left of a subscription when it is copied or pickled, by itself or in an event, a report, an error."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ..closed_reason import ClosedReason

if TYPE_CHECKING:
    from .subscription import Subscription


@dataclass(frozen=True, slots=True)
class SubscriptionSnapshot:
    """A subscription as it was when it was copied or pickled: its names and counts, by the same attributes.

    Messages, handler and client are not in it. Those of one client are equal if they are of one subscription at a time
    at which it was the same.
    """

    subject: str
    queue: str | None
    sid: int
    closed_reason: ClosedReason | None
    pending_msgs: int
    pending_bytes: int
    delivered: int
    dropped: int
    dropped_bytes: int

    @property
    def closed(self) -> bool:
        """Whether it had ended."""
        return self.closed_reason is not None


_NAMES = tuple(item.name for item in fields(SubscriptionSnapshot))


def snapshot_values(sub: Subscription) -> tuple[object, ...]:
    """What is kept of ``sub``."""
    return tuple(getattr(sub, name) for name in _NAMES)
