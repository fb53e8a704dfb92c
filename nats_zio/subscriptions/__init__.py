"""Subscriptions: the table of them, what waits in each of them, who takes it, and what the limits do."""

from .backpressure import ReaderGate
from .held import hold_no_more, in_use
from .snapshot import SubscriptionSnapshot
from .subscribing import SubscriptionTable, Terms
from .subscription import Subscription

__all__ = ["ReaderGate", "Subscription", "SubscriptionSnapshot", "SubscriptionTable", "Terms", "hold_no_more", "in_use"]
