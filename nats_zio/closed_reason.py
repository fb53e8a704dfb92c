"""Why a subscription has ended."""

from __future__ import annotations

from enum import Enum


class ClosedReason(Enum):
    """Why a subscription has ended."""

    UNSUBSCRIBED = "unsubscribed"
    DRAINED = "drained"
    LIMIT_REACHED = "limit reached"
    CLIENT_CLOSED = "the client was closed"
    CONNECTION_LOST = "the connection was lost for good"
    PERMISSION_DENIED = "permission denied"
    SLOW_CONSUMER = "slow consumer"
    SERVER_ERROR = "refused by the server"

    @property
    def wanted(self) -> bool:
        """Whether it is the program that has ended it: then loops end quietly."""
        return self in _WANTED

    def __str__(self) -> str:
        return self.value


_WANTED = (ClosedReason.UNSUBSCRIBED, ClosedReason.DRAINED, ClosedReason.LIMIT_REACHED, ClosedReason.CLIENT_CLOSED)
